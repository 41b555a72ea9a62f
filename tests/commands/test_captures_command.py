"""`limpet captures`: lists, fetches, decrypts, exports for limpet-convert, and deletes."""

from __future__ import annotations

import io
import itertools
import json
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from msgspec.structs import replace
from PIL import Image

from limpet import cli
from limpet.captures import form, ring, sealing
from limpet.commands._captures_give import Given
from limpet.commands._captures_remote import Remote
from limpet.commands._captures_taking import LEAST_BYTES, Taking
from limpet.contracts.captures import Truth, WindowForm
from limpet.errors import LimpetError
from limpet.recordings import folder as recordings
from limpet.recordings.occasions import occasions
from limpet_convert import data, project
from support.captured import capture, packed
from support.sshd import sshd

if TYPE_CHECKING:
    from limpet.contracts.captures import Answer, Capture
    from limpet.contracts.data import Array

NOW = datetime(2026, 11, 29, 12, 0, tzinfo=timezone.utc)
LIMPET = str(Path(sys.executable).parent / "limpet")


def values(number: int) -> Array:
    return np.arange(16, dtype=np.float32).reshape(8, 2) + number


def add(
    root: Path,
    number: int,
    truth: Answer = None,
    *,
    unsure: bool = False,
    public: str = "",
    parts: tuple[WindowForm, list[bytes]] | None = None,
    **changes: Any,
) -> Capture:
    """Put a capture into a ring, with a truth if there is one."""
    window, data_ = parts or (
        WindowForm(
            encoding="raw",
            shape=[8, 2],
            dtype="float32",
            parts=[64],
            channels=["ax", "ay"],
            units=["g", "g"],
            rate=10.0,
        ),
        [values(number).tobytes()],
    )
    one = capture(number=number, window=window, **changes)
    body = form.body_of(b'{"label":"idle"}', data_)
    if public:
        key = sealing.PublicKey(public)
        one = replace(one, encrypted_for=key.id)
        body = key.encrypt(body, sealing.bound_to(one.pipeline, one.sample, one.model, one.version, one.window))
    path = ring.path_of(root, one.pipeline, number)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(form.pack(form.header_of(one), body))
    if truth is not None or unsure:
        ring.write_truth(path, Truth(truth=truth, unsure=unsure, by="ann", time=NOW))
    return one


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory with three captures: two with a truth, one without."""
    root = ring.folder(tmp_path / "state")
    add(root, 1, "still")
    add(root, 2, "walking", reasons=["drifted", "unsure"])
    add(root, 3)
    return tmp_path / "state"


def run(*words: object) -> int:
    return cli.main(["captures", *map(str, words)])


def test_the_list_says_why_each_was_kept_and_what_is_true(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list", state) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "motion/2  2026-11-29 00:00:00  idle 50%  drifted, unsure (margin 0.03)  truth: walking"
    assert lines[-1].startswith("3 captures, 0.0 MB")
    assert run("list", state, "--json", "--pipeline", "motion") == 0
    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["truth"] and one["truth"]["truth"] for one in shown] == ["still", "walking", None]


def test_a_damaged_file_is_named_and_the_others_are_listed(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = ring.path_of(ring.folder(state), "motion", 2)
    path.write_bytes(path.read_bytes()[:-5])
    assert run("list", state) == 1
    said = capsys.readouterr()
    assert "0000000002.capture: has" in said.err
    assert said.out.splitlines()[-1].startswith("2 captures")


def test_captures_are_deleted_by_name_or_all(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = ring.folder(state)
    assert run("delete", "motion/1", "motion/9", "--folder", state) == 1
    assert run("delete", "--folder", state) == 1
    assert run("delete", "../../etc/1", "--folder", state) == 1
    assert len(ring.entries(root, "motion")) == 3
    assert run("delete", "motion/1", "--folder", state) == 0
    assert [one.capture.number for one in ring.entries(root, "motion")] == [2, 3]
    assert run("delete", "--all", "--folder", root) == 0
    assert not ring.entries(root, "motion")
    assert "there is no capture motion/9" in capsys.readouterr().err


def test_only_new_captures_are_copied_with_their_truths(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stick = tmp_path / "stick"
    assert run("pull", state, stick) == 0
    assert run("pull", state, stick) == 0
    add(ring.folder(state), 4)
    assert run("pull", state, stick, "--delete") == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in said] == ["3", "0", "1"]
    assert [one.capture.number for one in ring.entries(ring.folder(state), "motion")] == [1, 2, 3]
    found = ring.entries(stick / "press", "motion")
    assert [one.truth and one.truth.truth for one in found] == ["still", "walking", None, None]
    assert run("list", stick) == 0


def test_captures_come_over_ssh_and_go_on_the_device_if_wanted(state: Path, tmp_path: Path) -> None:
    (tmp_path / "device.toml").write_text(f'[device]\nid = "press"\nstate = "{state}"\n')
    (tmp_path / "limpet.sh").write_text(
        f'#!/bin/sh\nset -e\ncase "$2" in give|delete) exec {LIMPET} "$@" --config {tmp_path}/device.toml;; esac\n'
    )
    (tmp_path / "limpet.sh").chmod(0o755)
    (tmp_path / "server").mkdir()
    with sshd(tmp_path / "server") as server:
        url = server.url().partition("?")[0]
        words = ["--limpet", str(tmp_path / "limpet.sh"), "--ssh-config", str(server.config)]
        assert run("pull", url, tmp_path / "here", *words, "--delete") == 0
    assert [one.capture.number for one in ring.entries(tmp_path / "here" / "press", "motion")] == [1, 2, 3]
    assert not ring.entries(ring.folder(state), "motion")


@pytest.mark.parametrize("url", ["ssh://-oProxyCommand=x", "ssh://a b", "ssh://h:x", "ssh://u:p@h", "ssh://h/x"])
def test_a_url_that_is_no_host_is_refused(url: str, tmp_path: Path) -> None:
    assert run("pull", url, tmp_path / "here") == 1


def test_encrypted_captures_are_exported_and_decrypted_with_the_key_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("key", tmp_path / "my.key") == 0
    public = capsys.readouterr().out.split('"')[1]
    assert run("key", tmp_path / "my.key") == 1
    root = tmp_path / "captures"
    add(root, 1, "still", public=public)
    assert run("export", tmp_path / "out", root) == 1
    assert "name the private key with --key" in capsys.readouterr().err
    assert run("decrypt", root, tmp_path / "clear", "--key", tmp_path / "my.key") == 0
    assert run("export", tmp_path / "one", tmp_path / "clear") == 0
    assert run("export", tmp_path / "two", root, "--key", tmp_path / "my.key") == 0
    name = "press-motion-0000000001.csv"
    assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def made(folder: Path, bundle: dict[str, Any] | None = None, **files: Any) -> project.Project:
    (folder / "m.tflite").touch()
    about = {
        "name": "motion", "version": 1, "task": "classify", "labels": ["still", "walking"],
        "channels": ["ax", "ay"], "window": {"size": 8}, "transforms": [],
    }  # fmt: skip
    tables = {
        "model": {"path": "m.tflite"},
        "data": {"calibration": "out", "test": "out"} | files,
        "bundle": about | (bundle or {}),
    }
    return project.build(tables, folder / "convert.toml")


def test_limpet_convert_reads_labelled_captures_as_the_very_windows_of_the_device(
    state: Path, tmp_path: Path
) -> None:
    assert run("export", tmp_path / "out", state) == 0
    assert run("export", tmp_path / "out", state) == 0
    found = data.windows(made(tmp_path), tmp_path / "out")
    assert np.array_equal(found.values, np.stack([values(1), values(2)]))
    assert found.targets is not None
    assert found.targets.tolist() == [0, 1]
    assert run("export", tmp_path / "all", state, "--labels", "none") == 0
    alone = data.windows(made(tmp_path, {"labels": [], "task": "regress"}), tmp_path / "all")
    assert len(alone) == 3


def test_captures_that_overlap_or_follow_each_other_are_of_one_occasion(tmp_path: Path) -> None:
    root = ring.folder(tmp_path / "state")
    for number, seconds in ((1, 0.0), (2, 0.4), (3, 100.0)):
        add(root, number, "still", time=NOW + timedelta(seconds=seconds))
    assert run("export", tmp_path / "out", tmp_path / "state") == 0
    found = recordings.read(tmp_path / "out").recordings
    assert [one.started for one in found] == [NOW + timedelta(seconds=at) for at in (-0.7, -0.3, 99.3)]
    assert data.windows(made(tmp_path, {"labels": ["still"]}), tmp_path / "out").occasions.tolist() == [0, 0, 2]
    add(root, 4, "still", time=NOW + timedelta(seconds=0.2))
    add(root, 5, "still", time=NOW + timedelta(seconds=0.4), device="other")
    assert run("export", tmp_path / "out", tmp_path / "state") == 0
    found = recordings.read(tmp_path / "out").recordings
    assert [one.source for one in found] == ["other/motion", *4 * ["press/motion"]]
    assert occasions(found) == [0, 1, 1, 3, 1]


@pytest.mark.parametrize(
    ("window", "size"), [({"size": 8}, 8), ({"seconds": 0.8, "size": 8}, 8), ({"seconds": 0.8}, 8)]
)
def test_windows_by_count_and_by_time_come_back_as_they_were(
    tmp_path: Path, window: dict[str, Any], size: int
) -> None:
    by_time = "size" not in window
    form_ = WindowForm(
        encoding="raw",
        shape=[8, 2],
        dtype="float32",
        parts=[64],
        channels=["ax", "ay"],
        rate=10.0,
        by_time=by_time,
    )
    add(tmp_path / "captures", 1, "still", parts=(form_, [values(1).tobytes()]))
    assert run("export", tmp_path / "out", tmp_path / "captures") == 0
    found = data.windows(made(tmp_path, {"window": window}), tmp_path / "out")
    assert found.values.shape == (1, size, 2)
    assert np.allclose(found.values[0], values(1))


def test_numbers_become_targets_and_pictures_folders(tmp_path: Path) -> None:
    add(tmp_path / "heat", 1, 20.5)
    add(tmp_path / "heat", 2, 21.0)
    assert run("export", tmp_path / "out", tmp_path / "heat") == 0
    assert np.load(tmp_path / "out" / "targets.npy").tolist() == [20.5, 21.0]
    buffer = io.BytesIO()
    Image.fromarray(np.full((6, 8, 3), 90, np.uint8)).save(buffer, "JPEG")
    picture = WindowForm(encoding="jpeg", shape=[1, 6, 8, 3], dtype="uint8", parts=[len(buffer.getvalue())])
    add(tmp_path / "door", 1, "cat", parts=(picture, [buffer.getvalue()]), pipeline="door")
    add(tmp_path / "door", 2, ["cat", "dog"], parts=(picture, [buffer.getvalue()]), pipeline="door")
    assert run("export", tmp_path / "pictures", tmp_path / "door") == 0
    assert [str(path.relative_to(tmp_path / "pictures")) for path in (tmp_path / "pictures").rglob("*.jpg")] == [
        "cat/press-door-0000000001.jpg"
    ]


def test_an_export_whose_labels_changed_meanwhile_is_not_taken_for_complete(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = io.BytesIO()
    Image.fromarray(np.full((6, 8, 3), 90, np.uint8)).save(image, "JPEG")
    picture = WindowForm(encoding="jpeg", shape=[1, 6, 8, 3], dtype="uint8", parts=[len(image.getvalue())])
    root = ring.folder(state)
    add(root, 1, "cat", parts=(picture, [image.getvalue()]), pipeline="door")
    assert run("export", tmp_path / "out", state) == 0
    assert run("export", tmp_path / "out", state) == 0
    for pipeline, truth in (("motion", Truth(truth="walking", time=NOW)), ("door", Truth(truth="dog", time=NOW))):
        ring.write_truth(ring.path_of(root, pipeline, 1), truth)
    ring.write_truth(ring.path_of(root, "motion", 2), Truth(unsure=True, time=NOW))
    capsys.readouterr()
    assert run("export", tmp_path / "out", state) == 1
    said = "3 left out: exported before with another label; export into a new folder"
    assert said in capsys.readouterr().err.splitlines()
    assert [path.parent.name for path in (tmp_path / "out").rglob("*.jpg")] == ["cat"]
    assert run("export", tmp_path / "new", state) == 0
    assert [path.parent.name for path in (tmp_path / "new").rglob("*.jpg")] == ["dog"]


def test_what_cannot_be_a_label_is_left_out_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "captures"
    add(root, 1, "../up")
    add(root, 2, unsure=True)
    add(root, 3, answer="walking")
    assert run("export", tmp_path / "out", root) == 0
    said = capsys.readouterr()
    assert said.out == f"wrote 0 recordings to {tmp_path / 'out'}\n"
    assert "1 left out: '../up' cannot be a label" in said.err
    assert "1 left out: a person was unsure" in said.err
    assert "1 left out: no person labelled them" in said.err
    assert run("export", tmp_path / "out", root, "--labels", "answer") == 0
    assert "wrote 1 recordings" in capsys.readouterr().out
    add(root, 4, 1.5)
    assert run("export", tmp_path / "new", root, "--labels", "answer") == 1
    assert not (tmp_path / "new").exists()


def test_captures_of_several_devices_are_copied_and_deleted_where_they_are(state: Path, tmp_path: Path) -> None:
    stick, here = tmp_path / "stick", tmp_path / "here"
    assert run("pull", state, stick) == 0
    add(stick / "lathe", 1, device="lathe")
    assert run("pull", stick, here, "--device", "press", "--delete") == 1
    assert [one.capture.number for one in ring.entries(here / "press", "motion")] == [1, 2, 3]
    assert [(there.name, name) for there, name in ring.rings(stick) if ring.entries(there, name)] == [
        ("lathe", "motion")
    ]
    assert run("pull", stick, here, "--delete") == 0
    assert [there.name for there, name in ring.rings(here)] == ["lathe", "press"]
    assert not any(stick.rglob("*.capture"))
    assert run("delete", "--all", "--folder", here) == 0
    assert not any(here.rglob("*.capture"))


def given(number: int, device: str, problem: str = "") -> Given:
    return Given(b"" if problem else packed(capture(number=number, device=device)), problem=problem)


def test_attack_a_host_gives_captures_of_one_device_and_of_no_other_hosts(tmp_path: Path) -> None:
    press = Taking(tmp_path, None, "kitchen.local", 1 << 20)
    press.take(iter([given(1, "press"), given(1, "lathe"), given(2, "press")]))
    assert press.taken.names == [("press", "motion/1"), ("press", "motion/2")]
    assert "of the device 'lathe' is left out" in press.taken.problems[0]
    again = Taking(tmp_path, None, "kitchen.local", 1 << 20)
    assert again.known() == {"press": ["motion/1", "motion/2"]}
    again.take(iter([given(3, "lathe"), given(3, "press")]))
    assert again.taken.names == [("press", "motion/3")]
    intruder = Taking(tmp_path, None, "hall.local", 1 << 20)
    assert intruder.known() == {}
    with pytest.raises(LimpetError, match="add: --device press"):
        intruder.take(iter([given(9, "press")]))
    moved = Taking(tmp_path, "press", "hall.local", 1 << 20)
    moved.take(iter([given(9, "press")]))
    assert Taking(tmp_path, None, "hall.local", 1).known()["press"][-1] == "motion/9"


def test_attack_a_device_that_gives_without_end_is_cut(tmp_path: Path) -> None:
    endless = Taking(tmp_path, None, "kitchen.local", 10 * LEAST_BYTES)
    endless.take(given(number, "press") for number in itertools.count(1))
    assert len(endless.taken.names) == 10
    assert "--most-bytes 40960 ends it here" in endless.taken.problems[0]
    words = Taking(tmp_path, None, "kitchen.local", 1 << 20)
    words.take(given(1, "press", "\x1b[2J" * 10_000) for _ in range(25))
    assert (len(words.taken.problems), words.taken.more_problems) == (20, 5)
    assert {len(problem) for problem in words.taken.problems} == {300}


def test_attack_a_device_that_floods_standard_error_fills_no_disk(tmp_path: Path) -> None:
    flood = tmp_path / "limpet.sh"
    flood.write_text(
        "#!/bin/sh\nhead -c 20000000 /dev/zero | tr '\\0' x >&2\nprintf '\\n\\033[2Jno room\\n' >&2\nexit 1\n"
    )
    flood.chmod(0o755)
    (tmp_path / "server").mkdir()
    with sshd(tmp_path / "server") as server:
        remote = Remote(server.url().partition("?")[0], str(flood), server.config)
        with pytest.raises(LimpetError, match=r": \\x1b\[2Jno room$"):
            list(remote.captures(None, {}))
        with pytest.raises(LimpetError, match="no room"):
            remote.delete(["motion/1"])


def test_attack_one_hostile_capture_costs_no_other_its_export(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, numbers = tmp_path / "captures", np.zeros((1, 2000), np.int8)
    add(root, 1, "still")
    wide = WindowForm(encoding="raw", shape=[1, 2000], dtype="int8", parts=[2000])
    slow = WindowForm(encoding="raw", shape=[8, 2], dtype="float32", parts=[64], rate=1e-300)
    add(root, 2, "still", parts=(slow, [values(2).tobytes()]))
    add(root, 3, "still", parts=(wide, [numbers.tobytes()]))
    early = replace(slow, rate=1e-7)
    add(root, 4, "still", parts=(early, [values(4).tobytes()]), time=datetime(2, 1, 2, tzinfo=timezone.utc))
    add(root, 5, "still")
    for name in ("0000000009.capture", "0000000005.truth.d"):  # a folder in the ring hides no captures
        (root / "motion" / name).mkdir()
    assert run("export", tmp_path / "out", root) == 1
    said = capsys.readouterr()
    assert "motion/2: 8 samples at 1e-300 Hz would last 8e+300 s" in said.err
    assert said.out == f"wrote 4 recordings to {tmp_path / 'out'}\n"
    assert np.array_equal(np.load(tmp_path / "out" / "still" / "press-motion-0000000003.npy"), numbers)
    described = json.loads((tmp_path / "out" / "recordings.json").read_bytes())["recordings"]
    assert [one["file"][-5:] for one in described] == ["1.csv", "4.csv", "5.csv"]


def test_attack_a_capture_in_a_folder_of_devices_hides_none(tmp_path: Path) -> None:
    add(tmp_path / "here" / "press", 1)
    (tmp_path / "here" / "press" / "0000000001.capture").write_bytes(b"x")
    assert [(there.name, name) for there, name in ring.rings(tmp_path / "here")] == [
        ("here", "press"),
        ("press", "motion"),
    ]

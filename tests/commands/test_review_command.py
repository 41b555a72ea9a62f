"""`limpet review`: shows captures, takes answers of a person or a script, and keeps them for the export."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
from PIL import Image

from limpet import cli
from limpet.captures import form, ring
from limpet.contracts.captures import Contents, Truth, WindowForm
from limpet.errors import LimpetError, UnreadableError
from limpet.recordings.folder import read as read_recordings
from limpet.review import answers, display
from limpet.review.session import BACK, END, SKIP, Queue, Said, understood
from support.captured import capture

if TYPE_CHECKING:
    from limpet.contracts.captures import Answer

LIMPET = str(Path(sys.executable).parent / "limpet")
NUMBERS = WindowForm(encoding="raw", shape=[8, 2], dtype="float32", parts=[64], channels=["ax", "ay"], rate=10.0)


def add(root: Path, number: int, answer: Answer = "idle") -> None:
    values = np.arange(16, dtype=np.float32) + number
    one = capture(number=number, window=NUMBERS, answer=answer)
    path = ring.path_of(root, one.pipeline, number)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(form.pack(form.header_of(one), form.body_of(b"{}", [values.tobytes()])))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in (1, 2, 3):
        add(tmp_path / "captures", number, "walking" if number == 3 else "idle")
    return tmp_path / "captures"


def truths(folder: Path) -> list[Answer | str]:
    found = [one.truth for one in ring.entries(folder, "motion")]
    return ["-" if one is None else "unsure" if one.unsure else one.truth for one in found]


def review(*words: object, typed: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [LIMPET, "review", *map(str, words)], input=typed, capture_output=True, text=True, check=False, timeout=60
    )


def test_lines_of_standard_input_label_skip_go_back_and_are_unsure(folder: Path) -> None:
    done = review(folder, "--labels", "running", "--by", "ann", typed="3\n\nb\nu\n=q\n")
    assert done.returncode == 0, done.stderr
    assert truths(folder) == ["walking", "unsure", "q"]
    assert "1/3  press motion/1" in done.stdout
    assert "1 running  2 idle  3 walking  0 nothing" in done.stdout
    assert "8 samples, 0.8 s at 10 Hz" in done.stdout
    assert any("\u2800" < letter <= "\u28ff" for letter in done.stdout)
    assert done.stdout.splitlines()[-1] == f"3 answers kept in {folder}"
    kept = ring.entries(folder, "motion")[0].truth
    assert kept is not None
    assert (kept.by, kept.sent) == ("ann", False)
    again = review(folder, typed="")
    assert again.stdout.splitlines() == [f"0 answers kept in {folder}"]


def test_a_reader_that_goes_away_is_no_problem_of_the_folder(folder: Path) -> None:
    with subprocess.Popen(
        [LIMPET, "review", folder], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as shown:
        assert shown.stdout is not None
        assert shown.stderr is not None
        shown.stdout.close()
        assert shown.stderr.read() == b""
    assert shown.returncode == 141


def test_a_digit_never_becomes_a_label_by_mistake(folder: Path) -> None:
    done = review(folder, typed="3\n0\nu\n=3\n")
    assert done.stdout.count("3 stands for no label here; to type a label, begin with =") == 1
    assert truths(folder) == [None, "unsure", "3"]
    listed = subprocess.run([LIMPET, "captures", "list", str(folder)], capture_output=True, text=True, check=True)
    assert listed.stdout.splitlines()[0].endswith("truth: nothing")


def test_a_digit_that_is_a_label_is_its_own_key(tmp_path: Path) -> None:
    for number, answer in enumerate(["7", "3", "other", "3"], 1):
        add(tmp_path / "captures", number, answer)
    done = review(tmp_path / "captures", "--labels", "5", typed="3\n1\n0\n7\n5\n=0\n")
    assert truths(tmp_path / "captures") == ["3", "7", "5", "0"]
    assert "\n3  5  7  = another label" in done.stdout
    assert "1 stands for no label here" in done.stdout
    assert "0 stands for no label here" in done.stdout


def test_a_script_labels_and_the_export_makes_a_training_set_of_it(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "answers.jsonl"
    script.write_text(
        '{"capture": "motion/1", "truth": "walking"}\n\n{"capture": "motion/2", "unsure": true}\n'
        '{"capture": "motion/3", "truth": "idle", "device": "press"}\n'
    )
    assert cli.main(["review", str(folder), "--answers", str(script)]) == 0
    assert truths(folder) == ["walking", "unsure", "idle"]
    assert cli.main(["captures", "export", str(tmp_path / "set"), str(folder)]) == 0
    found = read_recordings(tmp_path / "set")
    assert [one.spans[0].label for one in found.recordings] == ["walking", "idle"]
    assert "1 left out: a person was unsure" in capsys.readouterr().err


def test_wrong_answers_of_a_script_are_named_and_the_others_are_kept(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add(folder, 4, 2.5)
    lines = [
        {"capture": "motion/9", "truth": "idle"},
        {"capture": "motion/1", "truth": "../idle"},
        {"capture": "motion/2", "truth": 3.0},
        {"capture": "motion/4", "truth": 3.0},
        {"capture": "motion/3", "truth": "idle"},
    ]
    script = tmp_path / "answers.jsonl"
    script.write_text("\n".join(map(json.dumps, lines)))
    assert cli.main(["review", str(folder), "--answers", str(script)]) == 1
    assert truths(folder) == ["-", "-", "idle", "-"]
    said = capsys.readouterr().err
    for part in ("line 1: no motion/9", "line 2: '../idle' is no label", "line 3: the truth 3", "--tolerance"):
        assert part in said
    assert cli.main(["review", str(folder), "--answers", str(script), "--tolerance", "0.5"]) == 1
    kept = ring.entries(folder, "motion")[3].truth
    assert kept is not None
    assert (kept.truth, kept.tolerance) == (3.0, 0.5)


@pytest.mark.parametrize("line", [b"{", b'{"capture": "motion/1"}', b'{"capture": 3, "truth": "a"}', b"\xff"])
def test_a_script_that_cannot_be_read_changes_nothing(folder: Path, tmp_path: Path, line: bytes) -> None:
    script = tmp_path / "answers.jsonl"
    script.write_bytes(b'{"capture": "motion/1", "truth": "idle"}\n' + line)
    with pytest.raises(UnreadableError, match="line 2"):
        list(answers.read(script.read_bytes(), "answers"))
    done = review(folder, "--answers", script)
    assert done.returncode == 1
    assert "answers.jsonl, line 2" in done.stderr
    assert truths(folder) == ["-", "-", "-"]


def test_keys_of_a_terminal_answer_at_once(folder: Path) -> None:
    main, other = pty.openpty()
    with subprocess.Popen([LIMPET, "review", folder], stdin=other, stdout=other, stderr=other) as process:
        os.close(other)
        said = b""
        for wanted, pressed in ((b"1/3", b"2"), (b"2/3", b"=fell\r"), (b"3/3", b"u")):
            while b"q end" not in said.rpartition(wanted)[2] or wanted not in said:
                said += os.read(main, 65536)
            os.write(main, pressed)
        while b"3 answers kept" not in said:
            said += os.read(main, 65536)
        assert process.wait(30) == 0
    os.close(main)
    assert truths(folder) == ["walking", "fell", "unsure"]


def test_a_capture_that_went_meanwhile_is_named_and_gets_no_truth(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ring.path_of(folder, "motion", 2).write_bytes(b"LIMPCAP1 but not whole")
    monkeypatch.setattr("sys.stdin", io.StringIO("1\n1\n"))
    assert cli.main(["review", str(folder)]) == 1
    assert "0000000002.capture" in capsys.readouterr().err
    assert truths(folder) == ["idle", "idle"]


def test_typed_text_becomes_what_the_answer_is() -> None:
    labels = ["idle", "walking"]
    assert understood("2", "idle", labels) == Said("walking")
    assert understood("0", "idle", labels) == Said(None)
    assert understood(" 2.5 ", 3.0, labels) == Said(2.5)
    assert understood("idle, walking", [], labels) == Said(["idle", "walking"])
    assert understood("idle", [], labels) == Said(["idle"])
    assert understood("=s", "idle", labels) == Said("s")
    assert (understood("s", 3.0, labels), understood("b", None, labels)) == (SKIP, BACK)
    for text, answer in (("walks", 3.0), ("nan", 3.0), ("a b", "idle"), (",", "idle")):
        with pytest.raises(LimpetError):
            understood(text, answer, labels)


def test_the_queue_ends_and_goes_back_to_the_first_at_most(folder: Path) -> None:
    queue = Queue(ring.entries(folder, "motion"))
    assert queue.labels == ["idle", "walking"]
    queue.take(BACK)
    assert queue.at == 0
    queue.take(Said("idle"))
    queue.take(SKIP)
    queue.take(BACK)
    assert (queue.at, queue.said) == (1, {0: Said("idle")})
    queue.take(END)
    assert queue.current is None


def test_pictures_are_drawn_and_damaged_ones_are_refused() -> None:
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:, 16:] = 255
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    window = WindowForm(encoding="jpeg", shape=[1, 16, 32, 3], dtype="uint8", parts=[buffer.tell()])
    one = capture(window=window)
    lines = display.window(one, Contents({}, [buffer.getvalue()]), (16, 4), colour=False)
    assert lines == [" " * 8 + "@" * 8] * 4
    coloured = display.window(one, Contents({}, [buffer.getvalue()]), (16, 4), colour=True)
    assert coloured[0].startswith("\x1b[38;2;0;0;0m\x1b[48;2;0;0;0m\u2580")
    with pytest.raises(UnreadableError):
        display.window(one, Contents({}, [buffer.getvalue()[:40]]), (16, 4), colour=False)
    raw = WindowForm(encoding="raw", shape=[1, 4, 4, 1], dtype="float32", parts=[64])
    floats = np.repeat(np.float32([0, 0, 1, 1]), 4).tobytes()
    drawn = display.window(capture(window=raw), Contents({}, [floats]), (8, 4), colour=False)
    assert drawn == ["    ", "@@@@"]


def test_sound_is_a_plot_and_a_wave_file() -> None:
    values = np.sin(np.arange(16000, dtype=np.float32) / 20)
    window = WindowForm(
        encoding="raw", shape=[16000, 1], dtype="float32", parts=[64000], channels=["sound"], rate=16000.0
    )
    one, contents = capture(window=window), Contents({}, [values.tobytes()])
    lines = display.window(one, contents, (60, 12), colour=False)
    assert lines[-1] == "16000 samples, 1 s at 16000 Hz"
    assert (lines[0].split()[0], lines[0].split()[-1]) == ("sound", "1")
    wave = display.wave(one, contents)
    assert wave.startswith(b"RIFF")
    assert wave.endswith(values.tobytes())
    with pytest.raises(UnreadableError):
        display.wave(msgspec.structs.replace(one, window=NUMBERS), Contents({}, [values.tobytes()[:64]]))


def test_values_that_are_no_numbers_and_many_channels_are_drawn() -> None:
    values = np.full((5, 40), np.nan, np.float32)
    values[2] = np.inf
    lines = display.plot(capture(), values, (60, 10))
    assert len(lines) == 12
    assert lines[-2:] == ["... and 35 more channels", "5 samples, 0.1 s at 50 Hz"]
    assert display.plot(capture(), values[:0], (60, 10)) == ["the window is empty"]


def test_a_truth_says_who_said_it_and_when(folder: Path) -> None:
    review(folder, "--by", "bob", typed="1\n")
    kept = ring.entries(folder, "motion")[0].truth
    assert isinstance(kept, Truth)
    assert (kept.truth, kept.by) == ("idle", "bob")
    assert kept.time.tzinfo is not None


ORDER = "\x1b]0;evil\x07\x1b[2J\u202e"
"""Has a terminal change its title, clear itself, and write from right to left."""


@pytest.mark.parametrize(
    ("shape", "dtype", "shown"),
    [
        ([1, 0, 5, 3], "uint8", "the window is empty"),
        ([1 << 24, 0], "float32", "the window is empty"),
        ([0], "float32", "the window is empty"),
        ([2, 2], "float64", "2 samples, no rate"),
        ([1, 2, 2, 1], "float32", " "),
        ([1] * 8, "bool", "1 samples, no rate"),
    ],
)
def test_attack_any_window_is_shown_or_refused_and_none_gives_orders_to_the_terminal(
    shape: list[int], dtype: str, shown: str
) -> None:
    values = np.resize(np.array([1e38, -1e38, np.nan, np.inf]), shape).astype(dtype)
    names = [ORDER] * shape[1] if len(shape) == 2 and shape[1] else []
    window = WindowForm(encoding="raw", shape=shape, dtype=dtype, parts=[values.nbytes], channels=names)  # type: ignore[arg-type]
    one = capture(window=window, answer=[ORDER], detail=ORDER, model=ORDER)
    lines = display.window(one, Contents({}, [values.tobytes()]), (80, 20), colour=False)
    entry = ring.Entry(Path("x"), one, 1, Truth(truth=ORDER, time=one.time))
    lines += [*display.heading(entry, "1/1"), display.keys(Queue([entry]), one.answer)]
    assert all(line.isprintable() for line in lines)
    assert any(shown in line for line in lines)


def test_attack_a_folder_of_links_fifos_and_huge_files_is_reviewed(folder: Path) -> None:
    there = folder / "motion"
    os.mkfifo(there / "0000000004.capture")
    (there / "0000000005.capture").symlink_to("/dev/zero")
    with (there / "0000000006.capture").open("wb") as file:
        file.truncate(10 << 30)
    (there / "0000000007.capture").mkdir()
    os.mkfifo(there / "0000000001.truth")
    (there / "0000000002.truth").symlink_to("/etc/passwd")
    (folder / "evil").symlink_to("/")
    done = review(folder, typed="u\nu\nu\n")
    assert done.returncode == 1
    assert truths(folder) == ["unsure"] * 3
    assert len(done.stderr.splitlines()) == 4
    assert not (there / "0000000002.truth").is_symlink()

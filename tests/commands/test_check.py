"""``limpet check`` leaves nothing behind that is in the service's way."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from limpet import cli, config
from limpet.commands.check import CheckReport
from limpet.models.tflite import model_file
from support import models

BUNDLE = Path(__file__).parents[2] / "agent" / "limpet" / "demo_data" / "shuttle-1.limpet"
SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"
DATA = Path(__file__).parents[1] / "data" / "models"
CONFIG = """
[device]
id = "d"
state = "state"
[jsonl]
[sources.s]
kind = "serial"
port = "/dev/none"
channels = ["f1", "f2", "f3", "f4", "f5", "f6", "f7", "f8", "f9"]
[pipelines.p]
source = "s"
model = "shuttle"
"""


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory with a bundle; whose it is, tests decide."""
    (tmp_path / "limpet.toml").write_text(CONFIG)
    (tmp_path / "state" / "models").mkdir(parents=True)
    shutil.copy(BUNDLE, tmp_path / "state" / "models")
    return tmp_path / "state"


def check(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", str(state.with_name("limpet.toml"))]) == 0
    assert capsys.readouterr().out == "p: s -> shuttle 1 on cpu\n"


def test_ones_own_cache_is_used(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check(state, capsys)
    assert len(list((state / "cache").iterdir())) > 0


def test_nothing_is_written_into_somebody_elses_state(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = state.with_name("limpet.toml")
    path.write_text(CONFIG.replace('state = "state"', 'state = "theirs"\nmodels = "state/models"'))
    theirs = state.with_name("theirs")
    if os.geteuid() == 0:
        theirs.mkdir()
        os.chown(theirs, 65534, 65534)
    else:
        theirs.symlink_to("/usr")
    check(state, capsys)
    assert not (theirs / "cache").exists()


def test_no_state_directory_is_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "limpet.toml"
    path.write_text(CONFIG.replace('model = "shuttle"', f'model = "{BUNDLE}"'))
    check(tmp_path / "state", capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["limpet.toml"]


DETECTOR = """
[device]
id = "d"
[jsonl]
[sources.s]
kind = "serial"
port = "/dev/none"
channels = ["a", "b"]
[pipelines.p]
source = "s"
model = "boxes.tflite"
decoder = { kind = "detect", labels = ["cat", "dog"] }
"""


def test_models_and_delegates_for_clients_are_checked(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = state.with_name("limpet.toml")
    path.write_text(CONFIG + '[api]\nmodels = ["shuttle", "shuttle@7", "shutle"]\ndelegates = ["gpuu"]\n')
    assert cli.main(["check", str(path)]) != 0
    problems = capsys.readouterr().err
    assert "there is no version 7 of 'shuttle'" in problems
    assert "there is no model 'shutle'" in problems
    assert "gpuu" in problems
    path.write_text(CONFIG + '[api]\nmodels = ["other/shuttle-1.limpet"]\n')
    assert cli.main(["check", str(path)]) != 0
    assert 'models has "other/shuttle-1.limpet": write NAME or NAME@VERSION' in capsys.readouterr().err


def test_outputs_that_no_decoder_reads_are_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "limpet.toml"
    path.write_text(DETECTOR)
    models.dense(tmp_path / "boxes.tflite", 2, 9)
    assert cli.main(["check", str(path)]) == 78
    assert "decoder: the layout of outputs of shape [1, 9] is unclear" in capsys.readouterr().err
    models.dense(tmp_path / "boxes.tflite", 2, 6)
    assert cli.main(["check", str(path)]) == 0


TRIAL = """
[device]
id = "d"
state = "state"
[jsonl]
[sources.s]
kind = "serial"
port = "/dev/none"
channels = {channels}
[pipelines.p]
source = "s"
model = "model.tflite"
deadline = 1.0
decoder = {{ kind = "regress" }}
{more}
[pipelines.sound]
source = "s"
model = "sound.tflite"
decoder = {{ kind = "regress" }}
"""


def tried(folder: Path, capsys: pytest.CaptureFixture[str], channels: int = 4, more: str = "") -> tuple[int, str]:
    """Check ``model.tflite`` beside a sound model; return the status and what was printed."""
    models.dense(folder / "sound.tflite", channels, 2)
    path = folder / "limpet.toml"
    names = json.dumps([f"c{number}" for number in range(channels)])
    path.write_text(TRIAL.format(channels=names, more=more))
    status = cli.main(["check", str(path)])
    out, err = capsys.readouterr()
    return status, out + err


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (
            lambda path: shutil.copy(DATA / "flex.tflite", path),
            "does not have the TensorFlow ops FlexErf; convert",
        ),
        (
            lambda path: models.lacking(path, "Mine", "Mine", "Yours"),
            "does not have the custom ops Mine, Yours.\n",
        ),
        (models.newer, "'ADD' version '99'"),
        (models.text, "'words' takes text, which no source gives"),
        (models.unknown, "a model compiled for the Edge TPU needs the delegate 'edgetpu'"),
        (models.enormous, "limpet.toml:14:11: pipelines.p.decoder: regress names "),
    ],
    ids=["flex", "custom", "newer", "text", "edgetpu", "enormous"],
)
def test_a_model_that_cannot_run_is_found(
    make: Any, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path / "model.tflite")
    channels = model_file.read(tmp_path / "model.tflite").inputs[0].shape[-1]
    more = "inputs = { a = [], b = [] }" if make is models.newer else ""
    status, said = tried(tmp_path, capsys, channels, more)
    assert status == 78
    assert says in said
    assert len(said.splitlines()) == 3  # a sentence, a line and carets; nothing that the runtime prints


def test_ops_that_the_runtime_lacks_are_named_whatever_else_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(DATA / "flex.tflite", tmp_path / "model.tflite")
    status, said = tried(tmp_path, capsys, channels=5)
    assert status == 78
    assert "has shape [1, 3]" in said
    assert "FlexErf" in said


def test_a_bare_model_without_a_decoder_names_the_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models.dense(tmp_path / "motion.tflite", 9, 2)
    path = tmp_path / "limpet.toml"
    path.write_text(CONFIG.replace('"shuttle"', '"motion.tflite"'))
    assert cli.main(["check", str(path)]) == 78
    assert (
        "pipelines.p.decoder: missing, and the model names none; for example decoder = {"
        in capsys.readouterr().err
    )


def test_a_model_that_brings_the_runtime_down_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models.crashing(tmp_path / "model.tflite")
    status, said = tried(tmp_path, capsys)
    assert status == 78
    assert "the runtime did not survive the model model: killed by SIGSEGV" in said


def test_a_model_that_hangs_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models.endless(tmp_path / "model.tflite")
    status, said = tried(tmp_path, capsys, 1)
    assert status == 78
    assert "the runtime did not survive the model model: not finished after 5 s" in said


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_integers_and_flags_are_fed(dtype: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models.integers(tmp_path / "model.tflite", dtype)
    assert tried(tmp_path, capsys)[0] == 0
    models.flags(tmp_path / "model.tflite")
    assert tried(tmp_path, capsys)[0] == 0


def test_the_treatment_of_state_is_reported_or_required(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models.accumulator(tmp_path / "model.tflite", 4)
    status, said = tried(tmp_path, capsys)
    assert status == 0
    assert "p: s -> model 0 on cpu; state is variables (handle): kept from window to window" in said
    models.svdf(tmp_path / "model.tflite")
    status, said = tried(tmp_path, capsys, 1)
    assert status == 78
    assert "pipelines.p.stateful: missing" in said
    status, said = tried(tmp_path, capsys, 1, "stateful = false")
    assert status == 0
    assert "recurrent ops (SVDF): cleared before each window" in said


def test_windows_that_overlap_are_reported_for_a_model_with_state(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(DATA / "lstm_cell.tflite", tmp_path / "model.tflite")
    for stateful, overlaps in ((True, True), (False, False)):
        more = f"stateful = {str(stateful).lower()}\nwindow = {{ size = 4, hop = 1 }}"
        status, said = tried(tmp_path, capsys, 1, more)
        assert status == 0
        assert ("samples enter the state more than once" in said) == overlaps


def test_a_model_that_gets_each_row_of_sound_once_has_no_note_of_windows_that_overlap(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "limpet.toml"
    path.write_text(
        f'[device]\nid = "d"\nstate = "state"\n[jsonl]\n[sources.s]\nkind = "replay"\n'
        f'path = "{BUNDLE.with_name("okay-nabu.wav")}"\n'
        f'[pipelines.p]\nsource = "s"\nmodel = "{BUNDLE.with_name("okay-nabu-1.limpet")}"\n'
    )
    assert cli.main(["check", str(path)]) == 0
    said = capsys.readouterr().out
    assert "kept from window to window" in said
    assert "more than once" not in said


@pytest.mark.parametrize(
    ("more", "status", "says"),
    [
        ('delegates = ["edgetpu", "cpu"]', 0, "not here: edgetpu: libedgetpu.so.1 is not installed"),
        ('delegates = ["edgetpu"]\nrequire = 0.5', 78, "with `require`, Limpet does not fall back to the CPU"),
    ],
)
def test_accelerators_that_are_not_here_are_reported(
    more: str, status: int, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models.dense(tmp_path / "model.tflite", 4, 4)
    found, said = tried(tmp_path, capsys, more=more)
    assert (found, says in said) == (status, True), said


def test_several_inputs_are_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(DATA / "two.tflite", tmp_path / "model.tflite")
    status, said = tried(tmp_path, capsys, 6)
    assert status == 78
    line = next(part for part in said.splitlines() if "pipelines.p" in part)
    example = line.partition("for example: ")[2].rstrip(".")
    assert tried(tmp_path, capsys, 6, example)[0] == 0


EVERYTHING_WRONG = """
[device]
id = "press 07"
health_intervall = 3
state = "state"
[mqtt]
url = "mqtts://127.0.0.1"
username = "u"
password_file = "absent"
qos = 3
[reporters.file]
kind = "jsonl"
path = "no/such/folder/x.jsonl"
[reporters.secret]
kind = "mqtt"
url = "mqtts://127.0.0.1"
topic = "two"
username = "u"
password_file = "absent"
[sources.s]
kind = "serial"
port = "/dev/none"
channels = ["a", "b", "c", "d"]
parity = "strange"
silence = "long"
[sources.t]
kind = "serial"
port = "/dev/none"
channels = ["a", "b", "c", "d"]
[sources.u]
kind = "replay"
path = "gone.csv"
[delegates.mine]
kind = "external"
[pipelines.form]
source = "t"
model = "model.tflite"
deadline = -1
decoder = { kind = "regres" }
[pipelines.bare]
source = "t"
model = "gone.tflite"
[pipelines.here]
source = "t"
model = "model.tflite"
decoder = { kind = "regress" }
[pipelines.there]
source = "t"
model = "model.tflite"
decoder = { kind = "regress" }
delegates = ["mine", "yours"]
[pipelines.fed]
source = "nowhere"
model = "model.tflite"
"""
WRONG = [
    (3, 6, "device.id"),
    (4, 1, "device.health_intervall"),
    (10, 7, "mqtt.qos"),
    (13, 8, "reporters.file.path"),
    (19, 17, "reporters.secret.password_file"),
    (24, 10, "sources.s.parity"),
    (25, 11, "sources.s.silence"),
    (32, 8, "sources.u.path"),
    (33, 2, "delegates.mine.library"),
    (38, 12, "pipelines.form.deadline"),
    (39, 20, "pipelines.form.decoder.kind"),
    (42, 9, "pipelines.bare.model"),
    (51, 13, "pipelines.there.delegates"),
    (53, 10, "pipelines.fed.source"),
]


def test_all_stages_are_checked_in_one_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models.dense(tmp_path / "model.tflite", 4, 4)
    path = tmp_path / "limpet.toml"
    path.write_text(EVERYTHING_WRONG)
    assert cli.main(["check", str(path)]) == 78
    said = capsys.readouterr().err
    places = re.findall(rf"^{re.escape(str(path))}:(\d+):(\d+): ([\w.]+[^\s:.]*)", said, re.MULTILINE)
    assert [(int(line), int(column), key) for line, column, key in places] == WRONG
    assert "pipelines.here" not in said


def test_json_has_problems_pipelines_and_warnings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models.dense(tmp_path / "model.tflite", 4, 4)
    path = tmp_path / "limpet.toml"
    path.write_text(EVERYTHING_WRONG)
    assert cli.main(["check", "--json", str(path)]) == 78
    printed = capsys.readouterr()
    assert not printed.err
    report = msgspec.json.decode(printed.out, type=CheckReport)
    assert (report.file, report.ok) == (str(path), False)
    assert [(one.line, one.column, ".".join(map(str, one.path))) for one in report.problems] == WRONG
    assert report.problems[2].message == "mqtt.qos is 3; use 0 or 1"
    assert [one.name for one in report.pipelines] == ["here"]
    jsonschema.validate(json.loads(printed.out), json.loads((SCHEMAS / "check.json").read_text()))
    assert cli.main(["check", "--json", str(tmp_path / "absent.toml")]) == 78
    (problem,) = json.loads(capsys.readouterr().out)["problems"]
    what = f"there is no such file. To write one, run: limpet init --output {tmp_path}/absent.toml"
    assert (problem["line"], problem["message"]) == (None, what)


@pytest.mark.parametrize("command", ["run", "check", "housekeeping", "watch"])
def test_without_a_configuration_the_first_step_is_init(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    if config.usual().exists():
        pytest.skip(f"this machine has {config.usual()}")
    assert cli.main([command]) == 78
    assert "and no limpet.toml in this folder. Run: limpet init" in capsys.readouterr().err


def test_json_of_a_sound_file(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", "--json", str(state.with_name("limpet.toml"))]) == 0
    report = msgspec.json.decode(capsys.readouterr().out, type=CheckReport)
    assert (report.ok, report.problems) == (True, ())
    (found,) = report.pipelines
    assert (found.name, found.source, found.model, found.version, found.delegates) == (
        "p",
        "s",
        "shuttle",
        1,
        ("cpu",),
    )


def test_files_that_only_the_service_may_read_are_a_warning(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to make files of another user")
    path, secret = state.with_name("limpet.toml"), tmp_path / "secret"
    check(state, capsys)
    secret.write_text("hunter2")
    secret.chmod(0o600)
    path.write_text(
        CONFIG.replace("[jsonl]", f'[mqtt]\nurl = "mqtt://b"\nusername = "u"\npassword_file = "{secret}"')
    )
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    for owner, status in ((0, 0), (65534, 78)):
        for place in (state, *state.rglob("*")):
            os.chown(place, owner, owner)
        os.seteuid(65534)
        try:
            assert cli.main(["check", str(path)]) == status
        finally:
            os.seteuid(0)
        said = capsys.readouterr()
        if status:
            assert f"{path}:8:17: mqtt.password_file: {secret}: Permission denied." in said.err
        else:
            assert f"warning: not checked: mqtt.password_file: {secret}: Permission denied" in said.out


def test_a_file_of_results_is_not_made(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = state.with_name("limpet.toml")
    path.write_text(CONFIG.replace("[jsonl]", '[jsonl]\npath = "results.jsonl"'))
    check(state, capsys)
    assert not state.with_name("results.jsonl").exists()


def test_one_wrong_delegate_or_place_leads_to_no_other_problem(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = state.with_name("limpet.toml")
    wrong = (
        CONFIG.replace('state = "state"', "state = 3") + 'delegates = ["mine"]\n[delegates.mine]\nlibrary = 3\n'
    )
    path.write_text(wrong)
    assert cli.main(["check", str(path)]) == 78
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith(str(path))]
    assert [line.partition(": ")[2] for line in said] == [
        "device.state is 3; use a path in quotes.",
        "delegates.mine.library is 3; use text in quotes.",
    ]

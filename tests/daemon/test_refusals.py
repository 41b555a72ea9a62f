"""What cannot run says why, and the rest goes on."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from daemon.conftest import Configure, pipeline, replay
from support import bundles, models
from support.broker import wait_until
from support.daemon import Consumer, daemon


def limpet(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "limpet", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_models_that_cannot_run_fail_alone(configure: Configure, consumer: Consumer, tmp_path: Path) -> None:
    models.dense(tmp_path / "wide.tflite", inputs=7, outputs=7)
    models.unknown(tmp_path / "custom.tflite")
    path = configure(
        replay("left"),
        pipeline("good", "left"),
        pipeline("truncated", "left", "truncated.tflite"),
        pipeline("wide", "left", "wide.tflite"),
        pipeline("custom", "left", "custom.tflite"),
        pipeline("absent", "left", "absent.tflite"),
        replay("right"),
        pipeline("other", "right"),
    )
    whole = (tmp_path / "dense.tflite").read_bytes()
    (tmp_path / "truncated.tflite").write_bytes(whole[: len(whole) // 2])
    with daemon(path) as running:
        for name in ("truncated", "wide", "custom", "absent"):
            wait_until(lambda name=name: (consumer.last(f"health/{name}") or {}).get("state") == "failed")  # type: ignore[misc]
        consumer.wait_results("good", 20)
        consumer.wait_results("other", 20)
        assert running.process.poll() is None
    reasons = {
        name: consumer.events(name, "failed")[0]["reason"] for name in ("truncated", "wide", "custom", "absent")
    }
    assert "7]" in reasons["wide"]
    assert "3]" in reasons["wide"]
    assert "absent.tflite" in reasons["absent"]
    assert all(reasons.values())
    assert not consumer.events("good", "crashed")
    assert consumer.last("model/wide/reported")["state"] == "failed"


@pytest.mark.parametrize(
    ("find", "replace", "said"),
    [
        ('kind = "replay"', 'kind = "repaly"', "did you mean 'replay'?"),
        ("loop = true", "looop = true", "sources.left.looop: unknown key (did you mean 'loop'?)"),
        ('kind = "regress"', 'kind = "regres"', "pipelines.one.decoder.kind: 'regres' is not one of the decoders"),
        ("deadline = 2.0", "deadline = 0", "pipelines.one.deadline is 0; use a number above 0"),
        ('url = "mqtt', 'url = "http', "mqtt.url: "),
    ],
)
def test_a_configuration_that_cannot_be_used_ends_the_daemon_with_78(
    find: str, replace: str, said: str, configure: Configure
) -> None:
    path = configure(replay("left"), pipeline("one", "left"))
    path.write_text(path.read_text().replace(find, replace))
    for command in ("check", "run"):
        ended = limpet(command, path)
        assert ended.returncode == 78, ended.stderr
        assert said in ended.stderr
        assert "Traceback" not in ended.stderr


def test_check_finds_everything_at_once_and_starts_nothing(configure: Configure, tmp_path: Path) -> None:
    path = configure(replay("left"), pipeline("one", "left"), pipeline("two", "left", "absent"))
    assert "absent" in limpet("check", path).stderr
    text = path.read_text().replace('path = "recording.csv"', 'path = "none.csv"').replace("url", "uri")
    path.write_text(text)
    said = limpet("check", path).stderr
    assert "mqtt.uri" in said
    assert "none.csv" in said
    assert not (tmp_path / "state" / "boot.json").exists()


def test_run_refuses_with_what_check_prints(configure: Configure) -> None:
    path = configure(replay("left"), pipeline("one", "left"), pipeline("two", "left"))
    wrong = path.read_text().replace('path = "recording.csv"', 'path = "none.csv"').replace("regress", "regres", 1)
    secrets = '[jsonl]\npath = "no/folder/x"\n[mqtt]\npassword_file = "gone"\nusername = "u"'
    wrong = wrong.replace("[mqtt]", secrets)
    path.write_text(wrong)
    late = limpet("check", path).stderr
    assert limpet("run", path).stderr.endswith(late)
    for said in (
        "no/folder",
        "gone: No such file",
        "none.csv",
        "'regres' is not one of",
        '| password_file = "gone"',
    ):
        assert said in late
    path.write_text(wrong.replace("deadline = 2.0", "deadline = 0", 1).replace("[device]", "[device]\nx = 1"))
    early = limpet("check", path).stderr
    assert limpet("run", path).stderr.endswith(early)
    assert early.count("\n") == late.count("\n") + 6


def test_check_says_what_would_run(configure: Configure) -> None:
    done = limpet("check", configure(replay("left"), pipeline("one", "left")))
    assert done.returncode == 0, done.stderr
    assert "one: left -> dense" in done.stdout


def test_nobody_to_report_to_is_a_mistake(configure: Configure) -> None:
    path = configure(replay("left"), pipeline("one", "left"))
    path.write_text(path.read_text().replace("[mqtt]", "[jsonl]").replace("url =", "# "))
    assert limpet("check", path).returncode == 0
    path.write_text(path.read_text().replace("[jsonl]", ""))
    ended = limpet("run", path)
    assert ended.returncode == 78
    assert "no reporter" in ended.stderr


HUGE = [
    {"size": 1 << 40},
    {"size": 1 << 24},
    {"size": 1, "hop": 1 << 70},
    {"seconds": 1e300},
    {"seconds": 1e8},
    {"seconds": 1.0, "size": 1 << 24},
    {"size": 4, "max_gap": 1e25},
]


def test_a_window_that_no_memory_holds_is_one_line_and_fails_its_pipeline_alone(
    configure: Configure, consumer: Consumer, tmp_path: Path
) -> None:
    names = [f"huge{number}" for number in range(len(HUGE))]
    path = configure(
        replay("left"),
        pipeline("good", "left"),
        *(pipeline(name, "left", f"{name}-1.limpet") for name in names),
    )
    data = (tmp_path / "dense.tflite").read_bytes()
    for name, window in zip(names, HUGE, strict=True):
        bundles.bundle(tmp_path / f"{name}-1.limpet", {"model.tflite": data}, window=window)
    done = limpet("check", path)
    lines = [line for line in done.stderr.splitlines() if line.startswith(f"{path}:")]
    assert len(lines) == len(HUGE)
    for name, line in zip(names, lines, strict=True):
        assert f": pipelines.{name}" in line
    with daemon(path) as running:
        for name in names:
            wait_until(lambda name=name: (consumer.last(f"health/{name}") or {}).get("state") == "failed")  # type: ignore[misc]
        consumer.wait_results("good", 20)
        assert running.stop() == 0
    assert not consumer.events("good", "crashed")


FAULTS: dict[str, dict[str, object]] = {
    "decoder": {"decoder": {"kind": "crystal-ball"}},
    "no-decoder": {"decoder": {}},
    "decoder-option": {"decoder": {"kind": "regress", "mood": "good"}},
    "decoder-type": {"decoder": {"kind": "regress", "unit": [[[{}]]]}},
    "transform": {"transforms": [{"kind": "alchemy"}]},
    "transform-option": {"transforms": [{"kind": "normalise", "mean": "much", "std": None}]},
    "transform-value": {"transforms": [{"kind": "normalise", "mean": [1e308] * 3, "std": [0] * 3}]},
    "runtime": {"runtime": "abacus"},
    "path": {"runtime": "../../etc"},
}


def test_a_bundle_that_asks_for_what_there_is_not_fails_its_pipeline_alone(
    configure: Configure, consumer: Consumer, tmp_path: Path
) -> None:
    without = "".join(
        line for line in pipeline("{0}", "left", "{0}-1.limpet").splitlines(True) if "decoder" not in line
    )
    parts = [replay("left"), pipeline("good", "left"), *(without.format(name) for name in FAULTS)]
    path = configure(*parts)
    data = (tmp_path / "dense.tflite").read_bytes()
    for name, fields in FAULTS.items():
        given = {"decoder": {"kind": "regress"}, **fields}
        bundles.bundle(tmp_path / f"{name}-1.limpet", {"model.tflite": data}, **given)
    with daemon(path) as running:
        for name in FAULTS:
            wait_until(lambda name=name: (consumer.last(f"health/{name}") or {}).get("state") == "failed")  # type: ignore[misc]
        consumer.wait_results("good", 20)
        assert running.process.poll() is None
        assert not consumer.events("good", "crashed")
    reasons = {name: consumer.events(name, "failed")[0]["reason"] for name in FAULTS}
    assert "'crystal-ball' is not one of the decoders" in reasons["decoder"]
    assert "mood: unknown key" in reasons["decoder-option"]
    assert "'alchemy' is not one of the transforms" in reasons["transform"]
    assert "'abacus' is not one of the runtimes" in reasons["runtime"]
    ended = limpet("check", path)
    assert ended.returncode == 78
    assert "Traceback" not in ended.stderr
    for name in FAULTS:
        assert f"pipelines.{name}" in ended.stderr, name


def test_options_that_cannot_be_used_are_refused_at_a_reload_and_all_goes_on(
    configure: Configure, consumer: Consumer
) -> None:
    path = configure(replay("left"), pipeline("one", "left"))
    good = path.read_text()
    with daemon(path) as running:
        consumer.wait_results("one", 20)
        worker = running.pid_of("left")
        path.write_text(good.replace("loop = true", "looop = true").replace('"regress"', '"regres"'))
        running.signal(signal.SIGHUP)
        wait_until(
            lambda: any("configuration not taken" in e["reason"] for e in consumer.events_of_device("refused"))
        )
        consumer.wait_results("one", 20)
        assert running.pid_of("left") == worker
    (event,) = consumer.events_of_device("refused")
    number = 1 + path.read_text().split("\n").index("looop = true")
    place = f"{path}:{number}:1: sources.left.looop: unknown key (did you mean 'loop'?)"
    assert event["reason"].startswith(f"configuration not taken: {place}")
    assert "\n" not in event["reason"]
    assert "'regres' is not one of the decoders" in event["reason"]


def test_ops_inputs_and_types_that_cannot_be_are_named(
    configure: Configure, consumer: Consumer, tmp_path: Path
) -> None:
    data = Path(__file__).parents[1] / "data" / "models"
    shutil.copy(data / "flex.tflite", tmp_path)
    shutil.copy(data / "two.tflite", tmp_path)
    models.text(tmp_path / "text.tflite")
    parts = [pipeline(name, "s", f"{name}.tflite") for name in ("flex", "two", "text")]
    with daemon(configure(replay("s"), pipeline("sound", "s"), *parts)):
        consumer.wait_results("sound", 20)
        for name, reason in (("flex", "FlexErf"), ("two", "nothing says what a, b"), ("text", "takes text")):
            wait_until(lambda name=name: consumer.last(f"health/{name}"))
            health = consumer.last(f"health/{name}")
            assert health["state"] == "failed"
            assert health["reason"].count(reason) == 1
        assert not consumer.events("sound", "crashed")

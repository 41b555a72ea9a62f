"""``limpet run`` as people and scripts use it: it shows what happens, and ends with its recordings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from daemon.conftest import Configure, pipeline
from support.broker import wait_until
from support.daemon import Consumer, daemon
from support.terminal import Terminal

if TYPE_CHECKING:
    from pathlib import Path

RECORDING = """
[sources.{name}]
kind = "replay"
path = "recording.csv"
rate = {rate}
"""
"""It has 1000 samples."""
RUN = (sys.executable, "-m", "limpet", "run")


def recording(name: str, rate: int = 4000) -> str:
    return RECORDING.format(name=name, rate=rate)


def ended(*arguments: str | Path, stdout: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*RUN, *arguments], stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE, text=True,
        check=False, timeout=60,
    )  # fmt: skip


def test_once_it_ends_when_its_recordings_have_ended_and_everything_is_delivered(
    configure: Configure, consumer: Consumer
) -> None:
    path = configure(recording("left"), pipeline("one", "left"))
    done = ended(path, "--once", "--print", "--log-level", "debug")
    assert done.returncode == 0, done.stderr
    printed = [json.loads(line) for line in done.stdout.splitlines()]
    assert [result["sequence"] for result in printed] == list(range(1, 1001))
    assert set(printed[0]["output"]["values"]) == {"output[0]", "output[1]", "output[2]"}
    wait_until(lambda: len(consumer.results("one")) == 1000)
    assert consumer.last("health/one")["state"] == "finished"
    assert "\x1b" not in done.stderr


def test_once_a_pipeline_that_failed_is_named_and_is_the_exit_status(configure: Configure, tmp_path: Path) -> None:
    (tmp_path / "broken.tflite").write_bytes(b"no model")
    broken = '[pipelines.two]\nsource = "left"\nmodel = "broken-1"\n'
    path = configure(recording("left"), pipeline("one", "left"), broken)
    (tmp_path / "state" / "models").mkdir(parents=True)
    (tmp_path / "state" / "models" / "broken-1.limpet").write_bytes(b"no bundle")
    done = ended(path, "--once", stdout=subprocess.DEVNULL)
    assert done.returncode == 1, done.stderr
    assert "limpet: the pipeline 'two' failed: " in done.stderr.splitlines()[-1]


def test_as_a_service_it_stays_when_its_recordings_have_ended(configure: Configure, consumer: Consumer) -> None:
    with daemon(configure(recording("left"), pipeline("one", "left"))) as running:
        wait_until(lambda: (consumer.last("health/one") or {}).get("state") == "finished")
        wait_until(lambda: consumer.last("health")["pipelines"] == {"one": "finished"})
        assert running.process.poll() is None
        assert running.stop() == 0


def test_results_that_nobody_reads_any_more_end_it_with_the_status_of_a_closed_pipe(configure: Configure) -> None:
    path = configure(recording("left", rate=200), pipeline("one", "left"))
    reader, writer = os.pipe()
    running = subprocess.Popen([*RUN, path, "--print"], stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    with os.fdopen(reader) as lines:
        assert json.loads(lines.readline())["sequence"] == 1
    _, log = running.communicate(timeout=30)
    assert (running.returncode, "Traceback" in log) == (141, False)


def test_on_a_terminal_a_line_says_what_happens_and_the_log_stays_whole(
    configure: Configure, tmp_path: Path
) -> None:
    configure(recording("left", rate=500), pipeline("one", "left"))
    with Terminal([*RUN], cwd=tmp_path, columns=100) as terminal:
        assert terminal.wait() == 0
        wait_until(lambda: "one: finished (its source came to an end), 1,000 results" in terminal.text)
        lines = [line for line in terminal.raw.replace("\r\x1b[2K", "\n").splitlines() if line.strip()]
    status = [line for line in lines if line.startswith("one: output[0]")]
    assert status
    assert all(line.endswith((" results/s", " results")) for line in status)
    assert all(len(line) < 100 for line in status)
    logged = [line for line in lines if " INFO " in line]
    assert all(line.startswith("20") for line in logged)
    assert any(line.endswith("events: one: running") for line in logged)

"""The demo from end to end, and the parts of it that keep the score."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from limpet.contracts.messages import ResultMessage
from limpet.demo.board import Board, telemetry
from limpet.demo.client import Received
from limpet.demo.score import PipelineWatch
from limpet.sources.framings import cobs
from support.broker import listener, mosquitto, wait_until
from support.demo import DEMO, run

if TYPE_CHECKING:
    from collections.abc import Iterable


def processes_naming(word: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it has ended
        if word in command:
            found.append(command)
    return found


def test_nothing_is_lost_and_the_anomalies_are_found(tmp_path: Path) -> None:
    done = run("--json", "--seconds", "6", "--svg", str(tmp_path / "still.svg"), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    board = json.loads(done.stdout)
    assert board["rows"] == board["published"] == board["received"] == 3000
    assert board["lost"] == board["duplicates"] == board["restarts"] == 0
    assert sum(board["dropped"].values()) == 0
    assert board["precision"] > 0.9
    assert board["recall"] > 0.9
    assert board["anomalies"] > 100
    assert {"queue", "transform", "invoke", "decode", "delivered"} == board["latency_us"].keys()
    assert all(0 < stage["p50"] <= stage["p99"] for stage in board["latency_us"].values())
    assert "limpet.toml" in done.stderr
    assert list(tmp_path.glob("limpet-demo-*/limpet.toml"))
    still = (tmp_path / "still.svg").read_text()
    assert "scoreboard" in still
    assert "running" in still
    assert "@font-face" not in still  # it would fetch fonts from somebody's server
    assert processes_naming(str(tmp_path)) == []


def test_on_a_broker_of_ones_own_it_leaves_nothing_behind(tmp_path: Path) -> None:
    with mosquitto(tmp_path / "broker") as broker:
        done = run("--seconds", "1", "--broker", broker.url, folder=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "scoreboard" in done.stdout
        with listener(broker.port) as later:
            # What the broker has kept comes before what is published now.
            subprocess.run(["mosquitto_pub", "-p", str(broker.port), "-t", "limpet/mark", "-n"], check=True)
            wait_until(lambda: later.messages)
            assert [message.topic for message in later.messages] == ["limpet/mark"]


def test_without_a_broker_it_says_so_in_one_line(tmp_path: Path) -> None:
    done = run("--broker", "mqtt://127.0.0.1:1", folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("limpet: no broker at mqtt://127.0.0.1:1")
    assert done.stderr.count("\n") == 1


def test_without_its_package_for_a_broker_it_names_the_option_for_another() -> None:
    code = "import sys; sys.modules['iotcore'] = None; from limpet.cli import main; sys.exit(main(['demo']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "--broker mqtt://localhost:1883" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_it_takes_everything_with_it(tmp_path: Path, number: int) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    log = tmp_path / "out"
    # What a shell starts with & ignores SIGINT, and so do its children unless the signal is heeded at their start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with log.open("wb") as out, subprocess.Popen([*DEMO], env=environment, stdout=out, stderr=out) as demo:
        wait_until(lambda: "rows sent" in log.read_text(), 30)
        assert len(processes_naming(str(tmp_path))) >= 2
        demo.send_signal(number)
        assert demo.wait(20) == 130
    assert "Traceback" not in log.read_text()
    wait_until(lambda: processes_naming(str(tmp_path)) == [])


def message(sequence: int, *, anomalous: bool, sample: int | None = None) -> ResultMessage:
    return ResultMessage(
        id=f"d/shuttle/b/{sequence}",
        device="d",
        pipeline="shuttle",
        boot="b",
        sequence=sequence,
        time=datetime.now(timezone.utc),
        monotonic_ns=1,
        sample=sequence - 1 if sample is None else sample,
        model="shuttle",
        version=1,
        delegate="cpu",
        degraded=False,
        latency_us=1.0,
        output={"score": 1.0, "anomalous": anomalous},
    )


def watched(truth: list[bool], messages: Iterable[ResultMessage | list[ResultMessage]]) -> PipelineWatch:
    watch = PipelineWatch(truth, "shuttle")
    for one in messages:
        watch.take(Received("result/shuttle", msgspec.json.encode(one), time.time_ns()))
    return watch


TRUTH = [False, True, True, False]


def test_a_perfect_run_passes() -> None:
    each = [message(n, anomalous=TRUTH[n - 1]) for n in range(1, 5)]
    board = watched(TRUTH, [each[0], each[1:]]).scoreboard(4)
    assert (board.received, board.lost, board.precision, board.recall, board.passed) == (4, 0, 1.0, 1.0, True)


def test_a_missing_result_is_lost_and_fails() -> None:
    each = [message(n, anomalous=TRUTH[n - 1]) for n in (1, 3, 4)]
    board = watched(TRUTH, each).scoreboard(4)
    assert (board.published, board.received, board.lost, board.passed) == (4, 3, 1, False)


def test_a_row_without_a_result_is_lost() -> None:
    each = [message(n, anomalous=TRUTH[n - 1]) for n in (1, 2, 3)]
    assert watched(TRUTH, each).scoreboard(4).lost == 1


def test_a_redelivery_is_counted_once() -> None:
    each = [message(n, anomalous=TRUTH[n - 1]) for n in (1, 2, 2, 3, 4)]
    board = watched(TRUTH, each).scoreboard(4)
    assert (board.received, board.duplicates, board.lost, board.detections) == (4, 1, 0, 2)


@pytest.mark.parametrize(
    ("said", "precision", "recall"),
    [([True] * 4, 0.5, 1.0), ([False, True, False, False], 1.0, 0.5), ([False] * 4, 0.0, 0.0)],
)
def test_a_model_that_does_not_do_its_job_fails(said: list[bool], precision: float, recall: float) -> None:
    board = watched(TRUTH, (message(n, anomalous=verdict) for n, verdict in enumerate(said, 1))).scoreboard(4)
    assert (board.precision, board.recall, board.passed) == (precision, recall, False)


def test_samples_beyond_the_recording_begin_again() -> None:
    watch = watched(TRUTH, [message(1, anomalous=True, sample=5)])
    assert (watch.right, watch.false_alarms) == (1, 0)


def read_rows(port: str, count: int) -> Any:
    dropped: Counter[str] = Counter()
    framing = cobs.open(cobs.Config(), [f"f{n}" for n in range(9)], dropped)
    rows, sequence = [], []
    line = os.open(port, os.O_RDONLY | os.O_NOCTTY)
    try:
        while len(sequence) < count:
            got = framing.feed(os.read(line, 4096))
            rows.extend(got.values)
            sequence.extend(got.sequence)
    finally:
        os.close(line)
    assert not dropped
    return np.array(rows), sequence


def test_the_board_sends_every_row_unchanged() -> None:
    rows = telemetry().rows[:40]
    with Board(rows, 100, 2000) as board:
        board.start()
        values, sequence = read_rows(board.port, 100)
        wait_until(lambda: board.done)
    assert sequence == list(range(100))
    assert np.array_equal(values, np.concatenate([rows, rows, rows[:20]]))


def test_the_board_can_be_stopped_while_nobody_reads() -> None:
    with Board(telemetry().rows, 9000, 2000) as board:
        board.start()
        wait_until(lambda: board.sent > 0)
    assert not board.done


def test_the_recording_has_nine_channels_and_its_truth() -> None:
    data = telemetry()
    assert data.rows.shape == (9823, 9)
    assert (data.channels[0], data.channels[-1]) == ("f1", "f9")
    assert sum(data.anomalous) == 690

"""The pipelines of a worker are opened, swapped and closed as assigned: what its supervisor hears of it."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from limpet.config import Backup, PipelineConfig
from limpet.contracts.data import Samples, SampleSpec
from limpet.contracts.fields import WindowSpec
from limpet.contracts.savings import GateOptions
from limpet.inference.planning import plan_source
from limpet.isolation.permissions import Permissions
from limpet.wire.channel import Channel
from limpet.wire.records import Assign, ToWorker
from limpet.worker.explanations import Explanations
from limpet.worker.inference_requests import InferenceRequests
from limpet.worker.intake import Intake
from limpet.worker.keeping import Keeping
from limpet.worker.pipelines import Pipelines
from limpet.worker.reports import Reports
from limpet.worker.result_sender import ResultSender
from limpet.worker.served_models import ServedModels
from limpet.worker.snapshots import Snapshots
from support import models
from support.assigned import cells, single
from support.broker import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from limpet.contracts.assignment import Assignment

SPEC = SampleSpec((1,), np.dtype(np.float32), ("n",))


class Worker:
    """The pipelines of a worker without its loop, and what the supervisor hears of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self._supervisor: Channel[Any] = Channel(ours, dict)
        self._channel: Channel[ToWorker] = Channel(theirs, ToWorker)
        (folder / "n.csv").write_text("n\n1\n")
        table = {"kind": "replay", "path": str(folder / "n.csv"), "rate": 1}
        tables: dict[str, Any] = {"device": {"id": "d"}, "jsonl": {}, "sources": {"s": table}, "pipelines": {}}
        tables["pipelines"]["p"] = {"source": "s", "model": "same.tflite"}
        intake = Intake(plan_source(cells(tables, folder)["s"], "s"), Permissions())
        self._results = ResultSender(self._channel, lambda *_: None)
        requests = InferenceRequests(self._channel.send)
        reports = Reports(self._channel, "s", SPEC, intake, [])
        self.pipelines = Pipelines(
            self._channel,
            SPEC,
            reports=reports,
            results=self._results,
            requests=requests,
            explanations=Explanations(self._channel.send),
            served=ServedModels(intake.mailbox),
            snapshots=Snapshots(self._channel.send),
            keeping=Keeping(self._channel.send, self._channel.send),
        )
        self._revision = 0
        self._fed = 0
        self._heard: list[dict[str, Any]] = []

    def close(self) -> None:
        self.pipelines.close_all("stopped")
        self._channel.close()
        self._supervisor.close()

    def assign(self, model: str, size: int = 1, **options: Any) -> int:
        """Assign a model in another revision, and return its number."""
        self._revision += 1
        decoder = {"kind": "regress"}
        wanted = PipelineConfig(
            source="s", model=model, window=WindowSpec(size=size), **{"decoder": decoder, **options}
        )
        return self.again(single(self._folder, wanted), self._revision)

    def again(self, assignment: Assignment, revision: int) -> int:
        self.pipelines.assign(Assign(assignment, {"p": revision}))
        return revision

    def wait_opened(self) -> None:
        """Wait for every thread that opens a successor, without going on with any swap."""
        wait_until(lambda: "open p" not in {thread.name for thread in threading.enumerate()})

    def wait_runs(self, revision: int) -> None:
        """Wait until the supervisor hears that a revision runs."""

        def runs() -> bool:
            self.pipelines.watch_delegates()
            return ("running", revision) in self.states()

        wait_until(runs)

    def feed(self, count: int, value: float | None = None) -> None:
        """Feed samples 0, 1, 2, ..., or of one value."""
        numbers = np.arange(self._fed, self._fed + count)
        values = numbers.astype(np.float32) if value is None else np.full(count, value, np.float32)
        self.pipelines.feed(Samples(values[:, None], numbers, numbers, self._fed))
        self._fed += count

    def heard(self, kind: str) -> list[dict[str, Any]]:
        self._results.flush()
        self._heard += self._supervisor.receive()
        return [record for record in self._heard if record["type"] == kind]

    def swaps(self) -> list[tuple[int, str]]:
        return [(record["revision"], record["step"]) for record in self.heard("SwapReport")]

    def results(self) -> list[tuple[str, int]]:
        """Return the model and the sample of each result."""
        return [(item[1], item[7]) for record in self.heard("Results") for item in record["items"]]

    def states(self) -> list[tuple[str, int]]:
        return [(record["state"], record.get("revision", 0)) for record in self.heard("Transition")]


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    models.same(tmp_path / "same.tflite", (1, 1), "float32")
    models.offset(tmp_path / "other.tflite", 1)
    models.column(tmp_path / "three.tflite", rows=3)
    models.dense(tmp_path / "logit.tflite", 1, 1, int8=False)
    models.limited(tmp_path / "limited.tflite")
    made = Worker(tmp_path)
    yield made
    made.close()


def test_a_successor_takes_over_with_its_first_result(worker: Worker) -> None:
    first, second = worker.assign("same.tflite"), worker.assign("other.tflite")
    worker.wait_opened()
    worker.pipelines.advance()
    worker.pipelines.advance()
    assert worker.swaps() == [(second, "begun")]
    worker.feed(2)
    assert worker.swaps() == [(second, "begun"), (second, "done")]
    assert worker.states() == [("starting", first), ("running", first), ("running", second)]
    assert worker.results() == [("other", 0), ("other", 1)]


def test_until_then_the_old_one_runs(worker: Worker) -> None:
    worker.assign("same.tflite")
    worker.assign("other.tflite")
    worker.feed(2)
    worker.wait_opened()
    worker.feed(2)
    assert worker.results() == [("same", n) for n in range(4)]


def test_a_successor_with_larger_windows_that_is_given_up_gives_all_samples_back(worker: Worker) -> None:
    worker.assign("same.tflite")
    old = worker.pipelines.running["p"]
    second = worker.assign("three.tflite", size=3)
    worker.wait_opened()
    worker.pipelines.advance()
    worker.pipelines.advance()
    worker.feed(2)
    assert worker.results() == []
    third = worker.assign("other.tflite")
    assert worker.results() == [("same", 0), ("same", 1)]
    assert worker.pipelines.running["p"] is old
    worker.wait_opened()
    worker.pipelines.advance()
    worker.pipelines.advance()
    worker.feed(1)
    assert worker.results()[-1] == ("other", 2)
    assert worker.swaps() == [(second, "begun"), (third, "begun"), (third, "done")]
    assert worker.states()[-1] == ("running", third)


def test_a_change_that_is_taken_back_leaves_the_old_one_alone(worker: Worker, tmp_path: Path) -> None:
    first = worker.assign("same.tflite")
    old = worker.pipelines.running["p"]
    second = worker.assign("other.tflite")
    worker.again(single(tmp_path, PipelineConfig(source="s", model="same.tflite")), first)
    worker.wait_opened()
    worker.pipelines.advance()
    worker.feed(3)
    assert worker.swaps() == [(second, "begun")]
    assert worker.pipelines.running["p"] is old
    assert worker.results() == [("same", n) for n in range(3)]


def test_a_successor_that_fails_on_its_first_window_is_not_tried_again(worker: Worker, tmp_path: Path) -> None:
    worker.assign("same.tflite")
    decoder = {"kind": "classify", "labels": ["no", "yes"]}
    second = worker.assign("logit.tflite", decoder=decoder)
    worker.wait_opened()
    worker.pipelines.advance()
    worker.pipelines.advance()
    worker.feed(2, 7.0)  # no probability
    assert worker.swaps() == [(second, "begun"), (second, "failed")]
    assert worker.results() == [("same", 0), ("same", 1)]
    wanted = PipelineConfig(source="s", model="logit.tflite", decoder=decoder)
    worker.again(single(tmp_path, wanted), second)
    assert worker.swaps() == [(second, "begun"), (second, "failed")]


def test_if_the_old_one_fails_its_successor_runs_as_soon_as_it_is_open(worker: Worker) -> None:
    first = worker.assign("logit.tflite", decoder={"kind": "classify", "labels": ["no", "yes"]})
    second = worker.assign("same.tflite")
    worker.wait_opened()
    worker.feed(10, 7.0)
    assert worker.states()[-1] == ("failed", first)
    assert worker.pipelines.at_work
    worker.pipelines.advance()
    worker.pipelines.advance()
    worker.pipelines.watch_delegates()
    worker.feed(1)
    assert worker.swaps() == [(second, "begun"), (second, "done")]
    assert worker.states()[-1] == ("running", second)
    assert worker.results() == [("same", 10)]


def test_a_pipeline_that_is_taken_away_takes_its_successor_along(worker: Worker, tmp_path: Path) -> None:
    first = worker.assign("same.tflite")
    worker.assign("other.tflite")
    nothing = single(tmp_path, PipelineConfig(source="s", model="same.tflite")).only(())
    worker.pipelines.assign(Assign(nothing))
    assert worker.states()[-1] == ("stopped", first)
    assert not worker.pipelines.at_work
    worker.wait_opened()
    worker.pipelines.advance()
    assert not worker.pipelines.running


def test_a_pipeline_with_a_backup_stays_open_when_it_has_failed_and_can_recover(worker: Worker) -> None:
    first = worker.assign("limited.tflite", backup=Backup(model="same.tflite"))
    worker.wait_runs(first)
    worker.feed(1, 5.0)
    for _ in range(3):
        worker.feed(10, 1000.0)
        worker.pipelines.watch_delegates()
    assert worker.states() == [("starting", first), ("running", first), ("failed", first)]
    worker.feed(1, 5.0)
    worker.pipelines.watch_delegates()
    assert worker.states()[3:] == [("running", first)]
    worker.feed(10, 1000.0)
    second = worker.assign("same.tflite")
    worker.wait_opened()
    worker.pipelines.advance()
    worker.pipelines.advance()
    worker.feed(1, 1000.0)
    assert worker.states()[4:] == [("failed", first), ("running", second)]
    assert worker.results() == [("limited", 0), ("limited", 31), ("same", 42)]


def test_a_pipeline_without_a_backup_is_closed_when_it_has_failed(worker: Worker) -> None:
    worker.wait_runs(worker.assign("limited.tflite"))
    worker.feed(11, 1000.0)
    assert [state for state, _ in worker.states()] == ["starting", "running", "failed"]
    assert not worker.pipelines.at_work


def test_what_is_saved_is_in_heartbeats_and_what_costs_more_is_reported(worker: Worker) -> None:
    worker.assign("same.tflite", gate=GateOptions(), deadline=1000.0)
    worker.feed(3, 1.0)
    worker.feed(2000)
    worker.pipelines.close_all("stopped")

    def counted(what: str) -> int:
        found = [record["pipelines"]["p"]["savings"]["gate"] for record in worker.heard("Heartbeat")]
        return sum(one.get(what, 0) for one in found)

    wait_until(lambda: counted("windows") == 2003)
    assert counted("spared") == 2
    (notice,) = [record for record in worker.heard("Notice") if record["event"] == "warning"]
    assert notice["reason"].startswith("`gate` costs more than it saves: ")

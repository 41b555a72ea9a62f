"""A model that runs beside a pipeline: real workers and processes, and every result of a recording counted."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from limpet.config import build
from limpet.contracts.assignment import ModelFile, ShadowAssignment
from limpet.deployment.assignments import assignments
from limpet.deployment.desired import desired
from limpet.executor.priority import NICE
from limpet.fork.launch import ForkServerProcess
from limpet.isolation.child import describe
from limpet.models import bundle
from limpet.updates.answers import Pairs
from limpet.wire.records import RawResults, ShadowFailed, SwapReport
from limpet.worker.shadow_turns import in_share
from support import models
from support.crew import Crew

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from limpet.contracts.assignment import Assignment

ROWS = 100
CHANNELS = 4


def row_of(sample: int) -> list[int]:
    """Return the values of a sample."""
    return [((sample % ROWS) * place) % 7 + place for place in range(CHANNELS)]


class Bench:
    """A pipeline ``p`` on a recording that begins again and again, and a shadow beside it."""

    def __init__(self, folder: Path, source: dict[str, Any] | None = None, **options: Any) -> None:
        self.crew = Crew(ForkServerProcess())
        self._folder = folder
        lines = [",".join(map(str, row_of(row))) for row in range(ROWS)]
        (folder / "recording.csv").write_text("a,b,c,d\n" + "\n".join(lines) + "\n")
        if not (folder / "old.tflite").exists():
            models.dense(folder / "old.tflite", CHANNELS, CHANNELS, int8=False)
        played = {"kind": "replay", "path": str(folder / "recording.csv"), "rate": 250, "loop": True}
        pipeline = {"source": "s", "model": "old.tflite", "decoder": {"kind": "regress"}, **options}
        wanted = build(
            {
                "device": {"id": "d", "state": str(folder / "state")},
                "sources": {"s": source or played},
                "pipelines": {"p": pipeline},
                "jsonl": {},
            },
            folder,
        )
        checking = self.crew.fleet.check(wanted)
        self.crew.turn_until(lambda: checking.done)
        assert checking.problems == []
        (self.cell,) = assignments(desired(wanted, checking.found)).values()

    def assign(self, shadow: Path | None = None, **options: Any) -> Assignment:
        shadows = {} if shadow is None else {"p": ShadowAssignment(_file(shadow), **options)}
        assigned = msgspec.structs.replace(self.cell, shadows=shadows)
        self.crew.fleet.assign({assigned.cell: assigned})
        return assigned

    def until(self, condition: Callable[[], object]) -> None:
        self.crew.turn_until(condition)

    def finish(self, more: int = 20) -> None:
        """Wait for some more results, and end the worker: then each window must have had one result."""
        wanted = len(self.results()) + more
        self.until(lambda: len(self.results()) >= wanted)
        self.crew.fleet.stop()
        samples = [sample for sample, _ in self.results()]
        assert samples == list(range(len(samples)))

    def results(self) -> list[tuple[int, str]]:
        """Return the sample and the model of each result."""
        return [
            (item.sample, item.model)
            for said in self.crew.said
            if isinstance(said, RawResults)
            for item in said.items
        ]

    def of(self, kind: type) -> list[Any]:
        return [said for said in self.crew.said if isinstance(said, kind)]

    def pairs(self) -> list[Any]:
        return [pair for record in self.of(Pairs) for pair in record.items]

    def shadows(self) -> list[int]:
        """Return the process ids of shadows."""
        return [pid for name, pid in self.crew.fleet.pids().items() if name.startswith("executor")]


def _file(path: Path) -> ModelFile:
    identity = bundle.examine(path)
    return ModelFile(path, identity.name, identity.version, identity.sha256, identity.runtime, identity.decoder)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.crew.close()


def test_a_model_that_disagrees_runs_the_same_windows_and_reports_none(bench: Bench, tmp_path: Path) -> None:
    bench.assign(models.offset(tmp_path / "new.tflite", CHANNELS))
    bench.until(lambda: len(bench.pairs()) > 10)
    bench.finish()
    assert {model for _, model in bench.results()} == {"old"}
    for pair in bench.pairs():
        row = row_of(pair.sample)
        assert (pair.ours.value, pair.theirs.value) == (row[0], row[0] + 5)
        expected = sum(1 - 5 / (2 * value + 5) for value in row) / CHANNELS
        assert pair.agreement == pytest.approx(expected)
    assert {(one.model, one.shadow) for one in bench.of(Pairs)} == {("old", "new")}
    assert not bench.of(ShadowFailed)


def test_one_window_in_so_many_is_run_and_ends_are_no_swap(bench: Bench, tmp_path: Path) -> None:
    new = models.offset(tmp_path / "new.tflite", CHANNELS)
    bench.assign(new, every=5)
    bench.until(lambda: len(bench.pairs()) >= 3)
    bench.assign()
    bench.until(lambda: not bench.shadows())
    bench.finish()
    samples = [pair.sample for pair in bench.pairs()]
    assert {sample % 5 for sample in samples} == {samples[0] % 5}
    assert not bench.of(SwapReport)
    assert bench.crew.states("p").count("running") == 1


def test_a_share_of_the_windows_is_answered_by_the_new_model(bench: Bench, tmp_path: Path) -> None:
    bench.assign(models.offset(tmp_path / "new.tflite", CHANNELS), share=0.4, every=100_000)
    bench.until(lambda: "new" in {model for _, model in bench.results()})
    bench.finish(100)
    by_new = [sample for sample, model in bench.results() if model == "new"]
    assert all(in_share(sample, 0.4) for sample in by_new)
    compared = {pair.sample for pair in bench.pairs()}
    assert {sample for sample in compared if not in_share(sample, 0.4)} <= {min(compared)}
    assert set(by_new) <= compared
    items = [item for said in bench.of(RawResults) for item in said.items if item.model == "new"]
    for item in items:
        assert (item.version, item.delegate, item.degraded) == (0, "cpu", False)
        assert next(iter(msgspec.json.decode(item.output)["values"].values())) == 0 + 5


def test_a_crash_while_it_runs_costs_the_pipeline_no_window(bench: Bench, tmp_path: Path) -> None:
    bench.assign(models.offset(tmp_path / "new.tflite", CHANNELS), share=0.5)
    bench.until(bench.pairs)
    os.kill(bench.shadows()[0], signal.SIGSEGV)
    bench.until(lambda: bench.of(ShadowFailed))
    bench.finish()
    (failed,) = bench.of(ShadowFailed)
    assert (failed.pipeline, failed.shadow, failed.shadow_version) == ("p", "new", 0)
    assert "SIGSEGV" in failed.reason
    assert not bench.crew.crashes("p")


def test_a_model_that_crashes_the_runtime_ends_its_shadow_alone(bench: Bench, tmp_path: Path) -> None:
    bench.assign(models.crashing(tmp_path / "new.tflite", CHANNELS))
    bench.until(lambda: bench.of(ShadowFailed))
    bench.finish()
    assert [failed.reason for failed in bench.of(ShadowFailed)] == [describe(-signal.SIGSEGV)]
    assert not bench.crew.crashes("p")


def test_a_hang_ends_the_shadow_after_its_deadline_and_no_result_waits_for_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path, deadline=0.2)
    try:
        bench.assign(models.offset(tmp_path / "new.tflite", CHANNELS), share=1.0)
        bench.until(bench.pairs)
        pid = bench.shadows()[0]
        os.kill(pid, signal.SIGSTOP)
        bench.until(lambda: bench.of(ShadowFailed))
        bench.finish()
        assert [failed.reason for failed in bench.of(ShadowFailed)] == ["no answer to a window within 0.6 s"]
        bench.until(lambda: not bench.shadows())
        assert bench.results()[-1][1] == "old"
    finally:
        bench.crew.close()


def test_a_model_that_never_ends_to_open_is_given_up(tmp_path: Path) -> None:
    bench = Bench(tmp_path, opening=0.1)
    try:
        bench.assign(models.endless(tmp_path / "new.tflite", CHANNELS))
        bench.until(lambda: bench.of(ShadowFailed))
        bench.finish()
        assert [failed.reason for failed in bench.of(ShadowFailed)] == ["it did not open in time"]
    finally:
        bench.crew.close()


def test_a_shadow_that_begins_between_overlapping_windows_gets_the_same_ones(tmp_path: Path) -> None:
    size, hop = 8, 3
    shape = (1, size, CHANNELS)
    models.same(tmp_path / "old.tflite", shape, "float32")
    bench = Bench(tmp_path, window={"size": size, "hop": hop}, decoder={"kind": "tensor"})
    try:
        bench.assign()
        bench.until(lambda: len(bench.results()) >= 3)
        bench.assign(models.same(tmp_path / "new.tflite", shape, "float32"))
        bench.until(lambda: len(bench.pairs()) >= 10)
        compared = {pair.sample for pair in bench.pairs()}
        bench.until(lambda: compared <= {sample for sample, _ in bench.results()})  # These come a bit later.
    finally:
        bench.crew.close()
    assert {pair.agreement for pair in bench.pairs()} == {1.0}


def test_the_process_of_a_shadow_gives_way_and_has_limits(bench: Bench, tmp_path: Path) -> None:
    bench.assign(models.offset(tmp_path / "new.tflite", CHANNELS))
    bench.until(bench.pairs)
    process = Path(f"/proc/{bench.shadows()[0]}")
    assert (process / "oom_score_adj").read_text() == "1000\n"
    assert int((process / "stat").read_text().rpartition(")")[2].split()[16]) == min(os.nice(0) + NICE, 19)
    (limit,) = (
        line for line in (process / "limits").read_text().splitlines() if line.startswith("Max address space")
    )
    assert limit.split()[3].isdecimal()
    (status,) = (line for line in (process / "status").read_text().splitlines() if line.startswith("Seccomp:"))
    assert status.split()[1] == "2"


def test_pictures_are_compared_too(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="pictures need the extra 'camera'")
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(5):
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)
        image.fromarray(pixels).save(pictures / f"{number}.png")
    source = {"kind": "replay", "path": str(pictures), "rate": 30, "loop": True}
    models.conv(tmp_path / "old.tflite")
    new = models.conv(tmp_path / "new.tflite")
    bench = Bench(tmp_path, source=source, decoder={"kind": "tensor"})
    try:
        bench.assign(new)
        bench.until(lambda: len(bench.pairs()) >= 5)
    finally:
        bench.crew.close()
    assert {pair.agreement for pair in bench.pairs()} == {1.0}

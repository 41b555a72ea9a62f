"""Values that a quantized input cannot hold, and samples at a rate that the model was not made for, are found."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from limpet.config import PipelineConfig
from limpet.contracts.data import Array, Samples, SampleSpec, TensorSpec
from limpet.inference.clipping import FEWEST, Clipping
from limpet.inference.pipeline import Pipeline
from limpet.inference.planning import plan_pipeline
from limpet.inference.rates import RateWatch
from support import models
from support.assigned import single
from support.broker import wait_until
from support.bundles import bundle
from support.daemon import daemon

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

INT8 = TensorSpec("x", (1, 100), np.dtype(np.int8), (0.5,), (0,))  # -64 to 63.5
FLOAT = TensorSpec("x", (1, 100), np.dtype(np.float32))


def looked(tensor: TensorSpec, *windows: Array, pixels: Any = None) -> Clipping:
    clipping = Clipping([tensor], pixels)
    for window in windows:
        clipping.look([window], 0)
    return clipping


def row(value: float, count: int = 100) -> Array:
    """Return a window of zeros that has a value ``count`` times."""
    values = np.zeros((1, 100), np.float32)
    values[0, :count] = value
    return values


@pytest.mark.parametrize(
    ("value", "count", "clipped"),
    [(63.5, 100, 0), (64.0, 100, 0), (64.1, 100, 1), (-64.5, 100, 0), (-65, 100, 1), (1000, 1, 0), (1000, 2, 1)],
)
def test_a_window_is_clipped_if_many_of_its_values_lie_more_than_a_step_outside(
    value: float, count: int, clipped: int
) -> None:
    assert looked(INT8, row(value, count)).take() == (1, clipped)


def test_values_that_are_no_numbers_count_as_clipped_and_floats_are_never_clipped() -> None:
    assert looked(INT8, row(np.nan)).take() == (1, 1)
    clipping = Clipping([FLOAT], None)
    assert not clipping.measures
    assert clipping.due > 1 << 62


def test_bytes_count_as_what_they_stand_for() -> None:
    image = np.arange(256, dtype=np.uint8).reshape(1, 256)
    pixels = np.arange(256, dtype=np.float32)
    assert looked(INT8, image, pixels=pixels).take() == (1, 1)
    assert looked(INT8, image, pixels=pixels / 4).take() == (1, 0)


def test_many_clipped_windows_are_news_once_until_they_stop() -> None:
    clipping = looked(INT8, *[row(1)] * FEWEST)
    assert clipping.news() == ""
    for value, news in ((99, True), (99, False), (1, False), (99, True)):
        for _ in range(FEWEST):
            assert clipping.news() == ""
            clipping.look([row(value)], 0)
        assert clipping.news().startswith(f"{FEWEST} of {FEWEST} windows") == news


def block(index: int, count: int, step_ns: int, *, gap: bool = False, start: int = 0) -> Samples:
    stamps = start + np.arange(index, index + count, dtype=np.int64) * step_ns
    return Samples(np.zeros((count, 1), np.float32), stamps, stamps, index, gap)


def watched(rate: float, blocks: Sequence[Samples], tolerance: float = 0.05) -> tuple[list[bool], str]:
    watch = RateWatch(rate, tolerance)
    return [watch.see(samples) for samples in blocks], watch.reason


def test_another_rate_is_found_after_a_while_and_forgotten_when_it_is_right_again() -> None:
    slow = [block(n, 10, 20_000_000) for n in range(0, 300, 10)]
    changed, reason = watched(100.0, slow)
    assert sum(changed) == 1
    assert reason.startswith("samples come at 50 a second, and the model is made for 100")
    right = [block(n, 100, 10_000_000, gap=n == 300) for n in range(300, 2000, 100)]
    changed, reason = watched(100.0, [*slow, *right])
    assert (sum(changed), reason) == (2, "")


@pytest.mark.parametrize(("rate", "tolerance"), [(46.0, 0.05), (54.0, 0.0), (100.0, 0.5)])
def test_a_rate_within_its_tolerance_is_right(rate: float, tolerance: float) -> None:
    assert watched(rate, [block(n, 1, 20_000_000) for n in range(1000)], tolerance) == ([False] * 1000, "")


def test_gaps_do_not_lower_the_rate() -> None:
    pieces = [block(n * 1000, 50, 20_000_000, gap=True) for n in range(40)]
    assert watched(50.0, pieces)[1] == ""


def test_batches_are_looked_at_as_well(tmp_path: Path) -> None:
    models.dense(tmp_path / "m.tflite", 1, 1, batch=-1)
    wanted = PipelineConfig(source="s", model="m.tflite", decoder={"kind": "regress"})
    spec = SampleSpec((1,), np.dtype(np.float32))
    with Pipeline(plan_pipeline(single(tmp_path, wanted), "p", spec)) as pipeline:
        samples = block(0, 200, 1000)
        samples.values[:] = 99
        assert len(list(pipeline.feed(samples))) == 200
        looked_at, clipped = pipeline.clipping.take()
    assert looked_at == clipped >= 1


CONFIGURATION = """
[device]
id = "d"
state = "state"
health_interval = 1

[jsonl]
path = "said.jsonl"

[sources.s]
kind = "replay"
path = "recording.csv"

[pipelines.p]
source = "s"
model = "m-1.limpet"
transforms = []
"""


def test_the_daemon_reports_clipped_inputs_a_wrong_rate_and_a_missing_transform(tmp_path: Path) -> None:
    model = models.dense(tmp_path / "m.tflite", 1, 1)
    bundle(
        tmp_path / "m-1.limpet",
        {"model.tflite": model.read_bytes()},
        rate=100.0,
        transforms=[{"kind": "normalise", "std": 50.0}],
        decoder={"kind": "regress"},
    )
    times = np.cumsum(np.random.default_rng(0).uniform(0.01, 0.03, 3000))
    (tmp_path / "recording.csv").write_text("time,x\n" + "".join(f"{t:.4f},99\n" for t in times))
    path = tmp_path / "limpet.toml"
    path.write_text(CONFIGURATION)

    def said() -> list[dict[str, Any]]:
        lines = (tmp_path / "said.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines if line.endswith("}")]

    def found() -> bool:
        events = {message.get("event") for message in said()}
        reasons = [message.get("reason", "") for message in said() if message["type"] == "pipeline-health"]
        return {"warning", "clipped", "rate"} <= events and any("made for 100" in reason for reason in reasons)

    with daemon(path):
        wait_until((tmp_path / "said.jsonl").exists)
        wait_until(found, 30)
    shares = [message["clipped"] for message in said() if message["type"] == "pipeline-health"]
    assert shares[-1] == 1.0

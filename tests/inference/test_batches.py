"""Windows that go through the model side by side give what they give one by one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from limpet.config import PipelineConfig
from limpet.contracts.assignment import PipelineOptions
from limpet.contracts.data import Samples, SampleSpec
from limpet.contracts.fields import WindowSpec
from limpet.inference import batches
from limpet.inference.pipeline import Pipeline
from limpet.inference.planning import plan_pipeline
from limpet.inference.single import plan_model
from limpet.wire.records import Answered, Ask, Capture
from limpet.worker.commands import answer
from limpet.worker.explanations import Explanations
from limpet.worker.running import RunningPipeline
from limpet.worker.snapshots import Snapshots
from support import models
from support.assigned import single

if TYPE_CHECKING:
    from collections.abc import Iterator

    from limpet.contracts.data import Window
    from limpet.inference.plan import PipelinePlan
    from limpet.wire.records import Result

SHUTTLE = Path(__file__).parents[2] / "agent/limpet/demo_data/shuttle-1.limpet"
CHANNELS = 9


def _plan(cache: Path, **wanted: Any) -> PipelinePlan:
    """Return the plan of the demo's model, with what is ``wanted`` otherwise."""
    pipeline = PipelineConfig(source="s", model=str(SHUTTLE), **wanted)
    manifest = plan_model(SHUTTLE, None, ["cpu"], cache).bundle.manifest
    names = tuple(manifest.inputs[0].channels)
    return plan_pipeline(
        single(cache, pipeline, "demo"), "demo", SampleSpec((CHANNELS,), np.dtype(np.float32), names)
    )


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def _blocks(sizes: list[tuple[int, bool]], missing: float = 0.0) -> Iterator[Samples]:
    """Yield noise in blocks, each so long and with or without a gap before; a share of it is NaN."""
    rng = np.random.default_rng(0)
    index = 0
    for size, gap in sizes:
        index += 5 * gap
        values = rng.normal(40, 30, (size, CHANNELS)).astype(np.float32)
        values[rng.random(size) < missing] = np.nan
        stamps = np.arange(index, index + size, dtype=np.int64) * 1000
        yield Samples(values, stamps, stamps + 7, index, gap)
        index += size


def _one_by_one(block: Samples) -> Iterator[Samples]:
    for n in range(len(block)):
        part = slice(n, n + 1)
        yield Samples(
            block.values[part],
            block.monotonic_ns[part],
            block.wall_ns[part],
            block.index + n,
            block.gap and n == 0,
        )


def _said(results: list[Result]) -> list[Any]:
    """Return all that does not depend on how fast it went."""
    assert all(result.latency_ns > 0 for result in results)
    return [msgspec.to_builtins(replace(result, latency_ns=0)) for result in results]


REGRESS = {"decoder": {"kind": "regress"}}
HYSTERESIS = {"kind": "anomaly", "threshold": 2.0, "release": 1.0, "rise": 2, "fall": 3}


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"decoder": HYSTERESIS},
        {"decoder": HYSTERESIS | {"metric": "mae"}},
        REGRESS,
        {"window": WindowSpec(size=1, hop=2)},
    ],
)
@settings(max_examples=8)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 200), st.booleans()), min_size=1, max_size=5),
    every=st.integers(1, 3),
)
def test_same_results_in_the_same_order(
    cache: Path, wanted: dict[str, Any], sizes: list[tuple[int, bool]], every: int
) -> None:
    # What a quantized model makes of NaN is left open; the decoder anomaly makes no score of it.
    missing = 0.0 if wanted == REGRESS else 0.02
    plan = replace(_plan(cache, **wanted), every=every)
    assert batches.suited(plan)
    with Pipeline(plan) as together, Pipeline(plan) as alone, np.errstate(all="ignore"):
        many = [result for block in _blocks(sizes, missing) for result in together.feed(block)]
        ones = [
            result
            for block in _blocks(sizes, missing)
            for sample in _one_by_one(block)
            for result in alone.feed(sample)
        ]
        assert _said(many) == _said(ones)
        counted = {stage: sum(buckets.values()) for stage, buckets in together.latency.take().items()}
        assert set(counted.values()) == {len(many)}


def test_a_window_is_captured_out_of_a_backlog(cache: Path) -> None:
    answers: list[Answered] = []
    with Pipeline(_plan(cache)) as pipeline:
        first, second = _blocks([(200, False), (200, False)])
        assert len(list(pipeline.feed(first))) == 200
        running = {"demo": RunningPipeline(pipeline, PipelineOptions(), 0)}
        sent: list[Any] = []
        explanations = Explanations(answers.append)
        answer(Ask(7, Capture("demo")), running, Snapshots(sent.append), explanations, answers.append)
        assert len(list(pipeline.feed(second))) == 200
    (captured,) = answers
    assert (captured.number, captured.error) == (7, "")
    assert captured.result.inputs[0].shape == [1, CHANNELS]


def test_a_batch_s_results_have_its_time(cache: Path) -> None:
    with Pipeline(_plan(cache)) as pipeline:
        (block,) = _blocks([(64, False)])
        block.monotonic_ns[:] = 0
        latencies = {result.latency_ns for result in pipeline.feed(block)}
        assert len(latencies) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"stateful": True},
        {"transforms": [{"kind": "statistics", "features": ["mean"]}]},
        {"delegates": ["gpu", "cpu"]},
        {"large": True},
    ],
    ids=lambda change: next(iter(change)),
)
def test_not_for_every_pipeline(cache: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    plan = _plan(cache)
    if "stateful" in change:
        plan = _plan(cache, stateful=True)
    elif "large" in change:
        model = tmp_path / "large.tflite"
        model.write_bytes(bytes(batches.SMALL + 1))
        plan = replace(plan, bundle=replace(plan.bundle, model=model))
    elif "delegates" in change:
        plan = _plan(cache, **change)
    else:
        plan = _plan(cache, **change)
    assert not batches.suited(plan)


def test_not_for_a_model_with_a_closed_batch(tmp_path: Path) -> None:
    path = models.dense(tmp_path / "closed.tflite", inputs=4, outputs=4)
    plan = plan_model(path, None, ["cpu"], tmp_path)
    assert not batches.suited(plan)


def test_who_observes_a_pipeline_sees_the_same_windows_one_by_one_and_side_by_side(cache: Path) -> None:
    (block,) = _blocks([(50, False)])
    seen: list[list[Any]] = []
    for blocks in ([block], _one_by_one(block)):
        looks: list[Any] = []
        with Pipeline(_plan(cache)) as pipeline:

            def look(window: Window, result: Result, looks: list[Any] = looks) -> None:
                assert window.samples is not None
                sizes = [len(window.inputs), len(window.outputs)]
                looks.append([window.samples.tolist(), result.sample, result.output.score, sizes])

            pipeline.observe(look)
            results = [result for one in blocks for result in pipeline.feed(one)]
        assert [result.sample for result in results] == [one[1] for one in looks]
        seen.append(looks)
    assert len(seen[0]) == 50
    for side, alone in zip(*seen, strict=True):
        assert side[:2] == alone[:2]
        assert side[2] == pytest.approx(alone[2], abs=1e-4)
        assert side[3] == alone[3] == [1, 1]

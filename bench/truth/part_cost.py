"""What monitors cost: a share of the pipeline's own time, and memory.

The keyword model is that of bench/truth/models.py, with the reference in its bundle. The vision model is
EfficientNet-Lite0, int8. The face detector of the demo is as small as vision models get. Their references are made
here, of the frames that they are measured with. Each runs in rounds, with all monitors and without, by turns.
"""

from __future__ import annotations

import gc
import os
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from limpet import plugins
from limpet.config import PipelineConfig
from limpet.contracts.data import Samples, SampleSpec
from limpet.contracts.reference import EmbeddingReference, FeatureReference, Reference
from limpet.inference.gathering import Embeddings, Gathered, Gathering
from limpet.inference.monitoring import Monitoring
from limpet.inference.pipeline import Pipeline
from limpet.inference.plan import MonitorPlan
from limpet.inference.single import plan_model
from limpet.monitors._effective import autocorrelation_times
from limpet.pictures.frame import as_frames
from limpet_convert import bundle_reference

sys.path.insert(0, str(Path(__file__).parents[1]))
from fetch import vision_model

if TYPE_CHECKING:
    from limpet.contracts.drift import MonitorFigures
    from limpet.inference.plan import PipelinePlan

ROOT = Path(__file__).parents[2]
KEYWORDS = ROOT / "build" / "truth" / "models" / "keywords"
FACES = ROOT / "agent" / "limpet" / "demo_data" / "face-detection-1.limpet"
ROUNDS = 5
KEYWORD_SECONDS = 140
ALL = MonitorPlan(1.0)
"""The whole of the pipeline's time: so no window is skipped, and all of the cost shows."""


class Case(NamedTuple):
    """A pipeline, where its reference is, and what it is fed."""

    plan: PipelinePlan
    reference: Path
    blocks: list[Samples]


class Cost(NamedTuple):
    """``share``: of the pipeline's time, as the monitors measure it. ``difference``: of rounds with and without.

    ``window_us`` and ``monitors_us``: of a window, without monitors and of the monitors alone. ``kept_bytes``: of
    memory after all windows. ``usual`` and ``skipped``: share of time within the usual limit, and of windows that
    are skipped for it.
    """

    share: float
    difference: float
    window_us: float
    monitors_us: float
    kept_bytes: int
    monitors: int
    usual: float
    skipped: float


def measure() -> tuple[dict[str, Any], str]:
    """Return the figures, and the section of the page."""
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as scratch:
        costs = {name: cost(make(Path(scratch))) for name, make in CASES.items()}
    figures = {
        "monitor_cost": {name: round(one.usual, 5) for name, one in costs.items()},
        "monitor_bytes": {name: one.kept_bytes for name, one in costs.items()},
    }
    return figures, section(costs, max(before, os.getloadavg()[0]))


def keywords(scratch: Path) -> Case:
    """Return the keyword model on its test windows, again and again."""
    samples = np.load(KEYWORDS / "samples.npz")["test"].astype(np.float32)
    sound = samples.reshape(-1, 1)
    (bundle,) = KEYWORDS.glob("*.limpet")
    spec = SampleSpec((1,), np.dtype(np.float32), (), 16_000.0)
    plan = plan_model(bundle, spec, ["cpu"], scratch)
    if plan.bundle.reference is None:
        raise ValueError(f"{bundle} has no reference; run bench/truth/models.py keywords")
    count = min(len(sound), KEYWORD_SECONDS * 16_000)
    return Case(plan, plan.bundle.reference, _blocks(sound[:count], 1600))


def vision(scratch: Path) -> Case:
    """Return EfficientNet-Lite0 on frames."""
    wanted = PipelineConfig(
        source="samples",
        model="",
        transforms=[
            {"kind": "resize", "height": 224, "width": 224},
            {"kind": "normalise", "mean": 127.0, "std": 128.0},
        ],
        decoder={"kind": "classify"},
    )
    return _of_frames(vision_model(), scratch, 512, wanted)


def faces(scratch: Path) -> Case:
    """Return the face detector on frames."""
    return _of_frames(FACES, scratch, 1024, None)


def _of_frames(model: Path, scratch: Path, count: int, wanted: PipelineConfig | None) -> Case:
    """Return a model on frames of noise that become brighter and darker."""
    random = np.random.default_rng(0)
    light = 128 + 60 * np.sin(np.arange(64) / 5)[:, np.newaxis, np.newaxis, np.newaxis]
    pictures = np.clip(random.normal(light, 40, (64, 240, 320, 3)), 0, 255).astype(np.uint8)
    spec = SampleSpec((240, 320, 3), np.dtype(np.uint8), frames=True)
    plan = plan_model(model, spec, ["cpu"], scratch, wanted)
    blocks = _blocks(as_frames(pictures)[np.arange(count) % 64], 1)
    path = scratch / f"{model.stem}.json"
    path.write_bytes(msgspec.json.encode(reference(plan, blocks)))
    return Case(plan, path, blocks)


def _blocks(values: np.ndarray, size: int) -> list[Samples]:
    times = np.arange(len(values)) * 62_500
    return [
        Samples(values[first : first + size], times[first : first + size], times[first : first + size], first)
        for first in range(0, len(values), size)
    ]


def reference(plan: PipelinePlan, blocks: list[Samples]) -> Reference:
    """Return the reference of windows, as ``limpet-convert`` would make it."""
    seen: list[Gathered] = []
    with Pipeline(plan) as pipeline:
        gathering = Gathering(pipeline)
        pipeline.observe(gathering.see)
        for block in blocks:
            list(pipeline.feed(block))
            if len(gathering) > gathering.block - 2 or block is blocks[-1]:
                seen.append(Gathered._make(map(np.array, gathering.take())))
    gathered = Gathered._make(np.concatenate(columns) for columns in zip(*seen, strict=True))
    columns = gathered.features.astype(np.float64)
    times = autocorrelation_times(columns)
    features = [
        FeatureReference(
            name=one.name,
            mean=float(column.mean()),
            std=float(column.std()),
            quantiles=np.quantile(column, np.linspace(0, 1, 65)).tolist(),
            effective=max(1.0, len(column) / float(worth)),
        )
        for one, column, worth in zip(gathering.features.features, columns.T, times, strict=True)
    ]
    embed = Embeddings(features, gathered.outputs.shape[1], whole=gathering.whole)
    embeddings = embed(gathered.features, gathered.outputs)
    covariance = np.cov(embeddings.T) + 1e-3 * np.eye(embeddings.shape[1])
    made = Reference(
        windows=len(columns),
        rate=30.0,
        features=features,
        embedding=EmbeddingReference(
            seed=embed.projection.seed,
            of=embed.of,
            mean=embeddings.mean(axis=0).tolist(),
            precision=np.linalg.inv(covariance).tolist(),
        ),
    )
    runs = np.zeros(len(columns), np.int64)
    windows = bundle_reference.Seen(
        gathered, runs, np.arange(len(columns)), gathering.features.features, gathering.whole, 30.0
    )
    bundle_reference.calibrate(made, windows, embeddings, {}, [])
    return made


def cost(case: Case) -> Cost:
    """Run a case with monitors and without, by turns. The fastest rounds count: others were disturbed."""
    without, with_monitors, shares, spent = [], [], [], []
    for _ in range(ROUNDS):
        without.append(_round(case, watched=False)[0])
        took, figures = _round(case, watched=True)
        assert figures is not None
        with_monitors.append(took)
        shares.append(figures.spent_us / figures.busy_us)
        spent.append(figures.spent_us / (figures.windows + figures.skipped))
    _, usual = _round(case, watched=True, plan=MonitorPlan(None))
    assert usual is not None
    best = min(without)
    return Cost(
        share=min(shares),
        difference=(min(with_monitors) - best) / best,
        window_us=best,
        monitors_us=min(spent),
        kept_bytes=kept_bytes(case),
        monitors=len(plugins.names("monitors")),
        usual=usual.spent_us / usual.busy_us,
        skipped=usual.skipped / (usual.windows + usual.skipped),
    )


def _round(case: Case, *, watched: bool, plan: MonitorPlan = ALL) -> tuple[float, MonitorFigures | None]:
    """Return how many µs a window took, and what the monitors report."""
    with Pipeline(case.plan) as pipeline:
        monitoring = Monitoring(pipeline, plan, case.reference) if watched else None
        began, windows = time.perf_counter(), 0
        for block in case.blocks * (1 if plan is ALL else 2):
            windows += sum(1 for _ in pipeline.feed(block))
        took = (time.perf_counter() - began) / windows * 1e6
        if monitoring is None:
            return took, None
        if plan is ALL:  # Otherwise the last block waits until there is time for it, as in a daemon.
            monitoring.finish()
        if monitoring.problem:
            raise ValueError(monitoring.problem)
        return took, monitoring.figures()


def kept_bytes(case: Case) -> int:
    """Return what all monitors of a pipeline keep in memory after its windows: their own and the host's."""
    with Pipeline(case.plan) as pipeline:
        for _ in pipeline.feed(case.blocks[0]):
            pass
        warm = Monitoring(pipeline, ALL, case.reference)  # Modules that are imported are not a pipeline's.
        pipeline.stop_observing(warm.see)
        gc.collect()
        tracemalloc.start()
        monitoring = Monitoring(pipeline, ALL, case.reference)
        for block in case.blocks:
            for _ in pipeline.feed(block):
                pass
        monitoring.finish()
        gc.collect()
        kept = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        return kept


CASES = {"keyword": keywords, "vision": vision, "small_vision": faces}


def section(costs: dict[str, Cost], load: float) -> str:
    """Return the section of the page. ``load``: processes that ran or waited for a processor meanwhile."""
    names = {
        "keyword": "ten words",
        "vision": "EfficientNet-Lite0, int8",
        "small_vision": "the demo's face detector",
    }
    rows = [
        f"| {names[name]} | {one.window_us:.0f} µs | {one.monitors_us:.1f} µs | {one.share:.2%} | "
        f"{one.difference:+.2%} | {one.usual:.2%} | {one.skipped:.0%} | {one.kept_bytes / 1000:.0f} kB |"
        for name, one in costs.items()
    ]
    busy = BUSY.format(load=load, cores=os.cpu_count()) if load > (os.cpu_count() or 1) else ""
    return "\n".join([HEAD, *rows, FOOT + busy])


HEAD = """## What monitors cost

*Share* is that of monitors that look at all windows. On a device they may take 5 % of the pipeline's time by
default, and 1 % for pictures. *Within the limit* is what they take then; *skipped* are windows left out for it.

| model | a window | its monitors | share | measured by turns | within the limit | skipped | memory |
| --- | --- | --- | --- | --- | --- | --- | --- |"""
FOOT = f"""
Shares are what the monitors measure of themselves, as in health. *Measured by turns*: how much longer the fastest
of {ROUNDS} rounds took with monitors than without. *Memory*: of the monitors and their host, after all windows.
"""
BUSY = """
The machine was busy: {load:.0f} processes shared {cores} processors. So times vary, and differences by turns say
nothing.
"""

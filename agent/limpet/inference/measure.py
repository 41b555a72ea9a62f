"""How much time a pipeline adds to the model: both run in turn, in one process."""

from __future__ import annotations

from statistics import median
from time import monotonic_ns, perf_counter
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from limpet.contracts.data import Samples
from limpet.histogram import quantile
from limpet.inference.pipeline import Pipeline
from limpet.runtimes import tflite

if TYPE_CHECKING:
    from collections.abc import Callable

    from limpet.inference.plan import PipelinePlan

BLOCK = 256
"""Samples in a block, as a recording played flat out has them; fewer of images."""


class Throughput(msgspec.Struct, kw_only=True):
    """Microseconds an inference: ``bare_us`` of ``invoke()`` alone, ``pipeline_us`` from samples to result.

    ``throughput_ratio`` is the median over the rounds of bare by pipeline. ``stages_us`` has each stage's median.
    """

    bare_us: float
    pipeline_us: float
    throughput_ratio: float
    rounds: int
    inferences: int
    stages_us: dict[str, float]


def throughput(plan: PipelinePlan, seconds: float = 5.0, rounds: int = 20) -> Throughput:
    """Run bare and whole in turn for about ``seconds``."""
    with Pipeline(plan) as pipeline:
        feed = _feeder(pipeline)
        bare = _bare(plan)
        made = feed()
        bare()
        pipeline.latency.take()
        blocks = max(1, round(seconds / rounds / 2 / max(_time(feed), 1e-6)))
        repeats = max(1, made) * blocks
        bares, wholes, inferences = [], [], 0
        for _ in range(rounds):
            bares.append(_time(bare, repeats) / repeats)
            started = perf_counter()
            count = sum(feed() for _ in range(blocks))
            wholes.append((perf_counter() - started) / count)
            inferences += count
        stages = pipeline.latency.take()
    return Throughput(
        bare_us=round(median(bares) * 1e6, 3),
        pipeline_us=round(median(wholes) * 1e6, 3),
        throughput_ratio=round(median(b / w for b, w in zip(bares, wholes, strict=True)), 4),
        rounds=rounds,
        inferences=inferences,
        stages_us={stage: round((quantile(buckets, 0.5) or 0.0) / 1000, 3) for stage, buckets in stages.items()},
    )


def _bare(plan: PipelinePlan) -> Callable[[], object]:
    """Return ``invoke`` of a runtime that nothing of Limpet stands around, on noise as the pipeline has it.

    The zeros that inputs are allocated with would be faster, by 4 % for EfficientNet-Lite0.
    """
    interpreter = tflite.Interpreter(model_path=str(plan.bundle.model), num_threads=plan.runtime.config.threads)
    interpreter.allocate_tensors()
    noise = np.random.default_rng(0)
    for details in interpreter.get_input_details():
        shape, dtype = details["shape"], np.dtype(details["dtype"])
        if dtype.kind == "f":
            interpreter.set_tensor(details["index"], noise.normal(size=shape).astype(dtype))
        elif dtype.itemsize == 1 and dtype.kind in "ui":  # Larger integers may be indices.
            interpreter.set_tensor(details["index"], noise.integers(0, 256, shape).astype(np.uint8).view(dtype))
    invoke: Callable[[], object] = interpreter.invoke
    return invoke


def _time(call: Callable[[], object], repeats: int = 1) -> float:
    started = perf_counter()
    for _ in range(repeats):
        call()
    return perf_counter() - started


def _feeder(pipeline: Pipeline) -> Callable[[], int]:
    """Return a function that feeds a block of noise and counts the results."""
    spec = pipeline.plan.spec
    noise = np.random.default_rng(0)
    count = BLOCK if len(spec.shape) == 1 else 8
    integers = spec.dtype.kind in "ui"
    values = noise.integers(0, 256, (count, *spec.shape)) if integers else noise.normal(size=(count, *spec.shape))
    values = values.astype(spec.dtype)
    index = 0

    def feed() -> int:
        nonlocal index
        stamps = np.full(count, monotonic_ns(), np.int64)
        samples = Samples(values, stamps, stamps, index)
        index += count
        return sum(1 for _ in pipeline.feed(samples))

    while not feed():  # until a first window is whole
        pass
    return feed

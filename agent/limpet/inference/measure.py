"""How much time a pipeline adds to the model: both run in turn, in one process."""

from __future__ import annotations

from itertools import cycle
from statistics import median
from time import monotonic_ns, perf_counter
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
import numpy as np

from limpet.contracts.data import Samples
from limpet.errors import ModelError
from limpet.histogram import merge, quantile
from limpet.inference.pipeline import Pipeline
from limpet.pictures.frame import frames_of_noise
from limpet.runtimes import tflite
from limpet.runtimes.litert import quiet_start

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from limpet.contracts.data import Array
    from limpet.inference.plan import PipelinePlan

Loop: TypeAlias = "Callable[[], object]"
"""What runs the model once."""

BLOCK = 256
"""Samples in a block, as a recording played flat out has them."""
IMAGES = 8
"""The same of images."""
OPENED = 5
"""How often the model is opened."""


class Throughput(msgspec.Struct, kw_only=True):
    """Microseconds an inference: ``bare_us`` of ``invoke()`` alone, ``pipeline_us`` from samples to result.

    ``fed_us`` is that of a loop that copies new inputs in, invokes, and copies the outputs out.
    ``throughput_ratio`` is the median over the rounds of bare by pipeline, ``fed_ratio`` that of fed by pipeline.
    ``stages_us`` has each stage's median.
    """

    bare_us: float
    fed_us: float
    pipeline_us: float
    throughput_ratio: float
    fed_ratio: float
    rounds: int
    inferences: int
    stages_us: dict[str, float]


class _Times(msgspec.Struct):
    """Seconds an inference of each loop, round by round, and histograms of the pipeline's stages."""

    bare: list[float] = []
    fed: list[float] = []
    whole: list[float] = []
    inferences: int = 0
    stages: dict[str, dict[int, int]] = {}

    def ratio(self, loop: Sequence[float]) -> float:
        """Return the median over the rounds of a loop by the pipeline."""
        return round(median(a / b for a, b in zip(loop, self.whole, strict=True)), 4)


def throughput(plan: PipelinePlan, seconds: float = 5.0, rounds: int = 20) -> Throughput:
    """Run bare, fed and whole in turn for about ``seconds``.

    The model is opened several times: the address of its memory makes it faster or slower by a percent.
    ``ModelError`` if it is no TFLite model.
    """
    if plan.runtime.kind != "tflite":
        raise ModelError(f"limpet bench measures TFLite models; this one runs on {plan.runtime.kind!r}")
    times = _Times()
    for number in range(OPENED):
        loops = (_bare(plan), _fed(plan)) if number % 2 else None  # Those opened first may be better.
        with Pipeline(plan) as pipeline:
            _measure(times, loops or (_bare(plan), _fed(plan)), pipeline, seconds / OPENED, -(-rounds // OPENED))
    return Throughput(
        bare_us=round(median(times.bare) * 1e6, 3),
        fed_us=round(median(times.fed) * 1e6, 3),
        pipeline_us=round(median(times.whole) * 1e6, 3),
        throughput_ratio=times.ratio(times.bare),
        fed_ratio=times.ratio(times.fed),
        rounds=len(times.whole),
        inferences=times.inferences,
        stages_us={name: round((quantile(one, 0.5) or 0.0) / 1000, 3) for name, one in times.stages.items()},
    )


def _measure(times: _Times, loops: tuple[Loop, Loop], pipeline: Pipeline, seconds: float, rounds: int) -> None:
    """Run two loops and the pipeline in turn, and add how long they took."""
    bare, fed = loops
    feed = _feeder(pipeline)
    made = feed()
    bare()
    fed()
    pipeline.latency.take()
    blocks = max(1, round(seconds / rounds / 3 / max(_time(feed), 1e-6)))
    repeats = max(1, made) * blocks
    for _ in range(rounds):
        times.bare.append(_time(bare, repeats) / repeats)
        times.fed.append(_time(fed, repeats) / repeats)
        started = perf_counter()
        count = sum(feed() for _ in range(blocks))
        times.whole.append((perf_counter() - started) / count)
        times.inferences += count
    for stage, buckets in pipeline.latency.take().items():
        merge(times.stages.setdefault(stage, {}), buckets)


def _bare(plan: PipelinePlan) -> Loop:
    """Return ``invoke`` of a runtime that nothing of Limpet stands around, on noise as the pipeline has it.

    The zeros that inputs are allocated with would be faster, by 4 % for EfficientNet-Lite0.
    """
    interpreter = _interpreter(plan)
    for index, value in _noise(interpreter, np.random.default_rng(0)):
        interpreter.set_tensor(index, value)
    invoke: Loop = interpreter.invoke
    return invoke


def _fed(plan: PipelinePlan) -> Loop:
    """Return what sets inputs that were not those before, invokes, and gets the outputs."""
    interpreter = _interpreter(plan)
    noise = np.random.default_rng(0)
    inputs = cycle([_noise(interpreter, noise) for _ in range(IMAGES)])
    outputs = [details["index"] for details in interpreter.get_output_details()]

    def fed() -> list[Any]:
        for index, value in next(inputs):
            interpreter.set_tensor(index, value)
        interpreter.invoke()
        return [interpreter.get_tensor(index) for index in outputs]

    return fed


def _interpreter(plan: PipelinePlan) -> Any:
    quiet_start.hide_greeting(tflite.Interpreter)
    interpreter = tflite.Interpreter(model_path=str(plan.bundle.model), num_threads=plan.runtime.config.threads)
    interpreter.allocate_tensors()
    return interpreter


def _noise(interpreter: Any, noise: np.random.Generator) -> list[tuple[int, Array]]:
    """Return noise for the inputs. Those whose values may be indices are left out."""
    values: list[tuple[int, Array]] = []
    for details in interpreter.get_input_details():
        shape, dtype = details["shape"], np.dtype(details["dtype"])
        if dtype.kind == "f":
            values.append((details["index"], noise.normal(size=shape).astype(dtype)))
        elif dtype.itemsize == 1 and dtype.kind in "ui":
            values.append((details["index"], noise.integers(0, 256, shape).astype(np.uint8).view(dtype)))
    return values


def _time(call: Callable[[], object], repeats: int = 1) -> float:
    started = perf_counter()
    for _ in range(repeats):
        call()
    return perf_counter() - started


def _feeder(pipeline: Pipeline) -> Callable[[], int]:
    """Return a function that feeds a block of noise and counts the results."""
    spec = pipeline.plan.spec
    noise = np.random.default_rng(0)
    count = BLOCK if len(spec.shape) == 1 else IMAGES
    integers = spec.dtype.kind in "ui"
    if spec.frames:
        values = frames_of_noise((count, *spec.shape), noise)
    elif integers:
        values = noise.integers(0, 256, (count, *spec.shape)).astype(spec.dtype)
    else:
        values = noise.normal(size=(count, *spec.shape)).astype(spec.dtype)
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

"""Proof that a delegate is right and worth having: the same inputs on it and on the CPU."""

from __future__ import annotations

from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
import numpy as np

from limpet.accelerators.placement import Proof, TimeShare, borders, why_not_worth
from limpet.errors import ModelError, WrongOutputsError
from limpet.models.golden import check_golden
from limpet.models.tflite import model_graph
from limpet.runtimes.litert import bindings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from limpet.contracts.data import Array, TensorSpec
    from limpet.contracts.placement import Placement
    from limpet.contracts.runtime import Model
    from limpet.models.bundle import Bundle
    from limpet.models.tflite.model_graph import ModelGraph

Vector: TypeAlias = "tuple[Sequence[Array], Sequence[Array] | None]"
"""Inputs, and the outputs that are expected; ``None`` for those of the CPU."""

_STEPS = 8
"""Quantization steps by which outputs may differ: sound executors of one int8 model were seen to by 6."""
_FLOAT_SHARE = 0.01
"""Share of the largest expected value by which float outputs may differ: GPUs and NPUs compute in 16 bits."""


def prove(
    delegate: Model,
    cpu: Model,
    vectors: Sequence[Vector],
    tolerance: float | None = None,
    seconds: float = 0.5,
) -> Proof:
    """Run every vector on both, then both in turn for about ``seconds``.

    ``tolerance``: largest absolute difference of real values; without it, what executors were seen to differ by.
    ``ModelError`` where either fails to run, or gives outputs of another shape.
    """
    error, allowed = 0.0, 0.0
    for inputs, expected in vectors:
        wanted = [np.array(output) for output in cpu.run(inputs)] if expected is None else expected
        error = max(error, _error(delegate.run(inputs), wanted))
        allowed = max(allowed, _allowed(cpu.outputs, wanted))
    ours, theirs = _race(delegate, cpu, [inputs for inputs, _ in vectors], seconds)
    return Proof(
        vectors=len(vectors),
        error=error,
        tolerance=allowed if tolerance is None else tolerance,
        delegate_us=ours,
        cpu_us=theirs,
    )


def admit(  # noqa: PLR0913 - what is compared, and how strictly
    bundle: Bundle,
    delegate: Model,
    cpu: Model,
    least_speed: float = 1.0,
    seconds: float = 0.5,
    *,
    alone: bool = False,
) -> Proof:
    """Let a delegate in that gives the bundle's golden outputs and is fast enough.

    Where the bundle has no golden vectors, the CPU's outputs for noise are the judge. ``ModelError`` says why it
    is not let in, ``WrongOutputsError`` if its numbers are wrong. How much of the model is on it is another
    question, see ``placement.shortfall``.
    ``alone`` as for ``check_golden``.
    """
    proof = prove(delegate, cpu, noise(cpu), seconds=seconds)
    if bundle.golden is not None:
        allowed = bundle.manifest.tolerance.absolute
        proof = msgspec.structs.replace(
            proof, error=check_golden(bundle, delegate, alone=alone), tolerance=allowed
        )
    if reason := why_not_worth(proof, least_speed):
        kind = ModelError if proof.right else WrongOutputsError
        raise kind(f"delegate {delegate.delegate!r}: {reason}")
    return proof


def noise(model: Model, count: int = 3, seed: int = 0) -> list[Vector]:
    """Return vectors of noise over the range of each input, for a model that has no golden ones."""
    return [(bindings.noise(model.inputs, seed + number), None) for number in range(count)]


def time_share(
    path: Path, placement: Placement, make: Callable[..., Any], total_us: float, seconds: float = 1.0
) -> TimeShare:
    """Estimate where the time of a run on a delegate goes, of which ``total_us`` is the whole.

    No TFLite runtime reports times by op to Python. So models that are the beginning of this one run on the CPU,
    and the difference of two is the time of the ops between. ``make`` is the runtime's ``Interpreter``. Each takes
    its share of ``seconds`` and at least two runs; the shortest counts, as others on this machine only add time.
    """
    data = path.read_bytes()
    graph = model_graph.read(data)
    runs = borders(placement)
    ends = sorted({len(graph.ops), *(end for run in runs for end in run)} - {0})
    whole = _beginning_us(data, graph, ends[-1], make, seconds / len(ends))
    times = {0: 0.0}
    before = 0.0
    for end in ends[:-1]:
        # More ops cannot take less time: what looks so is the machine's noise.
        before = min(max(before, _beginning_us(data, graph, end, make, seconds / len(ends))), whole)
        times[end] = before
    times[ends[-1]] = whole
    return TimeShare(
        total_us=total_us, cpu_us=whole, left_us=sum(times[last] - times[first] for first, last in runs)
    )


def _beginning_us(data: bytes, graph: ModelGraph, end: int, make: Callable[..., Any], seconds: float) -> float:
    if end < len(graph.ops):
        outputs = [output for op in graph.ops[:end] for output in op.outputs]
        if not outputs:
            return 0.0
        data = model_graph.beginning(data, end, outputs[-1])
    try:
        interpreter = make(model_content=data, num_threads=1)
        interpreter.allocate_tensors()
        return _shortest_us(interpreter.invoke, seconds)
    except (ValueError, RuntimeError) as error:
        raise ModelError(f"the first {end} ops alone cannot be run: {error}") from error


def _race(delegate: Model, cpu: Model, inputs: Sequence[Sequence[Array]], seconds: float) -> tuple[float, float]:
    """Return the medians of both in µs. They run in turn, so that both see the same moments of the machine."""
    ours: list[float] = []
    theirs: list[float] = []
    until = perf_counter() + seconds
    while len(ours) < 3 or (perf_counter() < until and len(ours) < 1000):
        for values in inputs:
            ours.append(_timed(lambda: delegate.run(values)))  # noqa: B023 - called at once
            theirs.append(_timed(lambda: cpu.run(values)))  # noqa: B023
    return median(ours) * 1e6, median(theirs) * 1e6


def _shortest_us(call: Callable[[], object], seconds: float) -> float:
    call()
    times: list[float] = []
    until = perf_counter() + seconds
    while len(times) < 2 or (perf_counter() < until and len(times) < 1000):
        times.append(_timed(call))
    return min(times) * 1e6


def _timed(call: Callable[[], object]) -> float:
    started = perf_counter()
    call()
    return perf_counter() - started


def _error(outputs: Sequence[Array], expected: Sequence[Array]) -> float:
    """Return the largest difference, infinite where one has NaN and the other has not."""
    worst = 0.0
    for output, wanted in zip(outputs, expected, strict=True):
        if output.size != wanted.size:
            raise ModelError(f"gives an output of shape {list(output.shape)}, expected {list(wanted.shape)}")
        ours, theirs = output.reshape(wanted.shape).astype(np.float64), wanted.astype(np.float64)
        same = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
        with np.errstate(invalid="ignore"):
            difference = np.where(same, 0.0, np.abs(ours - theirs))
        worst = max(worst, float(np.nan_to_num(difference, nan=np.inf).max(initial=0.0)))
    return worst


def _allowed(specs: Sequence[TensorSpec], expected: Sequence[Array]) -> float:
    """Return by how much sound executors may differ."""
    steps = [_STEPS * max(spec.scale) for spec in specs if spec.quantized]
    floats = [
        _FLOAT_SHARE * float(np.nan_to_num(np.abs(wanted.astype(np.float64)), posinf=0.0).max(initial=0.0))
        for spec, wanted in zip(specs, expected, strict=True)
        if not spec.quantized
    ]
    return max([*steps, *floats], default=0.0)

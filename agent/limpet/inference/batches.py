"""Many windows in one invoke, for models so small that the calls around them are what costs.

A block of samples often completes many windows: a recording played flat out, a sensor that sends in bursts,
a backlog. Where the model leaves its batch size open they go through it side by side, and come out as the same
results in the same order. Every result of a batch has the time that the whole batch took, since that is how long
its window was on the way.
"""

from __future__ import annotations

from contextlib import ExitStack
from itertools import islice
from time import monotonic_ns
from typing import TYPE_CHECKING

import numpy as np

from limpet.contracts.delegate import CPU
from limpet.errors import ModelError
from limpet.inference.admission import opened
from limpet.inference.finite import refuse_not_finite
from limpet.inference.input_fit import open_transforms, resized
from limpet.wire.records import Result

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from limpet.contracts.data import Array, Window
    from limpet.contracts.decoder import Decoder
    from limpet.contracts.runtime import Model
    from limpet.inference.clipping import Clipping
    from limpet.inference.latency import Latency
    from limpet.inference.plan import PipelinePlan
    from limpet.inference.window import Windower

SIZE = 64
"""Windows in a batch. Those that are missing from one are computed all the same, from what was there before."""
FEW = 4
"""Fewer windows than that are faster one by one."""
SMALL = 1 << 18
"""Bytes of a model file beyond which a second copy of its weights costs more than it saves."""


def suited(plan: PipelinePlan, windower: Windower) -> bool:
    """Whether windows may go through the model side by side, and nobody can tell but by the time."""
    if plan.state or plan.delegates != (CPU,) or len(plan.inputs) != 1 or -1 in windower.shape:
        return False
    shape, _ = open_transforms(plan.transforms, windower)
    now = resized(plan, shape)
    return (
        now is not None
        and now[0][0] == 1
        and plan.inputs[0].shape[0] == -1
        and all(part.module.ELEMENTWISE for part in plan.transforms)
        and plan.bundle.model.stat().st_size <= SMALL
    )


class Batches:
    """The way of a ``suited`` pipeline's windows through a copy of its model. Opened with the first backlog."""

    def __init__(
        self,
        plan: PipelinePlan,
        windower: Windower,
        select: Callable[[Array], Sequence[Array]],
        decoder: Decoder,
        clipping: Clipping,
    ) -> None:
        self._plan = plan
        self._windower = windower
        self._select = select
        self._decoder = decoder
        self._clipping = clipping
        self._values = np.empty((SIZE, *windower.shape), windower.rows.dtype)
        self._values.fill(0)
        self._stack = ExitStack()
        self._transforms: list[Callable[[Array], Array]] = []
        self._model: Model | None = None
        self._refused = False
        self._computed = bool(plan.transforms) or plan.resamples

    def gather(self, windows: Iterator[Window]) -> list[Window]:
        """Take the next windows, at most as many as a batch has; their values stay until the next call."""
        taken = []
        for values, window in zip(self._values, islice(windows, SIZE), strict=False):
            values[...] = window.values
            window.values = values
            taken.append(window)
        return taken

    def ready(self, windows: list[Window]) -> bool:
        """Whether these windows are to be run as a batch. Opens the model for that when it first pays."""
        if len(windows) < FEW or self._refused:
            return False
        if self._model is None:
            try:
                self._model = self._open()
            except ModelError:
                self._refused = True
        return not self._refused

    def run(self, windows: list[Window], latency: Latency) -> Iterator[Result]:
        """Return the results of the windows that were gathered last. ``ModelError`` comes before the first."""
        assert self._model is not None
        started = monotonic_ns()
        values: Array = self._values
        for transform in self._transforms:
            values = transform(values)
        if self._computed:
            refuse_not_finite(values[: len(windows)])
        inputs = self._select(values)
        transformed = monotonic_ns()
        if transformed >= self._clipping.due:
            self._clipping.look([values[0] for values in inputs], transformed)
        outputs = self._model.run(inputs)
        invoked = monotonic_ns()
        decoded_windows = self._decode(outputs, inputs, len(windows))
        decoded = monotonic_ns()
        stages = transformed - started, invoked - transformed, decoded - invoked
        for window in windows:
            latency.record(started - window.monotonic_ns, *stages)
        return self._results(windows, decoded_windows, decoded)

    def _results(self, windows: list[Window], outputs: list[object], decoded: int) -> Iterator[Result]:
        assert self._model is not None
        name, delegate, manifest = self._plan.name, self._model.delegate, self._plan.bundle.manifest
        model, version = manifest.name, manifest.version
        for window, output in zip(windows, outputs, strict=True):
            taken = window.monotonic_ns
            yield Result(
                name,
                model,
                version,
                delegate,
                False,
                taken,
                window.wall_ns,
                window.index,
                decoded - taken,
                output,
            )

    def close(self) -> None:
        """Free the model."""
        self._stack.close()

    def _decode(self, outputs: Sequence[Array], inputs: Sequence[Array], count: int) -> list[object]:
        many = getattr(self._decoder, "many", None)
        if many is not None:
            decoded: list[object] = many([o[:count] for o in outputs], [i[:count] for i in inputs])
            return decoded
        return [self._decoder([o[n : n + 1] for o in outputs], [i[n] for i in inputs]) for n in range(count)]

    def _open(self) -> Model:
        plan, shape = self._plan, self._values.shape
        transforms = []
        for part in plan.transforms:
            transform = part.module.open(part.config, self._windower.rows, shape)
            shape = transform.shape
            transforms.append(transform)
        (one,) = resized(plan, shape[1:]) or [()]
        model = self._stack.enter_context(opened(plan, CPU, [(SIZE, *one[1:])]))
        if any(tensor.shape[:1] != (SIZE,) for tensor in model.outputs):
            raise ModelError("its outputs do not have the batch first")
        self._transforms = transforms
        return model

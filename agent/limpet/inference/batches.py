"""Many windows in one invoke, for models so small that the calls around them are what costs.

A block of samples often completes many windows: a recording played flat out, a sensor that sends in bursts,
a backlog. If the model leaves its batch size open, the windows go through it side by side. The results and their
order are the same. Every result of a batch has the latency of the whole batch, as its window took that long.
"""

from __future__ import annotations

from contextlib import ExitStack
from itertools import islice
from time import monotonic_ns
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
from msgspec.structs import replace

from limpet.contracts.data import Window
from limpet.contracts.delegate import CPU
from limpet.errors import ModelError
from limpet.inference.admission import opened
from limpet.inference.finite import refuse_not_finite
from limpet.inference.input_fit import resized

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from limpet.contracts.data import Array
    from limpet.contracts.decoder import Batching
    from limpet.contracts.runtime import Model
    from limpet.contracts.stage import Stage
    from limpet.inference.graph import Graph
    from limpet.inference.plan import PipelinePlan

SIZE = 64
"""Windows in a batch. Those that are missing from one are computed all the same, from what was there before."""
FEW = 4
"""Fewer windows than that are faster one by one."""
SMALL = 1 << 18
"""Bytes of a model file beyond which a second copy of its weights costs more than it saves."""


class Decoded(NamedTuple):
    """When a batch was decoded, in ns of the monotonic clock, and the errors of its windows by their place."""

    at: int
    errors: dict[int, ModelError]


def suited(plan: PipelinePlan) -> bool:
    """Whether windows may go through the model side by side, with the same results."""
    windows = plan.transforms.windows
    if (
        plan.savings
        or plan.test_time
        or plan.state
        or plan.delegates != (CPU,)
        or len(plan.inputs) != 1
        or windows.frames
        or -1 in windows.shape
    ):
        return False
    shapes = resized(plan)
    return (
        shapes is not None
        and shapes[0][0] == 1
        and plan.inputs[0].shape[0] == -1
        and all(plugin.abilities.elementwise for plugin in plan.transforms.plugins)
        and plan.bundle.model.stat().st_size <= SMALL
    )


class Batches:
    """Takes the windows of a ``suited`` pipeline through a copy of its model, opened with the first backlog."""

    def __init__(self, graph: Graph) -> None:
        windows = graph.plan.transforms.windows
        self.observed = False
        """Whether all windows need their own ``inputs`` and ``outputs``."""
        self._graph = graph
        self._spec = replace(windows, shape=(SIZE, *windows.shape))
        self._values = np.zeros(self._spec.shape, windows.dtype)
        self._stack = ExitStack()
        self._transforms: list[Stage] = []
        self._model: Model | None = None
        self._refused = False
        self._computed = bool(graph.plan.transforms.plugins) or graph.plan.resamples

    def gather(self, windows: Iterator[Window]) -> list[Window]:
        """Take the next windows, at most as many as a batch has; their values stay until the next call."""
        taken = []
        for values, window in zip(self._values, islice(windows, SIZE), strict=False):
            values[...] = window.values
            window.values = window.samples = values
            taken.append(window)
        return taken

    def ready(self, windows: list[Window]) -> bool:
        """Whether these windows are to be run as a batch. Opens the model for that when it first pays."""
        if len(windows) < FEW or self._refused or self._resets(windows):
            return False
        if self._model is None:
            try:
                self._model = self._open()
            except ModelError:
                self._refused = True
        return not self._refused

    def run(self, windows: list[Window]) -> Decoded:
        """Give each of the windows that were gathered last its result.

        ``ModelError`` if transforms or model refuse one of them: then the decoder has seen none.
        """
        assert self._model is not None
        graph = self._graph
        started = monotonic_ns()
        batch = Window(self._values, 0, 0, 0)
        for transform in self._transforms:
            batch = transform(batch)
        if self._computed:
            refuse_not_finite(batch.values[: len(windows)])
        inputs = graph.select(batch.values)
        transformed = monotonic_ns()
        if transformed >= graph.clipping.due:
            graph.clipping.look([values[0] for values in inputs], transformed)
        outputs = self._model.run(inputs)
        invoked = monotonic_ns()
        errors = self._decode(windows, outputs, inputs)
        decoded = monotonic_ns()
        graph.busy_ns += decoded - started
        stages = transformed - started, invoked - transformed, decoded - invoked
        record = graph.latency.record
        for window in windows:
            record(started - window.monotonic_ns, *stages)
        return Decoded(decoded, errors)

    def close(self) -> None:
        """Free the model."""
        self._stack.close()

    def _resets(self, windows: list[Window]) -> bool:
        """Whether a decoder that takes all windows in one call is to be reset before one of them."""
        able = self._graph.plan.decoder.abilities
        if not able.batches or able.outlives_gaps:
            return False
        return self._graph.missed or any(window.gap for window in windows)

    def _decode(
        self, windows: list[Window], outputs: Sequence[Array], inputs: Sequence[Array]
    ) -> dict[int, ModelError]:
        """Decode all windows; return the errors of those that the decoder refuses, by their place."""
        graph, count = self._graph, len(windows)
        able = graph.plan.decoder.abilities
        if able.batches:
            decoder = cast("Batching", graph.decoder)
            decoder.decode_batch(windows, [o[:count] for o in outputs], [i[:count] for i in inputs])
            if self.observed:
                for n, window in enumerate(windows):
                    window.inputs = [values[n] for values in inputs]
                    window.outputs = [values[n : n + 1] for values in outputs]
            return self._finish(windows) if graph.plan.postprocess else {}
        errors: dict[int, ModelError] = {}
        for n, window in enumerate(windows):
            if window.gap or graph.missed:
                graph.output_stages.reset()
            graph.missed = False
            window.inputs = [values[n] for values in inputs]
            window.outputs = [values[n : n + 1] for values in outputs]
            window.values = window.outputs[0] if outputs else window.values
            try:
                windows[n] = graph.output_stages.call(window)
            except ModelError as error:
                errors[n] = error.with_traceback(None)  # It would refer to this dictionary, a cycle.
        return errors

    def _finish(self, windows: list[Window]) -> dict[int, ModelError]:
        """Take windows that were decoded in one call through the postprocess stages, one by one."""
        graph = self._graph
        errors: dict[int, ModelError] = {}
        for n, window in enumerate(windows):
            if window.gap or graph.missed:
                graph.output_stages.reset_postprocess()
            graph.missed = False
            try:
                windows[n] = graph.output_stages.finish(window)
            except ModelError as error:
                errors[n] = error.with_traceback(None)
        return errors

    def _open(self) -> Model:
        graph = self._graph
        transforms = graph.plan.transforms.open(self._spec)
        (shape,) = resized(graph.plan) or [()]
        model = self._stack.enter_context(opened(graph.plan, CPU, [(SIZE, *shape[1:])]))
        if any(tensor.shape[:1] != (SIZE,) for tensor in model.outputs):
            raise ModelError("its outputs do not have the batch first")
        self._transforms = transforms
        return model

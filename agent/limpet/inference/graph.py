"""The graph of one pipeline: transforms, model, and what is behind it. Compiled, when it is opened, to calls.

The graph alone handles gaps and ``every``; a stage sees one window after the other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np

from limpet.contracts.data import Array, TensorSpec, Window
from limpet.contracts.delegate import CPU
from limpet.errors import ModelError
from limpet.inference.certainty import Certainty
from limpet.inference.clipping import Clipping
from limpet.inference.finite import refuse_not_finite
from limpet.inference.input_fit import narrowed, refuse_misfit, refuse_type, resized, windowed_columns
from limpet.inference.inputs import complete
from limpet.inference.latency import Latency
from limpet.inference.output_stages import OutputStages
from limpet.inference.savings import SparedModel
from limpet.inference.stages import after_model
from limpet.inference.variations import varied
from limpet.inference.window import windows_a_second
from limpet.wire.records import Result

if TYPE_CHECKING:
    from contextlib import ExitStack

    from typing_extensions import Self

    from limpet.contracts.data import FloatArray
    from limpet.contracts.runtime import Model
    from limpet.contracts.transform import ByteTable
    from limpet.inference.admission import Load
    from limpet.inference.cascade import LightModel
    from limpet.inference.plan import PipelinePlan

Captured: TypeAlias = Callable[[Sequence[TensorSpec], Sequence[Array]], None]
"""What takes a model's inputs: what they are, and their real values, which are valid during the call."""

Select: TypeAlias = Callable[[Array], Sequence[Array]]
"""What cuts a model's inputs from the values that the transforms give."""


class Graph:
    """The stages of one pipeline, opened. Not thread-safe.

    ``model`` is the one that was loaded; ``completed`` takes windows alone, see ``inputs.complete``. ``shapes``
    are those of the model's inputs if it leaves some open. ``infer`` takes one window through all stages, and
    returns its result.
    """

    def __init__(self, plan: PipelinePlan, load: Load, stack: ExitStack, light: LightModel | None = None) -> None:
        """Open the stages, to be closed with ``stack``. ``ModelError`` if one of them cannot be opened.

        ``light``: the light model of a cascade.
        """
        self.plan = plan
        self.latency = Latency()
        self.busy_ns = 0
        """What all windows took since it was opened, without waiting."""
        self.captures: deque[Captured] = deque()
        self.byte_values: FloatArray | None = None
        self.missed = False  # Whether a window since the last reset did not reach the decoder: that is a gap, too.
        self._turn = -1
        self._skipped_gap = False
        self.transforms = plan.transforms.take()
        self.shapes = resized(plan)
        self.model: Model = stack.enter_context(load(plan, self.shapes))
        self.completed: Model = complete(self.model, plan.inputs, plan.state)
        if (variations := varied(plan, self.completed)) is not None:
            self.completed = variations
        self.select = _selector(plan, self.completed)
        for tensor in self.completed.inputs:
            refuse_type(plan, tensor.name, tensor.dtype, quantized=tensor.quantized)
        rate = windows_a_second(plan.window, plan.spec)
        outputs = self.completed.outputs
        rate = rate and rate / plan.every
        features, channels = plan.transforms.spec, (plan.spec.channels, tuple(plan.beside))
        self.output_stages = OutputStages(plan, after_model(features, outputs, plan.bundle.labels, rate, channels))
        self.decoder = self.output_stages.decoder
        self._absorb_normalise()
        self.clipping = Clipping(self.completed.inputs, self.byte_values)
        self.spared = (
            SparedModel(plan, plan.savings, self.completed, self.output_stages, light) if plan.savings else None
        )
        self.certainty = Certainty(variations)
        self.result = self.certainty.counting(plan.output, _result_maker(plan, self.model))
        self.infer = self._compile()
        stack.callback(self._forget)

    def _absorb_normalise(self) -> None:
        """Leave normalising the bytes of an image to the model's input, unless the decoder looks at the inputs."""
        transforms = self.plan.transforms
        if not transforms.abilities or not transforms.abilities[-1].byte_table:
            return
        before = self.transforms[-2].spec if len(self.transforms) > 1 else transforms.windows
        if before.dtype != np.uint8 or self.plan.decoder.abilities.reads_inputs:
            return
        byte_values = cast("ByteTable", self.transforms[-1]).byte_values
        if byte_values is not None and self.model.absorb(byte_values):
            self.transforms = self.transforms[:-1]
            self.byte_values = byte_values

    def each_so_many(self, windows: Iterator[Window]) -> Iterator[Window]:
        """Yield one window in ``every``. It comes after a gap if one of those before it does that were skipped."""
        for window in windows:
            self._turn = (self._turn + 1) % self.plan.every
            self._skipped_gap |= window.gap
            if not self._turn:
                window.gap, self._skipped_gap = self._skipped_gap, False
                yield window

    def continue_turn(self, old: Self) -> None:
        """Go on counting for ``every`` from the count of another graph. If its ``every`` differs, begin again."""
        if self.plan.every == old.plan.every:
            self._turn, self._skipped_gap = old._turn, old._skipped_gap

    def reset(self) -> None:
        """Forget all earlier windows, but for what is declared to outlive gaps."""
        for abilities, stage in zip(self.plan.transforms.abilities, self.transforms, strict=False):
            if not abilities.outlives_gaps:
                stage.reset()
        if self.plan.state:
            self.completed.reset()
        self.output_stages.reset()
        self.missed = False

    def restart(self) -> None:
        """Forget all earlier windows, whatever is declared to outlive gaps."""
        for stage in self.transforms:
            stage.reset()
        self.output_stages.restart()
        if self.spared is not None:
            self.spared.forget()
        self.certainty.take()
        self.reset()

    def _compile(self) -> Callable[[Window], tuple[Result[Any], Window]]:
        """Return what takes a window through all stages. It is called for each window, so it looks up little.

        It returns the result and the window as the last stage left it. ``ModelError`` if a stage refuses it.
        """
        transforms = tuple(stage.__call__ for stage in self.transforms)
        select, model, decode, result = self.select, self.completed, self.output_stages.call, self.result
        clipping, captures, record = self.clipping, self.captures, self.latency.record
        spared = self.spared
        if spared is not None:
            decode = spared.decode
        whole = select is _whole
        last = self.transforms[-1].spec if transforms else self.plan.transforms.windows
        computed = (bool(transforms) or self.plan.resamples) and last.dtype.kind == "f"
        forgets = bool(self.plan.state) and not self.plan.state.lasting

        def infer(window: Window) -> tuple[Result[Any], Window]:
            try:
                if window.gap or self.missed:
                    self.reset()
                elif forgets:
                    model.reset()
                started = monotonic_ns()
                window.samples = window.values
                for transform in transforms:
                    window = transform(window)
                values = window.values
                if computed:
                    refuse_not_finite(values)
                window.inputs = inputs = (values,) if whole else select(values)
                transformed = monotonic_ns()
                if transformed >= clipping.due:
                    clipping.look(inputs, transformed)
                if captures:
                    self.show(inputs)
                window.outputs = outputs = model.run(inputs) if spared is None else spared.run(window)
            except BaseException:
                self.missed = True
                raise
            invoked = monotonic_ns()
            window.values = outputs[0] if outputs else values
            window = decode(window)
            decoded = monotonic_ns()
            self.busy_ns += decoded - started
            record(started - window.monotonic_ns, transformed - started, invoked - transformed, decoded - invoked)
            return result(window, decoded), window

        return infer

    def _forget(self) -> None:
        """Let go of the compiled calls, which refer to this graph: workers collect no reference cycles."""
        self.infer = _closed

    def show(self, inputs: Sequence[Array]) -> None:
        """Show the model's inputs to those who wait for them, as real values."""
        if self.byte_values is not None:
            inputs = [self.byte_values[values] for values in inputs]
        while self.captures:
            self.captures.popleft()(self.completed.inputs, inputs)


def _selector(plan: PipelinePlan, model: Model) -> Select:
    """Return how the model's inputs are cut from what the transforms give. ``ModelError`` if they cannot be."""
    shape = plan.transforms.spec.shape
    chosen = [columns for _, columns in windowed_columns(plan)] or [None]
    if len(chosen) != len(model.inputs):
        raise ModelError(
            f"the model has {len(model.inputs)} inputs, and nothing says what each gets; set `inputs`"
        )
    for tensor, columns in zip(model.inputs, chosen, strict=True):
        refuse_misfit(narrowed(shape, columns), tensor.name, tensor.shape)
    if chosen == [None]:
        return _whole
    return lambda values: [values if some is None else values[..., some] for some in chosen]


def _closed(_: Window) -> tuple[Result[Any], Window]:
    raise ModelError("the pipeline is closed")


def _whole(values: Array) -> Sequence[Array]:
    """Give the values as they are to the only input."""
    return (values,)


def _result_maker(plan: PipelinePlan, model: Model) -> Callable[[Window, int], Result[Any]]:
    """Return what makes the result of a window that was decoded at a time in ns of the monotonic clock."""
    name, best = plan.name, plan.delegates[0].name
    made_by, version = plan.bundle.manifest.name, plan.bundle.manifest.version
    light_result = _light_result_maker(plan)

    def result(window: Window, decoded: int) -> Result[Any]:
        if window.light:
            return light_result(window, decoded)
        delegate, taken = model.delegate, window.monotonic_ns
        return Result(
            name,
            made_by,
            version,
            delegate,
            delegate != best,
            taken,
            window.wall_ns,
            window.ordinal,
            decoded - taken,
            window.result,
        )

    return result


def _light_result_maker(plan: PipelinePlan) -> Callable[[Window, int], Result[Any]]:
    """Return what makes the result of a window that the light model answered, which is always on the CPU."""
    light = plan.savings.light.plan if plan.savings and plan.savings.light else plan
    name, made_by, version = plan.name, light.bundle.manifest.name, light.bundle.manifest.version

    def result(window: Window, decoded: int) -> Result[Any]:
        taken = window.monotonic_ns
        return Result(
            name,
            made_by,
            version,
            CPU.name,
            False,
            taken,
            window.wall_ns,
            window.ordinal,
            decoded - taken,
            window.result,
        )

    return result

"""The hot path: samples -> windows -> transforms -> model -> decoder -> results, in one process."""

from __future__ import annotations

from collections import Counter, deque
from contextlib import ExitStack
from copy import deepcopy
from itertools import chain, pairwise
from time import monotonic_ns
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from msgspec.structs import replace

from limpet import config as configuration
from limpet.contracts.data import Samples, Window
from limpet.deployment.local import assignment_of
from limpet.errors import ConfigError, ModelError
from limpet.inference.admission import load
from limpet.inference.batches import Batches, suited
from limpet.inference.clipping import Clipping
from limpet.inference.finite import refuse_not_finite
from limpet.inference.input_fit import (
    narrowed,
    open_transforms,
    refuse_misfit,
    refuse_type,
    resized,
    windowed_columns,
)
from limpet.inference.inputs import complete
from limpet.inference.latency import Latency
from limpet.inference.planning import plan_pipeline, plan_source
from limpet.inference.rates import watch
from limpet.inference.reader import Reader
from limpet.inference.window import Windower
from limpet.wire.records import Result

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from typing_extensions import Self

    from limpet.contracts.data import Array, FloatArray
    from limpet.contracts.decoder import Decoder
    from limpet.contracts.runtime import Model
    from limpet.inference.admission import Load
    from limpet.inference.plan import PipelinePlan, SourcePlan

Captured: TypeAlias = "Callable[[Sequence[Array]], None]"
"""What takes a model's inputs, as real values that are valid during the call."""

_SOME = 16
"""Samples in a window that is tried, if the source's rate alone says how many there are."""


class Pipeline:
    """One model on the samples of one source. Not thread-safe.

    A worker feeds it blocks of samples; a program that embeds Limpet iterates over it::

        with Pipeline.from_config("limpet.toml", "motion") as pipeline:
            for result in pipeline:
                print(result.output)
    """

    def __init__(self, plan: PipelinePlan, load: Load = load) -> None:
        """Load the model, in this process on the first delegate that takes it unless told otherwise.

        ``ModelError`` if none does. ``model`` is the one that was loaded; ``completed`` takes windows alone, see
        ``inputs.complete``. ``shapes`` are those that the model's inputs were given, if it leaves some open.
        """
        self.plan = plan
        self.latency = Latency()
        self._stack = ExitStack()
        self._source: SourcePlan | None = None
        self._discarded = 0
        self._not_finite = 0
        self._turn = -1
        self._skipped_gap = False
        self._pixels: FloatArray | None = None
        self._captures: deque[Captured] = deque()
        self._batches: Batches | None = None
        self._forgets = bool(plan.state)
        self._missed = False  # Whether the model has not seen the window before: that is a gap, too.
        self._computed = False
        self._windower = Windower(plan.window, plan.spec)
        shape, self._transforms = open_transforms(plan.transforms, self._windower)
        try:
            self.shapes = resized(plan, shape)
            self.model = self._stack.enter_context(load(plan, self.shapes))
            self.completed = complete(self.model, plan.inputs, plan.state)
            self._select = _selector(plan, self.completed, shape)
            for tensor in self.completed.inputs:
                refuse_type(plan, self._windower.rows.dtype, tensor.name, tensor.dtype, quantized=tensor.quantized)
            self.decoder: Decoder = plan.decoder.module.open(
                plan.decoder.config, self.completed.outputs, plan.bundle.labels
            )
            self._absorb_normalise()
            self._computed = bool(self._transforms) or plan.resamples
            self.clipping = Clipping(self.completed.inputs, self._pixels)
            self.rate = watch(plan, self._windower.rows)
            if suited(plan, self._windower):
                self._batches = Batches(plan, self._windower, self._select, self.decoder, self.clipping)
                self._stack.callback(self._batches.close)
        except ValueError as error:
            self.close()
            raise ModelError(f"decoder: {error}") from error
        except BaseException:
            self.close()
            raise

    @classmethod
    def from_config(cls, path: Path | str, name: str) -> Self:
        """Open the pipeline ``name`` of a configuration file, to be iterated over in this process."""
        config = configuration.read(path)
        if name not in config.pipelines:
            raise ConfigError([f"{path}: no pipeline {name!r}"])
        assignment = assignment_of(config, name)
        source = plan_source(assignment, config.pipelines[name].source)
        pipeline = cls(plan_pipeline(assignment, name, source.spec))
        pipeline._source = source
        return pipeline

    def __iter__(self) -> Iterator[Result]:
        """Read the source and yield a result for each window, until the source ends."""
        if self._source is None:
            raise TypeError("a pipeline made from a plan is fed, not iterated over")
        source, silence = self._source.plugin, self._source.silence
        for samples in Reader(source.module, source.config, Counter(), silence):
            yield from self.feed(samples)

    def _absorb_normalise(self) -> None:
        """Leave normalising the bytes of an image to the model's input, where the decoder does not see them."""
        alone = len(self._transforms) == 1 and self._windower.rows.dtype == np.uint8
        pixels = getattr(self._transforms[0], "pixels", None) if alone else None
        absorb = getattr(self.model, "absorb", None)
        if pixels is None or absorb is None or self.plan.decoder.module.READS_INPUTS:
            return
        if absorb(pixels):
            self._transforms = []
            self._pixels = pixels

    def feed(self, samples: Samples, failed: Callable[[ModelError], None] | None = None) -> Iterator[Result]:
        """Take a block of samples and yield a result for each window, or each so many, that it completes.

        A window without a result, because the runtime refuses to run the model or the decoder cannot read what it
        gives, is a ``ModelError``. It is raised, or ``failed`` is called with it and the next window follows.
        """
        if self.plan.columns is not None:
            samples = replace(samples, values=samples.values.take(self.plan.columns, axis=1))
        windows: Iterator[Window] = chain.from_iterable(map(self._windower.push, self._finite(samples)))
        if not self.plan.spec.live:
            windows = _stamped_now(windows)
        if self.plan.every > 1:
            windows = self._each_so_many(windows)
        if self._batches is None:
            yield from self._one_by_one(windows, failed)
            return
        while gathered := self._batches.gather(windows):
            if not self._captures and self._batches.ready(gathered):
                try:
                    results = self._batches.run(gathered, self.latency)
                except ModelError:  # Which of them it is shows one by one.
                    results = self._one_by_one(gathered, failed)
                yield from results
            else:
                yield from self._one_by_one(gathered, failed)

    def _finite(self, samples: Samples) -> list[Samples]:
        """Return the samples without those that have a NaN or an infinite value: a quantized model hides it."""
        values = samples.values
        if values.dtype.kind != "f" or np.isfinite(values).all():
            return [samples]
        good = np.logical_and.reduce(np.isfinite(values.reshape(len(values), -1)), axis=1)
        self._not_finite += int((~good).sum())
        edges = np.flatnonzero(np.diff(good)) + 1
        return [
            Samples(
                values[first:end],
                samples.monotonic_ns[first:end],
                samples.wall_ns[first:end],
                samples.index + first,
                samples.gap or first > 0,
            )
            for first, end in pairwise([0, *edges.tolist(), len(values)])
            if good[first]
        ] or [replace(samples, values=values[:0], gap=True)]

    def _one_by_one(
        self, windows: Iterable[Window], failed: Callable[[ModelError], None] | None
    ) -> Iterator[Result]:
        for window in windows:
            try:
                result = self._infer(window)
            except ModelError as error:
                if failed is None:
                    raise
                failed(error)
            else:
                yield result

    def _each_so_many(self, windows: Iterator[Window]) -> Iterator[Window]:
        """Yield one window in ``every``. It comes after a gap if one of those before it does that were skipped."""
        for window in windows:
            self._turn = (self._turn + 1) % self.plan.every
            self._skipped_gap |= window.after_gap
            if not self._turn:
                window.after_gap, self._skipped_gap = self._skipped_gap, False
                yield window

    def _infer(self, window: Window) -> Result:
        if self._forgets and (window.after_gap or self._missed or not self.plan.state.lasting):
            self.completed.reset()
        self._missed = True
        started = monotonic_ns()
        values = window.values
        for transform in self._transforms:
            values = transform(values)
        if self._computed:
            refuse_not_finite(values)
        inputs = self._select(values)
        transformed = monotonic_ns()
        if transformed >= self.clipping.due:
            self.clipping.look(inputs, transformed)
        if self._captures:
            self._show(inputs)
        outputs = self.completed.run(inputs)
        self._missed = False
        invoked = monotonic_ns()
        output = self.decoder(outputs, inputs)
        decoded = monotonic_ns()
        taken = window.monotonic_ns
        self.latency.record(started - taken, transformed - started, invoked - transformed, decoded - invoked)
        manifest = self.plan.bundle.manifest
        return Result(
            self.plan.name,
            manifest.name,
            manifest.version,
            self.model.delegate,
            self.degraded,
            taken,
            window.wall_ns,
            window.index,
            decoded - taken,
            output,
        )

    def try_once(self, *, noise: bool) -> None:
        """Run one window of zeros or of noise, and drop the result. ``ModelError`` as ``feed``."""
        shape = [_SOME if size == -1 else size for size in self._windower.shape]
        values = np.zeros(shape, self._windower.rows.dtype)
        if noise:
            values[...] = np.random.default_rng(0).uniform(0, 255 if values.dtype == np.uint8 else 1, shape)
        self._infer(Window(values, 0, 0, 0))

    def take_over(self, old: Pipeline) -> None:
        """Go on where ``old`` stands, between two of its windows. ``old`` stays as it is, and can go on itself.

        If both cut windows alike, the samples of the window under way are copied, and ``every`` counts on.
        Otherwise the first window begins with the next sample. Model and stages begin anew, as after a gap.
        """
        if (self.plan.window, self.plan.spec, self.plan.columns) == (
            old.plan.window,
            old.plan.spec,
            old.plan.columns,
        ):
            self._windower = deepcopy(old._windower)
            if self.plan.every == old.plan.every:
                self._turn, self._skipped_gap = old._turn, old._skipped_gap
        self._discarded = self.in_no_window
        self._missed = True
        self.latency.take()
        self.clipping.take()

    def adopt_captures(self, other: Pipeline) -> None:
        """Show the next window to those who wait for one of another pipeline, which is about to be closed."""
        self._captures.extend(other._captures)
        other._captures.clear()

    def capture(self, show: Captured) -> None:
        """Call ``show`` once with what the model is given for the next window that runs."""
        self._captures.append(show)

    def _show(self, inputs: Sequence[Array]) -> None:
        """Show the real values to those who wait for them."""
        if self._pixels is not None:
            inputs = [self._pixels[values] for values in inputs]
        while self._captures:
            self._captures.popleft()(inputs)

    @property
    def degraded(self) -> bool:
        """Whether the model is not on the first of its delegates."""
        return self.model.delegate != self.plan.delegates[0].name

    @property
    def in_no_window(self) -> int:
        """How many samples came to lie in no window, since it was opened: a gap follows them, or they are NaN."""
        return self._windower.discarded + self._not_finite

    def discarded(self) -> int:
        """Return how many samples came to lie in no window since this was asked last."""
        total = self.in_no_window
        new, self._discarded = total - self._discarded, total
        return new

    def close(self) -> None:
        """Free the model."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _stamped_now(windows: Iterator[Window]) -> Iterator[Window]:
    """Stamp windows of a recording that waits for the model: their time in it says nothing of latency."""
    now = monotonic_ns()
    for window in windows:
        window.monotonic_ns = now
        yield window


def _selector(plan: PipelinePlan, model: Model, shape: tuple[int, ...]) -> Callable[[Array], Sequence[Array]]:
    """Return how the model's inputs are cut from what the transforms give. ``ModelError`` if they cannot be."""
    chosen = [columns_of_it for _, columns_of_it in windowed_columns(plan, shape)] or [None]
    if len(chosen) != len(model.inputs):
        raise ModelError(
            f"the model has {len(model.inputs)} inputs, and nothing says what each gets; set `inputs`"
        )
    for tensor, columns_of_it in zip(model.inputs, chosen, strict=True):
        refuse_misfit(narrowed(shape, columns_of_it), tensor.name, tensor.shape)
    if chosen == [None]:
        return lambda values: (values,)
    return lambda values: [values if some is None else values[..., some] for some in chosen]

"""A pipeline: samples -> windows -> transforms -> model -> decoder -> postprocess -> results, in one process."""

from __future__ import annotations

from collections import deque
from contextlib import ExitStack, suppress
from copy import deepcopy
from itertools import chain, repeat
from time import monotonic_ns, time_ns
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from msgspec.structs import replace

from limpet.contracts.data import Cut, Samples, SampleSpec, Window
from limpet.errors import LimpetError, ModelError
from limpet.inference import chain as chains
from limpet.inference.admission import load
from limpet.inference.batches import Batches, Decoded, suited
from limpet.inference.beside import Beside
from limpet.inference.cascade import LightModel
from limpet.inference.develop import FormWatch
from limpet.inference.early_exit import EarlyExit
from limpet.inference.finite import finite_runs
from limpet.inference.graph import Graph
from limpet.inference.meaning import enrolled_file, meaning
from limpet.inference.rates import watch
from limpet.inference.stages import refuse_result
from limpet.inference.window import Windower
from limpet.pictures.frame import frames_of_noise, frames_of_zeros
from limpet.wording import bug

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from typing_extensions import Self

    from limpet.contracts.data import Array
    from limpet.contracts.decoder import Adjustable, Enrolling
    from limpet.contracts.detected_events import DetectedEvent
    from limpet.contracts.fields import WindowSpec
    from limpet.contracts.runtime import Learning
    from limpet.contracts.savings import Saver, SavingCounts
    from limpet.contracts.stage import Spec
    from limpet.inference.admission import Load
    from limpet.inference.graph import Captured
    from limpet.inference.join import Join
    from limpet.inference.plan import PipelinePlan
    from limpet.wire.records import Result

    OnFailure = Callable[[ModelError], None]
    """What takes the reason why a window has no result."""
    Observer = Callable[[Window, Result[Any]], None]
    """What looks at a window and its result. The window's arrays are valid until it returns."""

MOST_EVENTS = 1000
"""Events that are kept until they are taken; then the oldest are dropped."""
IDLE_NS = 500_000_000
"""Nanoseconds between two times that stages forget what is too old while no window comes."""
_SOME = 16
"""Samples in a window that is tried, if the source's rate alone says how many there are."""


class Pipeline:
    """One model on the samples of one source, of several that are joined, or of another pipeline. Not thread-safe.

    A worker feeds it blocks of samples. Programs that embed Limpet use ``limpet.Pipeline``, which has one of
    these.
    """

    def __init__(self, plan: PipelinePlan, load: Load = load, join: Join | None = None) -> None:
        """Load the model, in this process on the first delegate that takes it unless ``load`` does otherwise.

        With ``join``, the plan is one for the joined samples. ``ModelError`` if no delegate takes the model.
        """
        self.plan = plan
        self._stack = ExitStack()
        self._join = join
        self._discarded = 0
        self._not_finite = 0
        self._batches: Batches | None = None
        self._observers: list[Observer] = []
        self._followers: list[tuple[Pipeline, OnFailure | None]] = []
        self._chained = chains.ChainedSamples()
        self._events: deque[tuple[int, DetectedEvent]] = deque(maxlen=MOST_EVENTS)
        self._next_idle = 0
        self._windower = Windower(plan.window, plan.spec)
        self._beside = Beside(list(plan.beside.values()), plan.window) if plan.beside else None
        self.forms = FormWatch()
        try:
            self._light, light = self._open_light(load)
            self.graph = Graph(plan, load, self._stack, light)
            self._early_exit = self._open_early_exit()
            self.rate = watch(plan, plan.transforms.windows.rate)
            if suited(plan):
                self._batches = Batches(self.graph)
                self._stack.callback(self._batches.close)
        except BaseException:
            self.close()
            raise
        self.model = self.graph.model
        self.completed = self.graph.completed
        self.shapes = self.graph.shapes
        self.decoder = self.graph.decoder
        self.latency = self.graph.latency
        self.clipping = self.graph.clipping
        self.certainty = self.graph.certainty

    def _open_light(self, load: Load) -> tuple[Graph | None, LightModel | None]:
        """Open the light model of a cascade, if there is one. ``ModelError`` if that is not possible."""
        light = self.plan.savings and self.plan.savings.light
        if not light:
            return None, None
        try:
            graph = Graph(light.plan, load, self._stack)
        except ModelError as error:
            raise ModelError(f"cascade: the light model {light.options.model}: {error}") from error
        graph.output_stages.want_scores()
        return graph, LightModel(light, graph.infer)

    def _open_early_exit(self) -> EarlyExit | None:
        """Have the windows of a round left out once a class is sure, if that is configured."""
        savings = self.plan.savings
        if savings is None or savings.early_exit is None:
            return None
        early_exit = EarlyExit(savings.early_exit, savings.weight)
        self.graph.output_stages.want_scores()
        latency = self.graph.latency
        self.observe(lambda window, result: early_exit.see(window, result.output, latency.last_us * 1000))
        return early_exit

    def set_threshold(self, value: float) -> None:
        """Use another threshold of the decoder from the next window on, and of the light model's in a cascade.

        ``ValueError`` if the decoder has none as configured.
        """
        cast("Adjustable", self.decoder).set_threshold(value)
        if self._light is not None and self._light.plan.decoder.abilities.threshold:
            cast("Adjustable", self._light.decoder).set_threshold(value)

    def take_savings(self) -> dict[Saver, SavingCounts]:
        """Return what a gate, a cache, a cascade and early exit saved since the last call."""
        taken: dict[Saver, SavingCounts] = {}
        if self.graph.spared is not None:
            taken |= self.graph.spared.take()
        if self._early_exit is not None:
            taken["early_exit"] = self._early_exit.take()
        return taken

    def feed(self, samples: Samples, failed: OnFailure | None = None, source: str = "") -> Iterator[Result[Any]]:
        """Take a block of samples and yield a result for each window, or each so many, that it completes.

        After a result come those of the pipelines that it feeds, see ``then``. ``source`` names the source of the
        samples if several are joined.

        A window without a result, because the runtime refuses to run the model or the decoder cannot read what it
        gives, is a ``ModelError``. It is raised, or ``failed`` is called with it and the next window follows.
        """
        blocks = [samples] if self._join is None else self._join.push(source, samples)
        windows: Iterator[Window] = chain.from_iterable(map(self._windows, blocks))
        if not self.plan.spec.live:
            windows = _stamped_now(windows)
        return self._run(windows, failed)

    def then(self, follower: Pipeline, failed: OnFailure | None = None) -> None:
        """Feed another pipeline with the windows of this one that have a result.

        The follower is planned on samples as ``output`` says; each row of a window's values is one. Its results
        come from ``feed`` of this pipeline. ``failed`` takes the errors of its windows, see ``feed``. A follower's
        window of one row knows from which part of the source's picture it was cut. ``ModelError`` if this pipeline
        has a cascade: what its two models give can differ in form.
        """
        if self._light is not None:
            raise ModelError(f"pipeline {self.plan.name} has a cascade, so it cannot feed another one")
        self._followers.append((follower, failed))

    def follow(self, window: Window, failed: OnFailure | None = None) -> Iterator[Result[Any]]:
        """Take a window of the pipeline that feeds this one; yield results as ``feed`` does."""
        windows = self._windows(self._chained.of(window))
        if window.cut is not None and self.plan.window.size == 1:
            windows = _cut_from(windows, window.cut)
        return self._run(windows, failed)

    def observe(self, observer: Observer) -> None:
        """Show each window and its result to ``observer`` before the result is yielded. It may raise nothing."""
        self._observers.append(observer)
        if self._batches is not None:
            self._batches.observed = True

    def want_scores(self) -> None:
        """Have ``Window.scores`` set for observers from the next window on, if the decoder can do that."""
        with suppress(ModelError):
            self.graph.output_stages.want_scores()

    def stop_observing(self, observer: Observer) -> None:
        """Show windows to ``observer`` no more. It may call this itself."""
        self._observers = [one for one in self._observers if one != observer]
        if self._batches is not None:
            self._batches.observed = bool(self._observers)

    def miss(self) -> None:
        """Take note that a window of the pipeline that feeds this one has no result: that is a gap."""
        self._chained.missed = True

    @property
    def output(self) -> SampleSpec:
        """What the samples are for a pipeline that is fed by this one."""
        return chains.samples_of(self.decoder.spec, self.plan.spec)

    def _windows(self, samples: Samples) -> Iterator[Window]:
        """Return the windows that a block completes. ``ModelError`` if its arrays have other shapes."""
        if self._beside is None:
            return self._cut(samples)
        self._beside.see(samples)
        return self._beside.with_means(self._cut(samples))

    def _cut(self, samples: Samples) -> Iterator[Window]:
        if self.plan.columns is not None:
            try:
                samples = replace(samples, values=samples.values.take(self.plan.columns, axis=1))
            except IndexError as error:
                shape = samples.values.shape
                raise ModelError(f"the source gave values of shape {shape}, without all channels") from error
        spec = self.plan.spec
        wanted = () if spec.frames else spec.shape
        if samples.values.shape[1:] != wanted or len(samples.monotonic_ns) != len(samples):
            raise ModelError(
                f"the source gave values of shape {samples.values.shape} with {len(samples.monotonic_ns)} times; "
                f"a block of n samples has values of shape {('n', *wanted)} and n times"
            )
        blocks = self.forms.runs(samples) if spec.frames else finite_runs(samples)
        if blocks[0] is not samples and not spec.frames:
            self._not_finite += len(samples) - sum(map(len, blocks))
        return chain.from_iterable(map(self._windower.push, blocks))

    def _run(self, windows: Iterator[Window], failed: OnFailure | None) -> Iterator[Result[Any]]:
        if self.plan.every > 1:
            windows = self.graph.each_so_many(windows)
        if self._early_exit is not None:
            windows = self._early_exit.chosen(windows)
        if self._batches is None or self._followers:
            yield from self._one_by_one(windows, failed)
            return
        while gathered := self._batches.gather(windows):
            if self.graph.captures or not self._batches.ready(gathered):
                yield from self._one_by_one(gathered, failed)
            else:
                yield from self._together(self._batches, gathered, failed)

    def _one_by_one(self, windows: Iterable[Window], failed: OnFailure | None) -> Iterator[Result[Any]]:
        infer = self.graph.infer
        for window in windows:
            try:
                result, done = infer(window)
            except ModelError as error:
                if failed is None:
                    raise
                failed(error)
                for follower, _ in self._followers:
                    follower.miss()
            else:
                self._note(done)
                for observe in self._observers:
                    observe(done, result)
                yield result
                for follower, its_failed in self._followers:
                    yield from follower.follow(done, its_failed)

    def _together(
        self, batches: Batches, windows: list[Window], failed: OnFailure | None
    ) -> Iterator[Result[Any]]:
        try:
            decoded = batches.run(windows)
        except ModelError:  # Which of them it is shows one by one.
            return self._one_by_one(windows, failed)
        if self.plan.postprocess:
            for window in windows:
                self._note(window)
        if not decoded.errors and not self._observers:
            return map(self.graph.result, windows, repeat(decoded.at))
        return self._each(windows, decoded, failed)

    def _each(self, windows: list[Window], decoded: Decoded, failed: OnFailure | None) -> Iterator[Result[Any]]:
        for place, window in enumerate(windows):
            error = decoded.errors.get(place)
            if error is None:
                result = self.graph.result(window, decoded.at)
                for observe in self._observers:
                    observe(window, result)
                yield result
            elif failed is None:
                raise error
            else:
                failed(error)

    def _note(self, window: Window) -> None:
        """Keep the events of a window until they are taken."""
        for event in window.events:
            self._events.append((window.wall_ns, event))

    def idle(self) -> None:
        """Have stages forget what is too old while no window comes. Call it as often as you like."""
        now = monotonic_ns()
        if now < self._next_idle or not self.graph.output_stages.idles or not self.plan.spec.live:
            return
        self._next_idle = now + IDLE_NS
        self._note(self.graph.output_stages.idle(Window(np.empty(0), now, time_ns(), 0)))

    def take_events(self) -> list[tuple[int, DetectedEvent]]:
        """Return the events since the last call, oldest first, each with a time in ns of the Unix clock."""
        if not self._events:
            return []
        events = list(self._events)
        self._events.clear()
        return events

    def try_once(self, *, noise: bool) -> int:
        """Run one window of zeros or of noise, and leave no trace of it. Return how many ns that took.

        ``ModelError`` as ``feed``, and if a stage is at fault. The window cannot be written to, as stages may not.
        """
        values = _made_up(self.plan.transforms.windows, noise=noise)
        values.flags.writeable = False
        began = monotonic_ns()
        try:
            result, _ = self.graph.infer(Window(values, 0, 0, 0))
            spent = monotonic_ns() - began
            refuse_result(self.plan.decoder.kind, result.output)
        except LimpetError:
            raise
        except Exception as error:
            raise ModelError(f"a test window failed: {bug(error)}") from error
        finally:
            self.graph.restart()
            if self._light is not None:
                self._light.restart()
        return spent

    def take_over(self, old: Pipeline) -> bool:
        """Go on where ``old`` stands, between two of its windows. ``old`` stays as it is, and can go on itself.

        If both cut the same samples into the same windows, return True. The samples of the unfinished window are
        then copied, so that no window is lost and none comes twice, and ``every`` counts on. Otherwise the first
        window begins with the next sample. Model and stages are reset, as after a gap. Pipelines that ``old``
        feeds are fed by this one.
        """
        mine, its = self.plan, old.plan
        same = (mine.window, mine.spec, mine.columns) == (its.window, its.spec, its.columns)
        if same:
            self._windower, self._join = deepcopy((old._windower, old._join))
            self.graph.continue_turn(old.graph)
            if mine.beside == its.beside:
                self._beside = deepcopy(old._beside)
        self._chained, self._followers = deepcopy(old._chained), list(old._followers)
        self._discarded = self.in_no_window
        self.graph.missed = True
        self.latency.take()
        self.clipping.take()
        return same

    def windower_beside(self, window: WindowSpec, columns: list[int] | None, spec: SampleSpec) -> Windower:
        """Return what cuts the blocks that follow into windows, for another model beside this one.

        ``columns``: those of the source's samples that it takes. ``spec``: what its samples are then. If it cuts
        the same samples into the same windows, these end with the same samples as the windows of this pipeline.
        """
        if (window, columns, spec) == (self.plan.window, self.plan.columns, self.plan.spec):
            return deepcopy(self._windower)
        return Windower(window, spec)

    def learn(self) -> str:
        """Have what learns on the device do so from now on, from where its folder or itself stands.

        Return what a person should know about that, empty if nothing. A pipeline that is only tried does not
        learn.
        """
        plan, notes = self.plan, []
        if plan.runtime.abilities.learns:
            notes.append(cast("Learning", self.model).learn(plan.learned, meaning(plan)))
        if plan.decoder.abilities.enrols:
            notes.append(cast("Enrolling", self.decoder).keep(enrolled_file(plan)))
        return "; ".join(filter(None, notes))

    @property
    def learned(self) -> float | None:
        """Share of its learning time that is over, 0 to 1; ``None`` if its model does not learn."""
        return cast("Learning", self.model).learned if self.plan.runtime.abilities.learns else None

    def stop_learning(self) -> None:
        """Have a model that learns keep what it learned, and learn no more."""
        if self.plan.runtime.abilities.learns:
            cast("Learning", self.model).stop_learning()

    def adopt_captures(self, other: Pipeline) -> None:
        """Show the next window to those who wait for one of another pipeline, which is about to be closed."""
        self.graph.captures.extend(other.graph.captures)
        other.graph.captures.clear()

    def capture(self, show: Captured) -> None:
        """Call ``show`` once with the model's inputs for the next window that runs."""
        self.graph.captures.append(show)

    @property
    def degraded(self) -> bool:
        """Whether the model is not on the first of its delegates."""
        return self.model.delegate != self.plan.delegates[0].name

    @property
    def in_no_window(self) -> int:
        """How many samples are in no window, since it was opened: a gap follows them, or they are NaN.

        Those of a join are among them that found no partner in another source.
        """
        unmatched = 0 if self._join is None else self._join.unmatched
        return self._windower.discarded + self._not_finite + unmatched

    def discarded(self) -> int:
        """Return how many samples are in no window since this was called last."""
        total = self.in_no_window
        new, self._discarded = total - self._discarded, total
        return new

    def close(self) -> None:
        """Free the model."""
        self._observers = []  # They may refer to this pipeline, and workers collect no reference cycles.
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _made_up(spec: Spec, *, noise: bool) -> Array:
    """Return a window of zeros or of noise."""
    random = np.random.default_rng(0)
    if spec.frames:
        return frames_of_noise(spec.shape, random) if noise else frames_of_zeros(spec.shape)
    shape = [_SOME if size == -1 else size for size in spec.shape]
    values = np.zeros(shape, spec.dtype)
    if noise:
        values[...] = random.uniform(0, 255 if values.dtype == np.uint8 else 1, shape)
    return values


def _cut_from(windows: Iterator[Window], cut: Cut) -> Iterator[Window]:
    """Set where in the source's picture windows are."""
    for window in windows:
        window.cut = cut
        yield window


def _stamped_now(windows: Iterator[Window]) -> Iterator[Window]:
    """Stamp windows of a recording that waits for the model: their time in it says nothing of latency."""
    now = monotonic_ns()
    for window in windows:
        window.recorded_ns, window.monotonic_ns = window.monotonic_ns, now
        yield window

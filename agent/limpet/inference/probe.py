"""One window of a pipeline, and what its model makes of it when parts are changed: for explanations.

A changed window goes through separate transforms and a separate decoder, which forget every window before it. So
the pipeline's memory stays as it is, and the same window has the same answer. The model is the pipeline's own,
unless it keeps state.
"""

from __future__ import annotations

from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from limpet.contracts.data import Window
from limpet.contracts.delegate import CPU
from limpet.errors import DeployError, ModelError
from limpet.explanation.answers import Decoded, read
from limpet.explanation.explaining import Subject
from limpet.inference.admission import opened
from limpet.inference.finite import refuse_not_finite
from limpet.inference.inputs import complete
from limpet.inference.meaning import enrolled_file
from limpet.inference.stages import after_model, open_decoder
from limpet.models import reference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from typing_extensions import Self

    from limpet.contracts.data import Array
    from limpet.contracts.decoder import Enrolling, Scoring
    from limpet.contracts.reference import Reference
    from limpet.contracts.runtime import Model
    from limpet.contracts.stage import Stage
    from limpet.inference.pipeline import Pipeline
    from limpet.inference.plan import PipelinePlan
    from limpet.wire.records import Result

MOST_VALUES = 1 << 24
"""Numbers of a window that is explained."""
MOST_WINDOWS = 64
"""Windows that are explained together, at most."""
_SECONDS, _UNTIMED = 1.0, 16
"""How long they are if the model's state lasts, and how many there are if nothing says how long they are."""
_LEAST_PICTURE = 8
"""Pixels along each side of a picture, at least."""


@dataclass(frozen=True)
class Taken:
    """Windows that a pipeline has run one after the other, as one, and the result of the last.

    ``values``: the samples before the first transform. ``windows``: how many windows they are cut into again.
    """

    values: Array
    result: Result[Any]
    windows: int = 1


class Stretch:
    """Keeps the newest windows of a pipeline, as many as an answer depends on: one, unless the model has memory.

    ``see`` is an observer, see ``Pipeline.observe``.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._most = windows_needed(pipeline.plan)
        self._new = _new_rows(pipeline.plan)
        self._kept: deque[Array] = deque(maxlen=self._most)
        self._result: Result[Any] | None = None

    @property
    def full(self) -> bool:
        """Whether there are enough windows."""
        return len(self._kept) == self._most

    def see(self, window: Window, result: Result[Any]) -> None:
        """Keep a window. ``ModelError`` if it is too large."""
        assert window.samples is not None
        if window.samples.size * self._most > MOST_VALUES:
            raise ModelError(f"a window has {window.samples.size} values; at most {MOST_VALUES} can be explained")
        if window.gap:
            self._kept.clear()
        self._kept.append(window.samples.copy())
        self._result = result

    def taken(self) -> Taken | None:
        """Return the windows so far as one, ``None`` if there is none."""
        if self._result is None:
            return None
        first, *others = self._kept
        values = np.concatenate([first, *(one[-self._new :] for one in others)]) if others else first
        return Taken(values, self._result, len(self._kept))


def windows_needed(plan: PipelinePlan) -> int:
    """Return how many windows are explained together: those of a second if the model's state lasts, else one."""
    windows = plan.transforms.windows
    if not (plan.state and plan.state.lasting) or windows.frames or -1 in windows.shape:
        return 1
    if windows.rate is None:
        return _UNTIMED
    return int(min(MOST_WINDOWS, max(1, round(windows.rate * _SECONDS / _new_rows(plan)))))


def _new_rows(plan: PipelinePlan) -> int:
    """Return how many rows of a window are not in the window before."""
    windows = plan.transforms.windows
    return windows.shape[0] if windows.hop is None else min(windows.hop, windows.shape[0])


class Probe:
    """Answers for changed windows of one pipeline. Not thread-safe. Close it before the pipeline.

    ``subject`` has the windows that were taken; ``notes``: what a person should know about its answers.
    """

    def __init__(self, pipeline: Pipeline, window: Taken) -> None:
        """``ModelError`` if the pipeline cannot run windows that are made up."""
        plan = pipeline.plan
        _refuse_learning(pipeline)
        self._pipeline = pipeline
        self._result = window.result
        self._windows, self._new = window.windows, _new_rows(plan)
        self.notes: list[str] = []
        with ExitStack() as stack:
            self._model = _model(pipeline, stack)
            self._stages: list[Stage] = plan.transforms.open(plan.transforms.windows)
            if pipeline.graph.byte_values is not None:
                self._stages.pop()  # The model's input does that.
            outputs = pipeline.completed.outputs
            spec = after_model(plan.transforms.spec, outputs, plan.bundle.labels, None)
            self._decoder = open_decoder(plan.decoder, spec)
            self._prepare_decoder()
            self.subject = self._subject(window)
            self._stack = stack.pop_all()

    def _prepare_decoder(self) -> None:
        plan, able = self._pipeline.plan, self._pipeline.plan.decoder.abilities
        if able.scores:
            cast("Scoring", self._decoder).want_scores()
        if able.enrols:
            cast("Enrolling", self._decoder).keep(enrolled_file(plan))

    def __call__(self, values: Array) -> Decoded:
        """Return what the decoder makes of windows like ``subject.values``. ``ModelError``."""
        for stage in self._stages:
            stage.reset()
        self._decoder.reset()
        if self._pipeline.plan.state:
            self._model.reset()
        rows = len(values) - (self._windows - 1) * self._new
        for number in range(self._windows - 1):
            begin = number * self._new
            self._run(values[begin : begin + rows], number)
        return self._run(values[len(values) - rows :], self._windows - 1)

    def _run(self, values: Array, number: int) -> Decoded:
        result, rate = self._result, self._pipeline.plan.transforms.windows.rate
        earlier = 0 if rate is None else round((self._windows - 1 - number) * self._new / rate * 1e9)
        window = Window(
            values, result.monotonic_ns - earlier, result.wall_ns - earlier, result.sample, samples=values
        )
        for stage in self._stages:
            window = stage(window)
        if window.values.dtype.kind == "f":
            refuse_not_finite(window.values)
        window.inputs = inputs = self._pipeline.graph.select(window.values)
        window.outputs = outputs = self._model.run(inputs)
        window.values = outputs[0] if outputs else window.values
        window = self._decoder(window)
        return Decoded(window.result, self._scores(window))

    def _scores(self, window: Window) -> dict[str, float] | None:
        if window.scores is None:
            return None
        labels: Sequence[str] = self._decoder.spec.labels
        if len(labels) != len(window.scores):
            labels = [str(number) for number in range(len(window.scores))]
        return dict(zip(labels, window.scores.tolist(), strict=True))

    def see_answer(self, answer: str | None) -> None:
        """Compare the answer to the window alone with what the pipeline itself said, and note a difference."""
        said = read(Decoded(self._result.output)).label
        if said != answer:
            self.notes.append(
                f"The pipeline itself said {said or 'nothing'}, as it remembers earlier windows. "
                "This explains the newest alone."
            )

    def close(self) -> None:
        """Free what it opened."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _subject(self, window: Taken) -> Subject:
        plan = self._pipeline.plan
        windows = plan.transforms.windows
        values, cut = window.values, None
        picture = windows.frames or _is_picture(values.shape)
        if windows.frames:
            developed = self._stages.pop(0)(Window(values, 0, 0, 0))
            values, cut = developed.values.copy(), developed.cut
        channels = windows.channels if len(windows.channels) == values.shape[-1] else ()
        typical = self._typical(channels, len(values) - (self._windows - 1) * self._new)
        return Subject(
            values,
            channels,
            windows.rate,
            picture,
            None if typical is None else typical[0],
            None if typical is None else typical[1],
            self._decoder.spec.labels,
            cut,
        )

    def _typical(
        self, channels: Sequence[str], rows: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        bundle = self._pipeline.plan.bundle
        if bundle.reference is None:
            return None
        try:
            return typical_of(reference.read(bundle.reference, bundle.manifest.name), channels, rows)
        except DeployError as error:
            self.notes.append(f"Without {error}"[:200])
            return None


def _refuse_learning(pipeline: Pipeline) -> None:
    learned = pipeline.learned
    if learned is not None and learned < 1:
        raise ModelError(
            "its model still learns, and would learn from changed windows; wait for the event `learned`"
        )


def _model(pipeline: Pipeline, stack: ExitStack) -> Model:
    """Return the pipeline's model; if that keeps state, another one on the CPU."""
    plan = pipeline.plan
    if not plan.state:
        return pipeline.completed
    model = complete(stack.enter_context(opened(plan, CPU, pipeline.shapes)), plan.inputs, plan.state)
    byte_values = pipeline.graph.byte_values
    if byte_values is not None and not model.absorb(byte_values):
        raise ModelError("its model cannot be opened a second time on bytes")
    return model


def _is_picture(shape: Sequence[int]) -> bool:
    """Whether each row of a window is a picture with its colours last."""
    return len(shape) == 4 and shape[3] in {1, 3, 4} and min(shape[1:3]) >= _LEAST_PICTURE


def typical_of(
    found: Reference, channels: Sequence[str], rows: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return median and standard deviation of each channel over a reference's windows, float64 ``(channels,)``.

    ``rows``: those of a window. ``None`` if the reference does not have all channels.
    """
    by_name = {one.name: one for one in found.features}
    if not channels or any(f"{channel}.mean" not in by_name for channel in channels):
        return None
    means = [by_name[f"{channel}.mean"] for channel in channels]
    typical = np.array([one.quantiles[len(one.quantiles) // 2] for one in means])
    variances = np.array([one.std for one in means]) ** 2
    within = [by_name.get(f"{channel}.spread") for channel in channels]
    if rows > 1:
        variances += np.array([0.0 if one is None else one.mean for one in within]) ** 2
    return typical, np.sqrt(variances)

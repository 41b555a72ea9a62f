"""The windows that a shadow runs: cut from the same blocks of samples as those of the pipeline."""

from __future__ import annotations

import math
from itertools import chain, islice
from typing import TYPE_CHECKING

import numpy as np
from msgspec.structs import replace

from limpet.contracts.data import Samples
from limpet.contracts.frame import whole
from limpet.errors import ModelError
from limpet.inference.develop import FormWatch
from limpet.inference.finite import finite_runs
from limpet.inference.input_fit import narrowed
from limpet.inference.window import LARGEST, refuse_oversize, windows_a_second

if TYPE_CHECKING:
    from collections.abc import Iterator

    from limpet.contracts.data import Array, SampleSpec, Window
    from limpet.contracts.fields import WindowSpec
    from limpet.contracts.frame import Developer, FrameForm
    from limpet.inference.pipeline import Pipeline
    from limpet.wire.shadow_records import ShadowOpened

MOST_BESIDES = 1024
"""Windows of a block besides one for each of its samples: those after a pause of the source."""


class ShadowWindows:
    """Cuts blocks of samples into the windows of a shadow, beside a pipeline. That may not keep the worker busy.

    ``aligned``: its windows end with the same samples as the pipeline's.
    """

    def __init__(self, opened: ShadowOpened, source: SampleSpec, pipeline: Pipeline) -> None:
        """``ModelError`` if no such windows can be cut of these samples."""
        spec = _narrowed(source, opened.columns)
        refuse_oversize(opened.window, spec)
        _refuse_costly(opened.window, spec)
        theirs, ours = opened.window, pipeline.plan.window
        self._columns = opened.columns
        self._windower = pipeline.windower_beside(theirs, opened.columns, spec)
        self._forms = FormWatch() if spec.frames else None
        self._start: int | None = None
        self._developers: dict[FrameForm, Developer] = {}
        same = (theirs, opened.columns, spec) == (ours, pipeline.plan.columns, pipeline.plan.spec)
        by_count = theirs.seconds is None and ours.seconds is None
        hop, size = theirs.hop or theirs.size or 1, theirs.size or 1
        self.aligned = same or (by_count and hop == (ours.hop or ours.size))
        self._lead = None if same or not self.aligned else -size % hop

    def ours(self, ordinal: int) -> None:
        """Take note that a window of the pipeline ends with this sample: those of the shadow will be in step."""
        if self._lead is not None:
            self._start, self._lead = ordinal + 1 + self._lead, None

    def of(self, samples: Samples) -> Iterator[Window]:
        """Return the windows that a block completes. ``ModelError`` from the iterator if these are too many."""
        if self._lead is not None:
            return
        if self._start is not None:
            samples, self._start = (
                _from(samples, self._start),
                None if samples.index >= self._start else self._start,
            )
        if self._columns is not None:
            samples = replace(samples, values=samples.values.take(self._columns, axis=1))
        blocks = finite_runs(samples) if self._forms is None else self._forms.runs(samples)
        windows = chain.from_iterable(map(self._windower.push, blocks))
        yield from islice(windows, len(samples) + MOST_BESIDES)
        if next(windows, None) is not None:
            raise ModelError("its windows are too many for these samples")

    def values(self, window: Window) -> Array:
        """Return the values of a window as an array: frames become pictures (frames, height, width, channels)."""
        if self._forms is None:
            return window.values
        return np.stack([self._pixels(frame) for frame in window.values])

    def _pixels(self, frame: object) -> Array:
        form: FrameForm = frame.form  # type: ignore[attr-defined]
        if form not in self._developers:
            self._developers = {form: frame.developer(whole(form))}  # type: ignore[attr-defined]
        return np.array(self._developers[form](frame))


def _narrowed(spec: SampleSpec, columns: list[int] | None) -> SampleSpec:
    if columns is None:
        return spec
    if not spec.channels or not columns or max(columns) >= len(spec.channels):
        raise ModelError("it takes columns that the samples do not have")
    channels = tuple(spec.channels[column] for column in columns)
    return replace(spec, shape=narrowed(spec.shape, columns), channels=channels)


def _refuse_costly(window: WindowSpec, spec: SampleSpec) -> None:
    """Refuse windows by time whose resampling would take the worker long."""
    if window.seconds is None or window.size is None:
        return
    size = window.size * math.prod(spec.shape) * spec.dtype.itemsize
    a_second = size * (windows_a_second(window, spec) or 0)
    if a_second > LARGEST:
        raise ModelError(f"its windows take {a_second:.3g} bytes a second; the limit is {LARGEST}")


def _from(samples: Samples, start: int) -> Samples:
    """Return a block without the samples before an ordinal."""
    skip = min(max(start - samples.index, 0), len(samples))
    if not skip:
        return samples
    part = slice(skip, None)
    return Samples(
        samples.values[part], samples.monotonic_ns[part], samples.wall_ns[part], samples.index + skip, samples.gap
    )

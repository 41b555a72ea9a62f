"""Frames to pixels: the first stage of a pipeline on frames, with the picture transforms that it begins with.

Those are folded into one view, so that whatever holds the frame makes the pixels in one pass.
"""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from msgspec.structs import replace

from limpet.contracts.data import Cut, Samples
from limpet.contracts.frame import FrameForm, whole
from limpet.errors import LimpetError, ModelError
from limpet.pictures.view import cut_of
from limpet.wording import bug

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from limpet.contracts.data import Array, Window
    from limpet.contracts.frame import Developer, Frame, View
    from limpet.contracts.stage import Spec, Stage
    from limpet.inference.resolving import Configured

OpenStage: TypeAlias = "Callable[[Configured, Spec, str], Stage]"
"""What opens a transform for windows; the text says where it is configured."""

_FORMS = 4
"""Forms of frames for which a developer is kept."""
_ALL = Cut(0.0, 0.0, 1.0, 1.0)


def leading(plugins: Sequence[Configured]) -> tuple[Configured, ...]:
    """Return the transforms of pictures with which a pipeline begins."""
    return tuple(takewhile(lambda plugin: plugin.abilities.picture, plugins))


def fold(plugins: Sequence[Configured], form: FrameForm) -> tuple[View, int]:
    """Return the view that the first transforms make of a frame, and how many of them are in it.

    ``ModelError`` if one of them cannot work on frames of that size.
    """
    view = whole(form)
    for number, plugin in enumerate(plugins):
        try:
            further = plugin.module.view(plugin.config, view)
        except ValueError as error:
            raise ModelError(f"transforms[{number}]: {error}") from error
        except Exception as error:
            raise ModelError(
                f"transforms[{number}]: view() of the plugin {plugin.kind!r} failed: {bug(error)}"
            ) from error
        if further is None:
            return view, number
        view = further
    return view, len(plugins)


class Develop:
    """Frames of any form to pixels ``(rows, height, width, channels)``, with the part that they show as the cut.

    uint8, or float32 if a transform gives that. What cannot be in the view works on the array behind it.
    """

    def __init__(self, frames: Spec, plugins: Sequence[Configured], open_stage: OpenStage) -> None:
        """``ModelError`` if a transform cannot work on such frames, or if nothing says how large the result is."""
        self._plugins = plugins
        self._open_stage = open_stage
        self._forms: dict[FrameForm, _Prepared] = {}
        self.spec = self._chain(replace(frames, frames=False, channels=()), 0)[0]
        if -1 in self.spec.shape[1:]:
            raise ModelError(
                "the source's frames may have any size, and the transforms leave it open; add a resize, such as "
                'transforms = [{ kind = "resize", height = 224, width = 224 }]'
            )
        if -1 not in frames.shape[1:]:
            height, width = frames.shape[1:3]
            fold(plugins, FrameForm(width, height, ""))

    def __call__(self, window: Window) -> Window:
        """Return the window with pixels. ``ModelError`` if a frame is damaged, or its form cannot be used."""
        frames = window.values
        form = frames[0].form
        prepared = self._forms.get(form) or self._prepare(frames[0])
        try:
            window.values = _developed(frames, prepared.developer)
        except ValueError as error:
            raise ModelError(f"a frame of {_named(form)} cannot be developed: {error}") from error
        if prepared.cut != _ALL:
            window.cut = prepared.cut if window.cut is None else window.cut.of(prepared.cut)
        for stage in prepared.transforms:
            window = stage(window)
        return window

    def reset(self) -> None:
        """Do nothing: nothing is remembered but how frames are developed."""

    def _prepare(self, frame: Frame) -> _Prepared:
        form = frame.form
        view, count = fold(self._plugins, form)
        try:
            developer = frame.developer(view)
        except LimpetError:
            raise
        except Exception as error:
            raise ModelError(f"frames of {_named(form)} cannot be developed: {error}") from error
        dtype = np.dtype(np.float32 if view.like == "tensorflow" else np.uint8)
        developed = replace(self.spec, shape=(self.spec.shape[0], *view.shape), dtype=dtype)
        spec, transforms = self._chain(developed, count)
        if spec.shape != self.spec.shape:
            raise ModelError(f"frames of {_named(form)} become {list(spec.shape)}, not {list(self.spec.shape)}")
        if len(self._forms) >= _FORMS:
            self._forms.clear()
        prepared = self._forms[form] = _Prepared(developer, cut_of(view, form), transforms)
        return prepared

    def _chain(self, spec: Spec, begin: int) -> tuple[Spec, list[Stage]]:
        """Open the transforms from one on for arrays; return the form of their result as well."""
        stages = []
        for number, plugin in enumerate(self._plugins[begin:], begin):
            stage = self._open_stage(plugin, spec, f"transforms[{number}]")
            stages.append(stage)
            spec = stage.spec
        return spec, stages


class _Prepared:
    """How frames of one form are developed, which part that shows, and the transforms after it."""

    __slots__ = ("cut", "developer", "transforms")

    def __init__(self, developer: Developer, cut: Cut, transforms: Sequence[Stage]) -> None:
        self.developer = developer
        self.cut = cut
        self.transforms = transforms


def _developed(frames: Array, developer: Developer) -> Array:
    if len(frames) == 1:
        return developer(frames[0])[np.newaxis]
    return np.stack([developer(frame).copy() for frame in frames])


def _named(form: FrameForm) -> str:
    return f"{form.width}x{form.height} {form.format}".strip()


class FormWatch:
    """Sees when the frames of a source change their form. That is a gap in the samples, and an event."""

    def __init__(self) -> None:
        self._form: FrameForm | None = None
        self._news = ""

    def runs(self, samples: Samples) -> list[Samples]:
        """Return a block in runs of one form each, with a gap before each that is another than the one before."""
        runs: list[Samples] = []
        first = 0
        forms: list[Any] = [frame.form for frame in samples.values]
        for end in range(1, len(forms) + 1):
            if end == len(forms) or forms[end] != forms[first]:
                runs.append(self._run(samples, first, end, forms[first]))
                first = end
        return runs or [samples]

    def _run(self, samples: Samples, first: int, end: int, form: FrameForm) -> Samples:
        before, self._form = self._form, form
        changed = before is not None and before != form
        if changed:
            self._news = f"the source's frames are {_named(form)} now; they were {_named(before or form)}"
        if not changed and end - first == len(samples):
            return samples
        part = slice(first, end)
        return Samples(
            samples.values[part],
            samples.monotonic_ns[part],
            samples.wall_ns[part],
            samples.index + first,
            changed or (samples.gap and not first),
        )

    def news(self) -> str:
        """Return the text of an event if the form changed since this was called last."""
        news, self._news = self._news, ""
        return news

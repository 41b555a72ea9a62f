"""What the transforms of pictures have in common: views of arrays ``(n, height, width, channels)``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeAlias

import numpy as np
from msgspec import Meta
from msgspec.structs import replace

from limpet.contracts.data import Cut
from limpet.contracts.frame import FrameForm, whole
from limpet.errors import ModelError
from limpet.pictures.rendering import renderer
from limpet.pictures.view import cut_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from limpet.contracts.data import Array, Window
    from limpet.contracts.frame import Like, Method, View
    from limpet.contracts.stage import Spec
    from limpet.pictures.rendering import Step

ToView: TypeAlias = "Callable[[View], View | None]"
"""What a transform makes of a view."""

Side = Annotated[int, Meta(ge=1, le=1 << 14)]
"""Pixels of a side of a picture for a model."""
LARGEST = 1 << 26
"""Numbers in a picture for a model: its worker holds several."""
ALL = Cut(0.0, 0.0, 1.0, 1.0)


def refuse_no_pictures(name: str, spec: Spec) -> None:
    """Raise ``ValueError`` if windows are no pictures ``(n, height, width, channels)``."""
    if len(spec.shape) != 4 or spec.shape[3] < 1:
        raise ValueError(f"{name} takes pictures (n, height, width, channels), not {list(spec.shape)}")


def resized_type(spec: Spec, method: Method, like: Like) -> np.dtype[np.generic]:
    """Return the type of resized pictures: bytes stay bytes unless TensorFlow's numbers are wanted."""
    stays = spec.dtype == np.uint8 and (like != "tensorflow" or method == "nearest")
    return np.dtype(np.uint8 if stays else np.float32)


class Pictures:
    """Makes each picture of a window as a view of it wants it; ``spec`` is the form of the result.

    A size that changes costs a new preparation. ``Window.cut`` says afterwards which part the window shows.
    """

    def __init__(self, before: Spec, after: Spec, to_view: ToView) -> None:
        """Prepare. ``ValueError`` if pictures of a size that is known cannot be made so."""
        self.spec = after
        self._to_view = to_view
        self._form: tuple[tuple[int, ...], np.dtype[np.generic]] | None = None
        self._render: Step = np.ascontiguousarray
        self._cut = ALL
        self._out = np.empty(0, after.dtype)
        if -1 not in before.shape[1:]:
            self._prepare(before.shape[1:], before.dtype)

    def __call__(self, window: Window) -> Window:
        """Return the window with its pictures made. ``ModelError`` if one of another size cannot be."""
        values = window.values
        if (values.shape[1:], values.dtype) != self._form:
            try:
                self._prepare(values.shape[1:], values.dtype)
            except ValueError as error:
                raise ModelError(str(error)) from error
        window.values = self._made(values)
        if self._cut != ALL:
            window.cut = Cut(*self._cut) if window.cut is None else window.cut.of(self._cut)
        return window

    def reset(self) -> None:
        """Do nothing: nothing is remembered."""

    def _made(self, values: Array) -> Array:
        for number, picture in enumerate(values):
            made = self._render(picture)
            if (len(values), *made.shape) != self._out.shape or made.dtype != self._out.dtype:
                self._out = np.empty((len(values), *made.shape), made.dtype)
            self._out[number] = made
        return self._out

    def _prepare(self, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> None:
        height, width, channels = shape
        form = FrameForm(width, height, "array")
        view = self._to_view(whole(form))
        assert view is not None  # A whole picture has neither another size nor a border yet.
        self._render = renderer(view, (height, width, channels), dtype)
        self._cut = cut_of(view, form)
        self._form = (shape, dtype)


def sized(spec: Spec, height: int, width: int, dtype: np.dtype[np.generic]) -> Spec:
    """Return the form of windows whose pictures get another size. ``ValueError`` if they are too large."""
    if height * width * spec.shape[3] > LARGEST:
        raise ValueError(f"pictures of {width}x{height} have more than {LARGEST} numbers; make them smaller")
    return replace(spec, shape=(spec.shape[0], height, width, spec.shape[3]), dtype=dtype)

"""What a transform must do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from limpet.contracts.data import Array, SampleSpec


class Transform(Protocol):
    """Windows to model input. ``shape`` and ``dtype`` of what it returns are known before data flow."""

    shape: tuple[int, ...]
    dtype: Any

    def __call__(self, values: Array) -> Array:
        """Return what the model, or the next transform, sees; valid until the next call."""


class TransformPlugin(Protocol):
    """``ValueError`` from ``open`` says why it cannot work on such windows.

    A module with ``ELEMENTWISE = True`` says that of its result each number depends on the number in its place and
    its channel alone, so that it may be opened for, and be given, many windows in one array, along an axis more.

    A module with ``KEEPS_RANGE = True`` says that its result is in the unit and the range of what it gets, so that
    a model may take it as integers that are not quantized, rounded.
    """

    Config: Any
    ELEMENTWISE: bool
    KEEPS_RANGE: bool

    def open(self, config: Any, spec: SampleSpec, shape: tuple[int, ...]) -> Transform:
        """``shape`` is that of the arrays that it will get, ``spec`` that of the source's samples."""

"""What every stage of a pipeline must do: transforms before the model, the decoder and postprocess behind it.

A stage takes a window and returns one. It knows the form of what it returns before data flows.

Memory
    A stage does not own the window that it gets. It must not write to the arrays of that window, and they are
    valid until its call returns: their maker uses the memory again. A stage that needs earlier
    values copies them.

    A stage owns what it returns. The arrays are valid until its next call or ``reset``, so one buffer can serve
    all calls. They may be views of the arrays that it got. The graph makes no second call before a window has left
    the pipeline.

    The ``Window`` itself passes on: a stage sets its attributes and returns it, and keeps no reference to it.
    ``Window.result`` alone outlives the call: it shares no memory with any array.

Gaps
    The graph calls ``reset`` before a window that does not follow the one before. Either samples are missing
    between them, or a transform or the model failed on a window between them. A stage does not look at
    ``Window.gap``. A stage whose memory must outlive a gap, as an alarm does, declares that in its ``ABILITIES``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import msgspec
import numpy as np

from limpet.contracts.data import TensorSpec

if TYPE_CHECKING:
    from limpet.contracts.data import Window


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """The form of the windows between two stages.

    ``shape`` and ``dtype`` are those of ``Window.values``; the shape has -1 first if the number of rows varies.
    ``rate``: rows a second if rows follow each other in time at a steady rate, else ``None``. ``channels``: names
    along the last axis, empty if it has none. ``frames``: each row of ``Window.values`` is a frame, see
    ``limpet.contracts.frame``. Behind the model, ``outputs`` describes ``Window.outputs``, and ``labels`` are
    those of the bundle, then those of the decoder: of its scores or quantities, in order. All are empty before it.
    ``samples``: names of the channels of ``Window.samples``, if they have names. ``beside``: those of
    ``Window.beside``, which the model does not take. ``picture``: width and height of
    the picture that the model gets, ``None`` before it and where its input is none.

    ``hop``: rows from the start of one window to the start of the next, ``None`` where that varies. A stage that
    takes each row once takes the last ``hop`` rows of a window that follows another one.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    rate: float | None = None
    channels: tuple[str, ...] = ()
    hop: int | None = None
    frames: bool = False
    outputs: tuple[TensorSpec, ...] = ()
    labels: tuple[str, ...] = ()
    samples: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    picture: tuple[int, int] | None = None


@runtime_checkable
class Stage(Protocol):
    """One step of a pipeline. Used by one thread."""

    spec: Spec
    """The form of the windows that it returns."""

    def __call__(self, window: Window) -> Window:
        """Return the window for the next stage. ``ModelError``: this window has no result; the next ones go on."""

    def reset(self) -> None:
        """Forget all earlier windows: go on as if newly opened."""

"""The numbers that a window is compared with a reference by, such as the mean and the spread of each channel.

The device and the workstation use the same code on the same samples, so that the numbers can be compared.
``pick`` copies a few thousand bytes of a window. ``of_picked`` computes the features of many windows at once.

* A window of a sensor has ``SENSOR_KINDS`` for each channel. ``spread`` is the standard deviation. ``repeated``
  is the share of samples equal to the one before. ``step`` is the mean absolute difference of these. ``limits``
  is the share of samples equal to the largest or the least of their window.
* A window of sound has ``SOUND_KINDS``. ``level`` is in dB of full scale. ``crossings`` is the share of samples
  with another sign than the one before. ``offset`` is the mean.
* A picture has ``brightness``, ``contrast``, ``sharpness``, ``limits``, and the means of ``red``, ``green`` and
  ``blue``. They are those of the model's input: it has one size and one scale wherever the picture comes from.
  ``sharpness`` is the mean absolute difference of neighbours.
* Anything else has the features of a sensor with one channel, which has no name.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

import msgspec
import numpy as np

from limpet.contracts.drift import MOST_FEATURES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from limpet.contracts.data import Array, FloatArray
    from limpet.contracts.stage import Spec

MOST = MOST_FEATURES // 2
"""Features of a window. With as many, the monitors of a pipeline take 200 kB."""
SOUND_RATE = 4000.0
"""Samples a second from which on one channel, or two, are sound."""
MOST_ROWS = 512
"""Rows of a window that are looked at: all of a shorter one, else pieces of ``PIECE`` rows."""
PIECE = 64
MOST_PICKED = 4096
"""Numbers of a window that are looked at, if its channels are many."""
GRID = 16
"""Pixels along each side of a picture that are looked at, each with its neighbour on the right."""

SENSOR_KINDS = ("mean", "spread", "repeated", "step", "largest", "least", "limits")
SOUND_KINDS = ("level", "peak", "offset", "crossings", "step", "repeated", "limits")
_COLOURS = ("red", "green", "blue")
_FLOOR = 1e-6
"""The level of silence: -120 dB."""
_PLAIN = frozenset({"mean", "spread", "step", "largest", "least", "peak", "offset"})
"""Kinds whose numbers have the channel's unit."""


class Feature(msgspec.Struct, frozen=True):
    """One number of each window. ``channel`` and ``unit`` are empty where there is none."""

    name: str
    channel: str = ""
    unit: str = ""


class WindowFeatures(Protocol):
    """Computes the features of windows of one form."""

    @property
    def features(self) -> tuple[Feature, ...]:
        """What the numbers are, at most ``MOST``."""

    @property
    def reads(self) -> Literal["samples", "inputs"]:
        """What it looks at: the samples before the first transform, or the model's first input as real values."""

    @property
    def picked(self) -> tuple[int, ...]:
        """The shape of what ``pick`` returns, with -1 for a size that differs from window to window."""

    def pick(self, values: Array) -> Array:
        """Return what is looked at of one window: a view, or a small copy. ``values`` has any dtype."""

    def of_picked(self, picked: FloatArray) -> FloatArray:
        """Return the features, ``(n, features)``, of n windows of which ``picked`` ``(n, *self.picked)`` is."""

    def of(self, windows: Array) -> FloatArray:
        """Return the features, float32 ``(n, features)``, of n whole windows, stacked along the first axis."""


def features_of(windows: Spec, units: Sequence[str] = (), model_input: Sequence[int] = ()) -> WindowFeatures:
    """Return what computes the features of windows of this form.

    ``windows``: before the first transform. ``units``: of the channels, if known. ``model_input``: the shape of
    the model's first input; pictures need it.
    """
    picture = _picture_shape(windows.shape)
    if windows.frames or picture is not None:
        shape = _picture_shape(tuple(model_input))
        return RowFeatures((abs(prod(model_input)),), inputs=True) if shape is None else PictureFeatures(shape)
    if len(windows.shape) != 2:
        return RowFeatures((-1 if -1 in windows.shape else prod(windows.shape),))
    names = windows.channels if len(windows.channels) == windows.shape[1] else ()
    channels = list(zip(names, units if len(units) == len(names) else [""] * len(names), strict=True))
    sound = windows.shape[1] <= 2 and windows.rate is not None and windows.rate >= SOUND_RATE
    kinds = SOUND_KINDS if sound else SENSOR_KINDS
    integers = sound and windows.dtype.kind in "iu"
    scale = 1 / (np.iinfo(windows.dtype).max + 1) if integers else 1.0
    return RowFeatures(windows.shape, channels, kinds=kinds, scale=scale)


def _picture_shape(shape: tuple[int, ...]) -> tuple[int, int, int] | None:
    """Return height, width and colours if that is the shape of one picture."""
    while len(shape) > 3 and shape[0] == 1:
        shape = shape[1:]
    if len(shape) != 3 or shape[2] not in {1, 3} or min(shape[:2]) < GRID:
        return None
    return shape[0], shape[1], shape[2]


class RowFeatures:
    """Features of windows ``(rows, channels)``, or of ``(numbers,)`` as one channel without a name.

    ``channels``: their names and units. ``scale``: what samples are multiplied by before, so that integers of
    sound are in full scale, too.
    """

    def __init__(
        self,
        shape: Sequence[int],
        channels: Sequence[tuple[str, str]] = (),
        *,
        kinds: Sequence[str] = SENSOR_KINDS,
        inputs: bool = False,
        scale: float = 1.0,
    ) -> None:
        self.reads: Literal["samples", "inputs"] = "inputs" if inputs else "samples"
        rows, count = shape[0], shape[1] if len(shape) > 1 else 1
        self._flat = len(shape) == 1
        self._scale = np.float32(scale)
        if rows == 1:
            kinds = [kind for kind in kinds if kind in {"mean", "offset"}] or kinds[:1]
        self.kinds = tuple(kinds[: max(1, MOST // count)])
        self._chosen = _spread_out(count, MOST // len(self.kinds))
        named = channels or [("" if self._flat else f"channel {n}", "") for n in range(count)]
        self.features = tuple(
            Feature(
                f"{channel}.{kind}" if channel else kind,
                channel,
                "dB" if kind == "level" else unit if kind in _PLAIN else "",
            )
            for kind in self.kinds
            for channel, unit in (named if self._chosen is None else [named[n] for n in self._chosen])
        )
        self._most = min(MOST_ROWS, max(PIECE, MOST_PICKED // count))
        kept = count if self._chosen is None else len(self._chosen)
        self.picked = (-1, -1, kept) if rows == -1 else (*_pieces(rows, self._most), kept)
        self._whole = len(shape) == 2 and self._chosen is None and self.picked[0] == 1

    def pick(self, values: Array) -> Array:
        """Return pieces of the window, ``(pieces, rows, channels)``."""
        if self._whole:
            return values[np.newaxis]
        values = values.reshape(-1, 1) if self._flat else values.reshape(len(values), -1)
        if self._chosen is not None:
            values = values[:, self._chosen]
        pieces, rows = _pieces(len(values), self._most)
        stride = len(values) // pieces
        return values[: pieces * stride].reshape(pieces, stride, -1)[:, :rows]

    def of_picked(self, picked: FloatArray) -> FloatArray:
        """Return the features: those of the first kind for all channels, then the next kind."""
        values = np.ascontiguousarray(np.moveaxis(picked, 3, 1), np.float32)
        if self._scale != 1:
            values = values * self._scale
        with np.errstate(all="ignore"):
            numbers = _Numbers(values)
            made = np.concatenate([_KINDS[kind](numbers) for kind in self.kinds], axis=1)
        return _bounded(made)

    def of(self, windows: Array) -> FloatArray:
        """Return the features of whole windows."""
        return self.of_picked(np.stack([np.asarray(self.pick(window), np.float32) for window in windows]))


class PictureFeatures:
    """Features of pictures ``(height, width, colours)``, as the model gets them."""

    reads: Literal["samples", "inputs"] = "inputs"

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self._shape = shape
        colours = _COLOURS if shape[2] == 3 else ()
        self.features = tuple(
            Feature(name) for name in ("brightness", "contrast", *colours, "sharpness", "limits")
        )
        self.picked = (2, GRID, GRID, shape[2])
        self._places = _grid(shape[0], shape[1])

    def pick(self, values: Array) -> Array:
        """Return pixels at even places, and their neighbours on the right: ``(2, GRID, GRID, colours)``."""
        return values.reshape(-1, self._shape[2]).take(self._places, axis=0).reshape(self.picked)

    def of_picked(self, picked: FloatArray) -> FloatArray:
        """Return the features in their order."""
        count, depth = len(picked), self._shape[2]
        pixels = picked.reshape(count, 2, GRID * GRID, depth).astype(np.float32, copy=False)
        with np.errstate(all="ignore"):
            grey = pixels @ np.full(depth, 1 / depth, np.float32)
            colours = np.full(GRID * GRID, 1 / GRID**2, np.float32) @ pixels[:, 0]
            brightness = grey[:, 0].mean(axis=1)
            centred = grey[:, 0] - brightness[:, np.newaxis]
            made = np.empty((count, len(self.features)), np.float32)
            made[:, 0] = brightness
            made[:, 1] = np.sqrt((centred * centred).mean(axis=1))
            if depth == 3:
                made[:, 2:5] = colours
            made[:, -2] = np.abs(grey[:, 0] - grey[:, 1]).mean(axis=1)
            made[:, -1:] = _at_limits(grey.reshape(count, 1, -1))
            return _bounded(made)

    def of(self, windows: Array) -> FloatArray:
        """Return the features of whole pictures."""
        return self.of_picked(np.stack([np.asarray(self.pick(window), np.float32) for window in windows]))


def _grid(height: int, width: int) -> NDArray[np.intp]:
    """Return where the pixels are that are looked at, and then their neighbours on the right, row by row."""
    rows = (np.arange(GRID) * 2 + 1) * height // (2 * GRID)
    columns = np.minimum((np.arange(GRID) * 2 + 1) * width // (2 * GRID), width - 2)
    places = rows[:, np.newaxis] * width + columns
    return np.concatenate([places.ravel(), places.ravel() + 1])


def _pieces(rows: int, most: int) -> tuple[int, int]:
    """Return how many pieces of a window of so many rows are looked at, and how many rows each has."""
    return (1, rows) if rows <= most else (most // PIECE, PIECE)


def _spread_out(count: int, most: int) -> np.ndarray[tuple[int, ...], np.dtype[np.intp]] | None:
    """Return which of many channels are looked at; ``None`` for all."""
    return None if count <= most else np.linspace(0, count - 1, most).astype(np.intp)


class _Numbers:
    """Windows ``(n, channels, pieces, rows)`` and what several kinds of features need of them."""

    def __init__(self, values: FloatArray) -> None:
        self.pieces = values
        self.flat: FloatArray = values.reshape(*values.shape[:2], -1)
        self.mean: FloatArray = self.flat.mean(axis=2)
        self._difference: FloatArray | None = None

    @property
    def difference(self) -> FloatArray:
        """Differences of each row and the one before, those of all pieces: ``(n, channels, differences)``."""
        if self._difference is None:
            made = self.pieces[..., 1:] - self.pieces[..., :-1]
            self._difference = made.reshape(*made.shape[:2], -1)
        return self._difference


def _spread(numbers: _Numbers) -> FloatArray:
    centred = numbers.flat - numbers.mean[:, :, np.newaxis]
    return np.asarray(np.sqrt(np.mean(centred * centred, axis=2)))


def _repeated(numbers: _Numbers) -> FloatArray:
    return _share(numbers.difference == 0)


def _step(numbers: _Numbers) -> FloatArray:
    return np.asarray(np.mean(np.abs(numbers.difference), axis=2))


def _at_limits(flat: FloatArray) -> FloatArray:
    least, largest = flat.min(axis=2, keepdims=True), flat.max(axis=2, keepdims=True)
    return _share((flat <= least) | (flat >= largest))


def _share(flags: NDArray[np.bool_]) -> FloatArray:
    """Return the share of flags that are set along the last axis."""
    counts = np.add.reduce(flags.view(np.uint8), axis=-1, dtype=np.uint32)
    return np.asarray(counts / flags.shape[-1], np.float32)


def _level(numbers: _Numbers) -> FloatArray:
    power = np.mean(numbers.flat * numbers.flat, axis=2)
    return np.asarray(20 * np.log10(np.maximum(np.sqrt(power), _FLOOR)), np.float32)


def _crossings(numbers: _Numbers) -> FloatArray:
    positive = numbers.pieces >= 0
    changes = positive[..., 1:] != positive[..., :-1]
    return _share(changes.reshape(*changes.shape[:2], -1))


_Kind: TypeAlias = "Callable[[_Numbers], FloatArray]"
_KINDS: dict[str, _Kind] = {
    "mean": lambda numbers: numbers.mean,
    "offset": lambda numbers: numbers.mean,
    "spread": _spread,
    "repeated": _repeated,
    "step": _step,
    "largest": lambda numbers: np.asarray(numbers.flat.max(axis=2)),
    "least": lambda numbers: np.asarray(numbers.flat.min(axis=2)),
    "limits": lambda numbers: _at_limits(numbers.flat),
    "level": _level,
    "peak": lambda numbers: np.asarray(np.abs(numbers.flat).max(axis=2)),
    "crossings": _crossings,
}


def _bounded(features: FloatArray) -> FloatArray:
    """Return finite numbers: sums over huge samples may be infinite."""
    made = np.asarray(features, np.float32)
    return made if np.isfinite(made).all() else np.nan_to_num(made)

"""A captured window as lines of text: numbers and sound as plots, pictures in half blocks. No I/O."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np

from limpet.captures import arrays
from limpet.errors import UnreadableError
from limpet.extras import install_extra
from limpet.recorder.plot import braille, drawable
from limpet.recordings import layouts
from limpet.review.session import choices, offers_nothing
from limpet.untrusted import printable, reading
from limpet.watch.words import padded
from limpet.wording import answered

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from limpet.captures.ring import Entry
    from limpet.contracts.captures import Capture, Contents
    from limpet.contracts.data import Array
    from limpet.review.session import Queue

_NAME = 12
_SIDE = 26
"""Columns beside a plot: the channel, and its lowest and highest value."""
_SHADES = " .:-=+*#%@"
_MOST_PICTURES = 4
_MOST_VALUES = 1 << 18
"""Samples of a channel that are drawn. Of more, each n-th is drawn with its extremes."""


def heading(entry: Entry, place: str) -> list[str]:
    """Return what is known of a capture: when, why, and what the model answered."""
    capture = entry.capture
    time = "time unknown" if capture.clock else f"{capture.time:%Y-%m-%d %H:%M:%S}"
    score = "" if capture.score is None else f" {capture.score:.0%}"
    answer = answered(capture.answer)
    why = ", ".join(capture.reasons) + (f" ({capture.detail})" if capture.detail else "")
    truth = entry.truth
    before = "" if truth is None else "unsure" if truth.unsure else answered(truth.truth)
    lines = [
        f"{place}  {capture.device} {capture.name}  {time}",
        f"kept: {why}",
        f"{capture.model} {capture.version} answered: {answer}{score}",
        *([f"truth: {before}"] if before else []),
    ]
    return [printable(line) for line in lines]


def keys(queue: Queue, answer: object) -> str:
    """Return the line that says what a person can press or type."""
    if isinstance(answer, float):
        return "a number  u unsure  s skip  b back  q end"
    chosen = [key if key == label else f"{key} {label}" for key, label in choices(queue.labels).items()]
    nothing = ["0 nothing"] if offers_nothing(queue.labels) else []
    rest = ["= another label", "u unsure", "s skip", "b back", "p play", "q end"]
    return printable("  ".join([*chosen, *nothing, *rest]))


def window(capture: Capture, contents: Contents, size: tuple[int, int], *, colour: bool) -> list[str]:
    """Return a window in at most ``size`` (columns, lines). ``UnreadableError`` if it cannot be shown."""
    with reading(f"the window of {capture.name}"):
        if frames := pictures(capture, contents):
            return _shown(frames, size, colour=colour)
        values = arrays.samples(capture, contents)
        return plot(capture, values.reshape(len(values), -1) if values.size else values, size)


def pictures(capture: Capture, contents: Contents) -> list[Array]:
    """Return the pictures of a window, ``(height, width, 3)``, 0 to 255 each. Empty if it has none."""
    if capture.window.encoding == "jpeg":
        if find_spec("PIL") is None:
            raise UnreadableError(f"pictures need the extra 'camera': {install_extra('camera')}")
        from limpet.sources import _picture

        decoded = [_picture.decode(part).pixels for part in contents.parts[:_MOST_PICTURES]]
        return [np.broadcast_to(one, (*one.shape[:2], 3)) for one in decoded]
    values = arrays.samples(capture, contents)
    if values.ndim != 4 or values.shape[3] not in {1, 3} or not values.size:
        return []
    low, high = float(drawable(values).min()), float(drawable(values).max())
    scaled = (drawable(values[:_MOST_PICTURES]) - low) / max(high - low, 1e-9) * 255
    return list(np.broadcast_to(scaled, (*scaled.shape[:3], 3)).astype(np.uint8))


def plot(capture: Capture, values: Array, size: tuple[int, int]) -> list[str]:
    """Draw each channel of ``values`` ``(samples, channels)`` on its own scale, as far as there is room."""
    columns, lines = size
    if not values.size:
        return ["the window is empty"]
    count = values.shape[1]
    shown = min(count, max(1, lines // 2))
    height = max(1, min(8, lines // shown))
    own = capture.window.channels
    names = own if len(own) == count else [f"c{number}" for number in range(1, count + 1)]
    found: list[str] = []
    for at in range(shown):
        found += _channel(names[at], values[:, at], (max(10, columns - _SIDE), height))
    if shown < count:
        found.append(f"... and {count - shown} more channels")
    rate = capture.window.rate
    length = f"{len(values) / rate:.3g} s at {rate:g} Hz" if rate else "no rate"
    return [*found, f"{len(values)} samples, {length}"]


def _channel(name: str, values: Array, size: tuple[int, int]) -> list[str]:
    numbers = _thinned(drawable(values))
    seconds = np.arange(len(numbers), dtype=np.float64)
    drawn = braille(seconds, numbers[:, None], (0.0, float(len(numbers))), size)
    beside = [""] * len(drawn)
    low, high = f"{numbers.min():.4g}", f"{numbers.max():.4g}"
    beside[-1] = low
    beside[0] = high if len(drawn) > 1 else f"{low} .. {high}"
    label = padded(printable(name), _NAME)
    return [
        f"{label if row == 0 else ' ' * _NAME} {line} {text}"
        for row, (line, text) in enumerate(zip(drawn, beside, strict=True))
    ]


def _thinned(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return no more than ``_MOST_VALUES`` values, with the lowest and the highest of each stretch."""
    if len(values) <= _MOST_VALUES:
        return values
    step = -(-len(values) // (_MOST_VALUES // 2))
    whole = values[: len(values) // step * step].reshape(-1, step)
    return np.stack([whole.min(axis=1), whole.max(axis=1)], axis=1).reshape(-1)


def _shown(frames: Sequence[Array], size: tuple[int, int], *, colour: bool) -> list[str]:
    columns, lines = size
    each = max(2, lines // len(frames))
    found: list[str] = []
    for pixels in frames:
        found += _blocks(_fitted(pixels, columns, 2 * each), colour=colour)
    return found


def _fitted(pixels: Array, columns: int, rows: int) -> Array:
    """Return a picture whose sides are at most ``columns`` and ``rows``, rows in even number."""
    height, width = pixels.shape[:2]
    share = min(columns / width, rows / height, 1.0)
    wide, high = max(1, int(width * share)), max(2, int(height * share) // 2 * 2)
    chosen: Array = pixels[np.arange(high) * height // high][:, np.arange(wide) * width // wide]
    return chosen


def _blocks(pixels: Array, *, colour: bool) -> list[str]:
    if not colour:
        grey = pixels[::2].astype(np.float64).mean(axis=2)
        return ["".join(_SHADES[int(value / 256 * len(_SHADES))] for value in row) for row in grey]
    return [
        "".join(_pair(top, bottom) for top, bottom in zip(above, below, strict=True)) + "\x1b[0m"
        for above, below in zip(pixels[::2], pixels[1::2], strict=True)
    ]


def _pair(top: Array, bottom: Array) -> str:
    fore, back = (";".join(str(int(value)) for value in one) for one in (top, bottom))
    return f"\x1b[38;2;{fore}m\x1b[48;2;{back}m▀"


def wave(capture: Capture, contents: Contents) -> bytes:
    """Return a window of sound as a WAV file. ``UnreadableError`` if it is no sound."""
    rate = capture.window.rate
    if capture.window.encoding != "raw" or not layouts.fits_wave(rate):
        raise UnreadableError(f"{capture.name} is no sound")
    values = arrays.samples(capture, contents)
    if values.dtype.kind != "f" or values.ndim > 2 or (values.ndim == 2 and values.shape[1] > 2):
        raise UnreadableError(f"{capture.name} is no sound")
    table = values.reshape(len(values), -1)
    layout = layouts.Wave(rate or 0.0)
    rows = layout.rows(np.zeros(0), table)
    return layout.header(["sound"] * table.shape[1], len(rows)) + rows

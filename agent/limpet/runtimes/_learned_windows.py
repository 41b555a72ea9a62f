"""The windows that a model has learned from, and the file that keeps them.

What is in that file may be damaged or foreign.
"""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - msgspec reads it
from typing import TYPE_CHECKING, Annotated

import msgspec
import numpy as np
from msgspec import Meta

from limpet.device import kept_file
from limpet.errors import UnreadableError

if TYPE_CHECKING:
    from limpet.contracts.data import FloatArray

FORMAT = 1
_VALUES, _FEWEST, _MOST = 1 << 17, 1024, 4096
"""Values that are kept, and between how many windows."""
_MASK = (1 << 64) - 1


def capacity(channels: int) -> int:
    """Return how many windows of so many values are kept."""
    return max(_FEWEST, min(_MOST, _VALUES // channels))


class Kept(msgspec.Struct, forbid_unknown_fields=True):
    """What is in the file: ``rows`` are float32, little-endian. ``meaning`` is what they were learned from."""

    format: int
    meaning: Annotated[str, Meta(max_length=512)]
    windows: Annotated[int, Meta(ge=0, le=1 << 53)]
    learned_ns: Annotated[int, Meta(ge=0, le=1 << 62)]
    rows: bytes


class LearnedWindows:
    """A sample of all windows so far, in which each has the same chance to be (reservoir sampling, algorithm R).

    ``windows`` counts all that came, ``learned_ns`` the time in which they did.
    """

    def __init__(self, channels: int, seed: int) -> None:
        self.windows = 0
        self.learned_ns = 0
        self._seed = seed
        self._rows = np.empty((capacity(channels), channels), np.float32)

    @property
    def rows(self) -> FloatArray:
        """The windows that are kept, ``(n, channels)``. Not a copy."""
        return self._rows[: min(self.windows, len(self._rows))]

    def add(self, window: FloatArray, elapsed_ns: int) -> None:
        """Take a window, ``elapsed_ns`` after the one before."""
        place = self.windows
        self.windows += 1
        self.learned_ns += elapsed_ns
        if place >= len(self._rows):
            place = _random(self._seed + self.windows) % self.windows
        if place < len(self._rows):
            self._rows[place] = window

    def encoded(self, meaning: str) -> bytes:
        """Return the file's content."""
        return kept_file.encode(self._kept(meaning))

    def _kept(self, meaning: str) -> Kept:
        return Kept(FORMAT, meaning, self.windows, self.learned_ns, self.rows.astype("<f4").tobytes())

    def restore(self, content: bytes, meaning: str) -> str:
        """Go on from a file's content. Return why that is not possible, empty if it is.

        If it is not, nothing has changed.
        """
        try:
            kept = kept_file.decode(content, Kept)
        except UnreadableError as error:
            return str(error)
        if kept.format != FORMAT:
            return f"it has format {kept.format}, not {FORMAT}"
        if kept.meaning != meaning:
            return "it was learned from other channels, windows or options"
        size = 4 * self._rows.shape[1] * min(kept.windows, len(self._rows))
        if len(kept.rows) != size:
            return f"it has {len(kept.rows)} bytes of windows, not {size}"
        rows = np.frombuffer(kept.rows, "<f4").reshape(-1, self._rows.shape[1])
        if not np.isfinite(rows).all():
            return "it has values that are no numbers"
        self._rows[: len(rows)] = rows
        self.windows, self.learned_ns = kept.windows, kept.learned_ns
        return ""

    def load(self, path: Path, meaning: str) -> str:
        """Go on from a file. Return why that is not possible, empty if it is or if there is no file."""
        largest = 4 * self._rows.size + (1 << 12)
        try:
            content = kept_file.read(path, largest)
        except UnreadableError as error:
            return str(error)
        return "" if content is None else self.restore(content, meaning)

    def save(self, path: Path, meaning: str) -> None:
        """Write the file so that after a power cut it is either the old one or the new one. ``OSError``."""
        kept_file.save(path, self._kept(meaning))


def _random(number: int) -> int:
    """Return 64 random bits for a number, always the same (SplitMix64)."""
    number = (number * 0x9E3779B97F4A7C15) & _MASK
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & _MASK
    return number ^ (number >> 31)

"""Which channels a board sends, from its bytes alone, and which window suits their rate. No I/O."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from limpet import plugins
from limpet.sources._recognition import recognise

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST = 64
"""Channels that a starter takes, and values of one window."""
_SOME = 4096
"""Bytes in which channels are looked for."""
_PAIR = re.compile(r"([A-Za-z_]\w{0,31})\s*[:=]\s*[-+]?[\d.]")
_WORD = re.compile(r"[A-Za-z_][\w .%/()°-]{0,31}")
_DELIMITERS = (",", ";", "\t", "|", None)
_CLOCKS = re.compile(
    r"(?i)(time|date|clock|uptime|epoch)(stamp)?([ _]?(s|ms|us|ns|utc))?|t|ts|ms|us|ns|millis|micros|sequence|seq"
    r"|count(er)?|index|n"
)
"""Names of times and counters: they never repeat, so nothing about them is normal."""
_COUNTING = 8
"""Rows in which a column must grow to be a clock."""
_FAST = 8.0
"""Rows a second from which one row alone says little."""
_QUICK = 32.0
"""Rows a second from which one second is enough for a window, and not two."""
FEATURES = ("mean", "std", "min", "max")


class Found(NamedTuple):
    """``framing`` reads the bytes. ``fields`` are its columns, if some are no channels. ``rows``: samples."""

    framing: str
    channels: tuple[str, ...]
    rows: int
    fields: tuple[str, ...] = ()

    @property
    def left_out(self) -> tuple[str, ...]:
        """Columns that are clocks or counters."""
        return tuple(name for name in self.fields if name not in self.channels)


class WindowChoice(NamedTuple):
    """``size`` in samples; with ``features``, statistics describe it. ``shape`` is what the model takes."""

    size: int
    features: tuple[str, ...]
    shape: tuple[int, int]


def find(data: bytes, names: Sequence[str] = ()) -> Found | None:
    """Return what a board sends, ``None`` if that is not seen. ``names``: names of its columns, if a person says.

    Names are those of JSON keys, of pairs such as ``x:1``, or of a header; else c0, c1, ...
    """
    some = data[:_SOME]
    lines = [line.decode("utf-8", "replace").strip() for line in re.split(rb"[\r\n]+", some)[1:-1]]
    for wanted in [list(names)] if names else [_keys(lines), _paired(lines)]:
        channels = [name for name in wanted if names or not _CLOCKS.fullmatch(name)]
        if channels and (seen := recognise(some, channels))[1]:
            return Found(seen[0], tuple(channels), seen[1])
    return None if names else _counted(some, lines)


def _counted(data: bytes, lines: Sequence[str]) -> Found | None:
    """Find boards that send numbers alone: so many that most rows can be read."""
    best = ("", 0, 0)
    for width in range(1, MOST + 1):
        framing, rows = recognise(data, _numbered(width))
        if rows and rows >= best[1]:
            best = (framing, rows, width)
    framing, rows, width = best
    if not framing:
        return None
    columns = _header(lines, width) or _numbered(width)
    clocks = {name for name in columns if _CLOCKS.fullmatch(name)}
    if columns == _numbered(width):
        clocks |= {columns[place] for place in _counting(data, framing, width)}
    channels = tuple(name for name in columns if name not in clocks)
    if not clocks or not channels or framing not in {"csv", "json"}:
        return Found(framing, tuple(columns), rows)
    return Found(framing, channels, rows, tuple(columns))


def window(rate: float | None, channels: int, size: int | None = None) -> WindowChoice:
    """Return a window for so many rows a second, ``None`` if that is not known; ``size`` if a person says so.

    Slow telemetry goes row by row. Of a fast signal, statistics describe one or two seconds.
    """
    if size is None:
        fast = rate is not None and rate >= _FAST
        size = round(rate * (1 if rate >= _QUICK else 2)) if fast and rate else 1
    if size == 1:
        return WindowChoice(1, (), (1, channels))
    features = FEATURES[: MOST // channels] if 2 * channels <= MOST else ("rms",)
    return WindowChoice(size, features, (len(features), channels))


def _numbered(width: int) -> list[str]:
    return [f"c{number}" for number in range(width)]


def _keys(lines: Sequence[str]) -> list[str]:
    """Return the keys of JSON objects that have numbers, as the framing ``json`` finds them."""
    for line in reversed(lines):
        try:
            value = json.loads(line[line.index("{") : line.rindex("}") + 1])
        except (ValueError, RecursionError):
            continue
        paths = list(_numeric(value)) if isinstance(value, dict) else []
        last = [path.rpartition(".")[2] for path in paths]
        return [name if last.count(name) == 1 else path for name, path in zip(last, paths, strict=True)]
    return []


def _numeric(value: Any, path: str = "", depth: int = 3) -> list[str]:
    if isinstance(value, dict) and depth:
        inner = (_numeric(one, f"{path}.{key}" if path else str(key), depth - 1) for key, one in value.items())
        return [name for names in inner for name in names]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return [path] if path and is_number else []


def _paired(lines: Sequence[str]) -> list[str]:
    """Return the names in lines such as ``x:1 y:2``."""
    found = Counter(tuple(names) for line in lines if (names := _PAIR.findall(line)))
    if not found:
        return []
    usual, count = found.most_common(1)[0]
    return list(usual) if 2 * count > len(lines) and len(set(usual)) == len(usual) else []


def _header(lines: Sequence[str], width: int) -> list[str]:
    """Return the columns that a header names."""
    for line in lines:
        for delimiter in _DELIMITERS:
            cells = [cell.strip("\"' ") for cell in line.lstrip("# ").split(delimiter)]
            if len(cells) == width == len(set(cells)) and all(map(_WORD.fullmatch, cells)):
                return cells
    return []


def _counting(data: bytes, framing: str, width: int) -> list[int]:
    """Return the columns that grow from each row to the next by about as much: clocks and counters."""
    module = plugins.load("framings", framing)
    values = module.open(module.Config(), _numbered(width), Counter()).feed(data).values
    if len(values) < _COUNTING:
        return []
    steps = np.diff(values, axis=0)
    usual = np.median(steps, axis=0)
    steady = (steps > 0).all(axis=0) & (np.abs(steps - usual) <= np.abs(usual)).all(axis=0)
    return [int(place) for place in np.flatnonzero(steady)]

"""One JSON value a line: an object with a key for each channel, or an array in the order of ``fields``.

A channel inside another object is found by its path (``imu.ax``, ``acc.0``), or by its last word if no other path
ends with it. Otherwise set ``paths``. Numbers in quotes are read, with a unit too; ``true`` is 1. ``null`` and
``NaN`` stand for a value that the node could not take and are counted as ``not_finite``. In an object,
``sequence`` (a count of the samples) and ``time_us`` (the node's clock in µs) are read too if they are present.
Other keys are ignored.

Text around an object, such as the prefix of a logger, is skipped. A log message or an object without any of the
channels is counted as ``not_data``; no sample is lost.
"""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from limpet.sources import _numbers
from limpet.sources.framings._lines import (
    RESERVED,
    Line,
    LineFraming,
    LineOptions,
    NoSampleError,
    Units,
    whole,
)
from limpet.sources.framings._splitter import BadFrameError
from limpet.sources.framings._words import has_words, is_garbage, text_of

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Mapping, Sequence

    from limpet.contracts.framing import Framing
    from limpet.sources._numbers import Decimal


class Config(LineOptions, kw_only=True, forbid_unknown_fields=True):
    """One JSON object or array a line."""

    paths: dict[str, str] = msgspec.field(default_factory=dict)
    """Where in the object a channel is. Default: under its own name, at the top or in exactly one inner object.
    Example: `{ ax = "imu.accel.x" }`."""
    decimal: Literal[".", ","] = "."
    """Decimal character of numbers in quotes."""


def open(config: Config, channels: Sequence[str], dropped: Counter[str]) -> Framing:
    """Count ``partial``, ``overlong``, ``fields`` (too few, too many), ``malformed`` and ``not_data`` lines."""
    fields = config.columns(channels)
    if strangers := set(config.paths) - set(channels):
        raise ValueError(f"paths: {min(strangers)!r} is not one of the channels")
    return LineFraming(_Values(fields, channels, config.paths, config.decimal), config, dropped)


_PYTHON = {"None": "null", "True": "true", "False": "false", "nan": "NaN", "inf": "Infinity"}
_DEEPEST = 8
_LONGEST_KEY = 64
_LONGEST_COUNTER = 20
_PYTHON_WORDS = re.compile(r"\b(?:None|True|False|nan|inf)\b")
_TAGS = re.compile(r'(?:[^{}"]*\{[^{}":]*\})+(?=[^{}"]*\{)')
"""What a logger may write in braces before an object."""
_ONLY_NUMBERS = re.compile(r"[\[\]\s.,eE+-]*\d[\[\]\s0-9.,eE+-]*")


class _Values:
    """Reads objects and arrays without building more of them than is needed."""

    checked = True

    def __init__(
        self, fields: Sequence[str], channels: Sequence[str], paths: Mapping[str, str], decimal: Decimal
    ) -> None:
        self._decimal = decimal
        self.channels = len(channels)
        self._fields = fields
        self._names = channels
        self._wanted = {name: paths.get(name, name).replace("[", ".").replace("]", "") for name in channels}
        self._found: dict[str, str] = {}
        self._arrays: bool | None = None
        """Whether the first sample was an array. If it was an object, arrays are no samples."""
        self._units = Units()
        self._columns = [fields.index(name) if name in fields else None for name in (*channels, *RESERVED)]
        self._just_channels = self._columns == [*range(len(fields)), None, None]
        members: list[Any] = [(f"v{i}", float | None, msgspec.field(name=name)) for i, name in enumerate(channels)]
        members += [(name, int | None, None) for name in RESERVED]
        # All channels have to be there. Then msgspec builds nothing but the sample.
        sample = msgspec.defstruct("Sample", members)
        self._decoder = msgspec.json.Decoder(sample | list[float | None])
        self._plain = not paths

    def quick(self, raw: bytes) -> Line | None:
        """Read an object that has each channel as a number, or an array of numbers, but not the first one."""
        sample = self._decode(raw)
        if sample is None or self._arrays is None:
            return None
        if not isinstance(sample, list):
            return _line(sample)
        plain = self._arrays and self._just_channels and len(sample) == self.channels
        return (sample, None, None) if plain else None

    def parse(self, text: bytes) -> Line | None:
        """Return the sample of one line."""
        sample = self._decode(text)
        if sample is None:
            return self._slow(text)
        if isinstance(sample, list):
            return self._array(sample)
        self._arrays = self._arrays or False
        return _line(sample)

    def _decode(self, text: bytes) -> Any:
        """Return a sample or a list of numbers; ``None`` for anything else."""
        if not self._plain:
            return None
        try:
            return self._decoder.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None

    def comment(self, text: bytes) -> None:
        """Pass it over."""

    def _array(self, elements: Sequence[float | None]) -> Line:
        if self._arrays is False:
            raise NoSampleError
        if len(elements) != len(self._fields):
            raise BadFrameError("fields")
        self._arrays = True
        *values, sequence, time_us = [None if i is None else elements[i] for i in self._columns]
        return values, _whole(sequence), _whole(time_us)

    def _slow(self, raw: bytes) -> Line:
        """Read a line that is not simply an object of numbers."""
        text = text_of(raw)
        value = _value(text)
        if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
            (value,) = value
        if isinstance(value, dict):
            return self._object(value)
        if isinstance(value, list) and text.startswith("["):
            return self._array([self._number(str(n), element) for n, element in enumerate(value)])
        if self._arrays is False and not any(mark in text for mark in '{}":') and not is_garbage(text):
            raise NoSampleError
        raise _without_sample(text)

    def _object(self, value: dict[str, Any]) -> Line:
        leaves = _leaves(value)
        found = {name: path for name in self._names if (path := self._path(name, leaves)) is not None}
        if len(found) < len(self._names):
            if any(isinstance(value.get(name), dict | list) for name in self._names):
                raise BadFrameError("malformed")
            raise BadFrameError("fields") if found else NoSampleError
        values = [self._number(name, leaves[path]) for name, path in found.items()]
        self._found, self._arrays = found, self._arrays or False
        sequence, time_us = (_counter(value.get(name)) for name in RESERVED)
        return values, sequence, time_us

    def _path(self, name: str, leaves: Mapping[str, Any]) -> str | None:
        """Return where a channel is. It stays there: a part of another object may have the same last word."""
        wanted = self._wanted[name]
        if wanted in leaves:
            return wanted
        if name in self._found:
            return self._found[name] if self._found[name] in leaves else None
        ends = [path for path in leaves if path.endswith(f".{wanted}")]
        return ends[0] if len(ends) == 1 else None

    def _number(self, name: str, value: Any) -> float | None:
        if value is None or isinstance(value, int | float):
            try:
                return None if value is None else float(value)
            except OverflowError:
                return math.inf
        if not isinstance(value, str) or not value.strip() or (self._decimal == "." and "," in value):
            raise BadFrameError("malformed")  # "1,500" may be 1.5 or 1500
        try:
            number = _numbers.read(value, self._decimal)
        except ValueError:
            raise BadFrameError("malformed") from None
        if not math.isnan(number.value):
            self._units.check(name, number.unit)
        return number.value


def _line(sample: Any) -> Line:
    *values, sequence, time_us = msgspec.structs.astuple(sample)
    return values, sequence, time_us


def _value(text: str) -> Any:
    """Return the object or array in a line as Python or JSON writes it, ``None`` where there is none."""
    tag = _TAGS.match(text)
    begin, end = text.find("{", tag.end() if tag else 0), text.rfind("}")
    candidate = text[begin : end + 1] if 0 <= begin < end else text if text.startswith("[") else ""
    if not candidate:
        return None
    tries = [candidate]
    if text.startswith("[{"):
        tries.insert(0, text)
    if "'" in candidate or _PYTHON_WORDS.search(candidate):
        plain = _PYTHON_WORDS.sub(lambda match: _PYTHON[match.group()], candidate.replace("'", '"'))
        tries.append(plain)
    for one in tries:
        try:
            return json.loads(one)
        except (ValueError, RecursionError):
            continue
    return None


def _leaves(value: dict[str, Any]) -> dict[str, Any]:
    """Return all that is not an object or array, by its path. Depth and keys are bounded: paths take memory."""
    leaves: dict[str, Any] = {}
    inner: list[tuple[str, Any]] = [("", value)]
    for _ in range(_DEEPEST):
        outer, inner = inner, []
        for path, one in outer:
            entries = one.items() if isinstance(one, dict) else enumerate(one)
            for key, entry in entries:
                if isinstance(key, str) and len(key) > _LONGEST_KEY:
                    continue
                below = f"{path}.{key}" if path else str(key)
                if isinstance(entry, dict | list):
                    inner.append((below, entry))
                else:
                    leaves[below] = entry
    return leaves


def _without_sample(text: str) -> Exception:
    """Return what a line is that is no JSON: a damaged sample, or no data."""
    if is_garbage(text) or "{" in text or "}" in text or '":' in text or _ONLY_NUMBERS.fullmatch(text):
        return BadFrameError("malformed")
    if has_words(text) or not any(character.isdigit() for character in text):
        return NoSampleError()
    return BadFrameError("malformed")


def _counter(value: Any) -> int | None:
    """Return a counter out of an object."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= _LONGEST_COUNTER:
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise BadFrameError("malformed")


def _whole(number: float | None) -> int | None:
    """Return a counter out of an array of numbers."""
    try:
        return None if number is None else whole(number)
    except ValueError:
        raise BadFrameError("malformed") from None

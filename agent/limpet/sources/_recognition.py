"""What the bytes of a board are: the framing that reads them, or a sentence about what was seen. No I/O."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from limpet import plugins
from limpet.sources import _numbers
from limpet.sources.framings._lines import LONGER

if TYPE_CHECKING:
    from collections.abc import Sequence

_PAIR = re.compile(r"([A-Za-z_]\w{0,31})\s*[:=]\s*[-+]?[\d.]")
_SINGLE = re.compile(r"([A-Za-z_#][\w #-]{0,31}?)\s*[:=\t ]\s*[-+]?\d[\d.,]*\s?\S{0,3}")
_JOINED = re.compile(r"\}\s*,?\s*\{")
_DECIMAL = 'If each number has a decimal comma, set decimal = "," and `delimiter` of the framing.'
_COMMAS = 'sends numbers with a comma in quotes. If it is the decimal character, set decimal = "," of the framing.'
_NO_NUMBERS = "sends objects with values that are no numbers"
_OBJECT = re.compile(r"\{.*\}")
NOTHING = "sends nothing. Check the cable, the power of the board and its program, and `baud`."
NO_TEXT = "sends bytes that are no text. Check `baud`, `parity` and `framing`."
_UNUSABLE = {
    "out_of_range": "sends values outside `range`. Check `range`, `scale` and `offset`, and the sensor.",
    "not_finite": "sends values that are missing, NaN or infinite. Check the sensor and its wiring.",
    "crc": "sends frames with a wrong checksum. Check `baud`, the cable and how the board computes it.",
    "duplicate": "sends the same sample again and again. Check how the board counts `sequence`.",
}
"""What a board sends if most frames were dropped for this cause."""
_NO_FRAMES = {"not_data", "partial", "sequence_gap", "restarted"}
"""Causes that do not count frames."""
_SOME = 3
_SHOWN = 60
"""Characters of a line that are shown."""


def recognise(data: bytes, channels: Sequence[str]) -> tuple[str, int]:
    """Return the framing in which ``data`` has most rows of ``channels`` and more rows than faults, and how many.

    The empty string where there is none.
    """
    best = ("", 0)
    for kind in plugins.names("framings"):
        module = plugins.load("framings", kind)
        dropped: Counter[str] = Counter()
        try:
            rows = len(module.open(module.Config(), channels, dropped).feed(data).values)
        except ValueError:
            continue
        faults = sum(dropped.values()) - dropped["partial"] - dropped["not_data"]
        if rows > max(best[1], faults):
            best = (kind, rows)
    return best


def why_no_samples(data: bytes, channels: Sequence[str], kind: str, dropped: Counter[str]) -> str:
    """Return why the framing ``kind`` made no sample of ``data``, and what to do. ``dropped``: causes, counted.

    It goes on from the name of the port. The empty string if too little came to see that.
    """
    if not data:
        return NOTHING
    if dropped["overlong"]:
        return f"sends lines that are too long; {LONGER}"
    frames = sum(count for cause, count in dropped.items() if cause not in _NO_FRAMES)
    for cause, seen in _UNUSABLE.items():
        if 2 * dropped[cause] > frames:
            return seen
    return describe(data, channels, kind)


def describe(data: bytes, channels: Sequence[str], kind: str) -> str:
    """Return what a board sends that the framing ``kind`` reads no sample from, and which key is to be changed.

    It goes on from "the board". The empty string if too little came to see that.
    """
    other, rows = recognise(data, channels)
    if other and other != kind:
        return f'sends samples as {other}. Set framing = "{other}".'
    if other and rows < _SOME:
        return ""  # they may yet be read
    if other:
        return f"sends samples that {kind} reads by itself, but not with these keys of the framing. Check them."
    whole = re.split(rb"[\r\n]+", data)[1:-1]
    if _is_binary(data):
        return NO_TEXT
    lines = [line.decode("utf-8", "replace").strip() for line in whole if line.strip()]
    if not lines:
        long = "sends text without line ends. Check `framing`, and its `max_line` if lines are very long."
        return long if len(data) > 1024 else ""
    described = (
        _of_objects(lines, channels, kind)
        or _of_single_values(lines, channels)
        or _of_names(lines, channels)
        or _of_numbers(lines, channels)
    )
    return f"{described} {_DECIMAL}" if _may_be_decimal_commas(lines, len(channels)) else described


def _is_binary(data: bytes) -> bool:
    odd = sum(byte < 9 or 13 < byte < 27 or 27 < byte < 32 or byte > 126 for byte in data)
    return 5 * odd > len(data) and len(data) >= 16


def _may_be_decimal_commas(lines: Sequence[str], width: int) -> bool:
    return all(line.count(",") == 2 * width - 1 and not {".", "{"} & set(line) for line in lines)


def _wanted(channels: Sequence[str]) -> str:
    if len(channels) > 6:
        return f"{channels[0]} ... {channels[-1]}"
    return ", ".join(channels)


def _has_commas(value: dict[str, Any]) -> bool:
    return any(isinstance(one, str) and _numbers.is_number(one, ",") and "," in one for one in value.values())


def _of_objects(lines: Sequence[str], channels: Sequence[str], kind: str) -> str:
    for line in reversed(lines):
        try:
            value = json.loads(line[line.index("{") : line.rindex("}") + 1])
        except (ValueError, RecursionError):
            continue
        keys = _paths(value)
        advice = "Name the channels like the keys, or set `paths` of the framing."
        if kind == "json" and set(channels) <= set(keys):
            return _COMMAS if _has_commas(value) else f"{_NO_NUMBERS}, such as {line[:_SHOWN]!r}. Send numbers."
        if kind != "json":
            advice = 'Set framing = "json", and name the channels like the keys.'
        return f"sends JSON with the keys {_listed(keys)}. The channels are {_wanted(channels)}. {advice}"
    if 2 * sum(_JOINED.search(line) is not None for line in lines) > len(lines):
        return "sends several objects a line. Send each object on its own line."
    if broken := next((line for line in lines if _OBJECT.search(line)), ""):
        return f"sends objects that are no valid JSON, such as {broken[:_SHOWN]!r}. Send one valid object a line."
    if any(line in {"{", "[", "[{"} for line in lines) or (lines[0][-1] == "," and lines[0][0] == "{"):
        return "sends JSON over several lines. Send each sample on its own line."
    return ""


def _paths(value: Any, depth: int = 3) -> list[str]:
    if not isinstance(value, dict | list) or not depth:
        return []
    found = []
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        below = _paths(inner, depth - 1)
        found += [f"{key}.{path}" for path in below] or [str(key)]
    return found


def _listed(names: Sequence[str]) -> str:
    cut = [name[:_SHOWN] for name in names[:8]]
    shown = ", ".join(name if name.isprintable() else repr(name) for name in cut)
    return f"{shown}, ..." if len(names) > 8 else shown or "(none)"


def _of_single_values(lines: Sequence[str], channels: Sequence[str]) -> str:
    """Describe lines that have one named value each, as energy meters and many sketches print them."""
    found = [match for line in lines if (match := _SINGLE.fullmatch(line))]
    names = list(dict.fromkeys(match[1] for match in found))
    if len(channels) < 2 or len(names) < 2 or 3 * len(found) <= len(lines) or len(found) < 2 * len(names):
        return ""
    return (
        f"sends each value on its own line ({_listed(names)}). The channels are {_wanted(channels)}. "
        "Send all values of a sample on one line."
    )


def _of_names(lines: Sequence[str], channels: Sequence[str]) -> str:
    """Describe lines such as ``x:1 y:2``. A log message rarely has two such pairs."""
    least = min(len(channels), 2)
    found = [tuple(pairs) for line in lines if len(pairs := _PAIR.findall(line)) >= least]
    if 2 * len(found) <= len(lines):
        return ""
    names = Counter(found).most_common(1)[0][0]
    if {name.casefold() for name in names} == {name.casefold() for name in channels}:
        return f"sends lines such as {lines[-1][:_SHOWN]!r}. Check `delimiter` and `decimal` of the framing."
    advice = "Name the channels like them."
    return f"sends the names {_listed(list(names))}. The channels are {_wanted(channels)}. {advice}"


def _of_numbers(lines: Sequence[str], channels: Sequence[str]) -> str:
    widths: Counter[int] = Counter()
    for line in lines:
        cells = _cells(line)
        if cells:
            widths[len(cells)] += 1
    if not widths:
        seen = f"sends text without samples, such as {lines[-1][:_SHOWN]!r}."
        if not any(character.isdigit() for line in lines for character in line):
            return f"{seen} Check `baud` and `framing`."
        return f"{seen} Send numbers alone, as 1,2, or behind their names, as x:1,y:2. Otherwise check `baud`."
    width, count = len(channels), widths.most_common(1)[0][0]
    labelled = not all(_numbers.is_number(cell) or _numbers.is_number(cell, ",") for cell in _cells(lines[-1]))
    noun = "columns" if labelled else "number" if count == 1 else "numbers"
    if count == width:
        advice = "Send numbers alone, or check `delimiter` and `decimal` of the framing."
        return f"sends lines such as {lines[-1][:_SHOWN]!r}. {advice}"
    advice = "Name all columns in `fields` of the framing, or check `channels`."
    if count < width:
        advice = f"Check `channels`, or use a model with {count} input{'' if count == 1 else 's'}."
    return f"sends {count} {noun} a line. `channels` has {width} ({_wanted(channels)}). {advice}"


def _cells(line: str) -> list[str]:
    """Return the columns of a line that holds mostly numbers, none for another."""
    for delimiter in (";", "\t", ",", "|", None):
        cells = [cell for cell in line.split(delimiter) if cell.strip()]
        numbers = sum(_numbers.is_number(cell) or _numbers.is_number(cell, ",") for cell in cells)
        if (
            cells
            and (2 * numbers > len(cells) or 2 * numbers == len(cells) >= 4)
            and (len(cells) > 1 or delimiter is None)
        ):
            return cells
    return []

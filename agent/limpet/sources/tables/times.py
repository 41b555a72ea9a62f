"""The column of a table that says when: its names, its units, and how loggers write a time.

No I/O. Only differences count, so a time without a zone is taken as UTC.
"""

from __future__ import annotations

import math
import re
from datetime import datetime, timezone
from itertools import pairwise
from typing import TYPE_CHECKING

from limpet.sources import _numbers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.sources._numbers import Decimal

TIME = "time"
"""The name that always means the column with the times."""

DAY = 86400.0

_SCALES = {
    "s": 1.0,
    "sec": 1.0,
    "secs": 1.0,
    "second": 1.0,
    "seconds": 1.0,
    "ms": 1e-3,
    "msec": 1e-3,
    "millis": 1e-3,
    "millisecond": 1e-3,
    "milliseconds": 1e-3,
    "us": 1e-6,
    "µs": 1e-6,
    "μs": 1e-6,
    "usec": 1e-6,
    "micros": 1e-6,
    "microsecond": 1e-6,
    "microseconds": 1e-6,
    "ns": 1e-9,
    "nsec": 1e-9,
    "nanos": 1e-9,
    "nanoseconds": 1e-9,
    "min": 60.0,
    "minutes": 60.0,
    "h": 3600.0,
    "hours": 3600.0,
    "d": DAY,
    "days": DAY,
    "sekunden": 1.0,
}
"""Seconds in each unit, by all its names."""

_STRONG = {
    "time",
    "timestamp",
    "timestamps",
    "time stamp",
    "datetime",
    "date time",
    "date and time",
    "epoch",
    "epoch time",
    "unix",
    "unixtime",
    "unix time",
    "unix timestamp",
    "elapsed",
    "elapsed time",
    "time elapsed",
    "relative time",
    "system time",
    "utc time",
    "time utc",
    "timestamp utc",
    "utc timestamp",
    "local time",
    "localtime",
    "sample time",
    "sensor time",
    "device time",
    "log time",
    "recorded at",
    "created at",
    "measured at",
    "millis",
    "micros",
    "milliseconds",
    "microseconds",
    "seconds elapsed",
    "uptime",
    "recording time",
    "local date time",
    "zeit",
    "uhrzeit",
    "datum uhrzeit",
    "datum zeit",
    "heure",
    "hora",
    "ora",
    "tijd",
    "horodatage",
    "zeitstempel",
}
DATES = {"date", "datum", "day", "fecha"}
_WEAK = {"t", "ts", "seconds", "second", "secs", "sec", "sekunden", "utc", "clock", "when", *DATES}
"""Names that channels may have too. They mean times only where the numbers only ever grow."""

_LIKE_TIME = {"time", "timestamp", "uptime", "elapsed"}
"""Words of names that may mean times, under the same condition."""
_UNIT = re.compile(r"^(.*?)\s*(?:[\[(]\s*([^\])]+?)\s*[\])]|[/_,.]\s*(\w+)|\s+in\s+(\w+)|\s+(\w+))$")
_CAPITAL = re.compile(r"(?<=[a-z])(?=[A-Z][a-z])")
_MONTHS = {
    name: n
    for n, name in enumerate(
        ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"], 1
    )
}
_CLOCK = (
    r"(\d{1,2}):(\d{2})(?::(\d{2})(?:[.,:](\d{1,9}))?)?\s*([AaPp][Mm])?"
    r"\s*(Z|z|[+-]\d{2}:?\d{2}|[+-]\d{2}|[A-Z]{2,5})?(?:\[\w+(?:/\w+)*\])?"
)
_ISO = re.compile(rf"(\d{{4}})[-/.](\d{{1,2}})[-/.](\d{{1,2}})(?:[T\s,_]+{_CLOCK})?", re.ASCII)
_COMPACT = re.compile(
    r"(\d{4})(\d{2})(\d{2})[T _-]?(\d{2})(\d{2})(\d{2})(?:[.,](\d{1,9}))?(Z|[+-]\d{2}:?\d{2})?", re.ASCII
)
_NUMBERED = re.compile(rf"(\d{{1,2}})([./-])(\d{{1,2}})\2(\d{{4}}|\d{{2}})(?:[T\s,_]+{_CLOCK})?", re.ASCII)
_WEEKDAY = r"(?:[Mm]on|[Tt]ue|[Ww]ed|[Tt]hu|[Ff]ri|[Ss]at|[Ss]un)[a-z]{0,6},?\s+"
_NAMED = re.compile(
    rf"(?:{_WEEKDAY})?(?:(\d{{1,2}})[-\s]([A-Za-z]{{3,9}})|([A-Za-z]{{3,9}})\s+(\d{{1,2}})),?[-\s]+(\d{{4}})(?:[T\s,_]+{_CLOCK})?",
    re.ASCII,
)
_C_TIME = re.compile(rf"(?:{_WEEKDAY})?([A-Za-z]{{3}})\s+(\d{{1,2}})\s+{_CLOCK}\s+(\d{{4}})", re.ASCII)
_ZONE = re.compile(r"(?<=[\d ])([A-Z]{2,5})(?:\[.*\])?$")
_OF_DAY = re.compile(_CLOCK, re.ASCII)
_MINUTES = re.compile(r"(\d{1,3}):(\d{2})[.,](\d{1,9})", re.ASCII)
_ALL_DIGITS = re.compile(
    r"((?:19|20)\d{2})(0[1-9]|1[0-2])([0-2]\d|3[01])([01]\d|2[0-3])([0-5]\d)(?:([0-5]\d)(?:[.,]?(\d{1,9}))?)?",
    re.ASCII,
)
"""A date and a time without anything between. As a time since 1970 they would be far from our days."""
_DAY_DIGITS = re.compile(r"((?:19|20)\d{2})(0[1-9]|1[0-2])([0-2]\d|3[01])", re.ASCII)
_TIME_DIGITS = re.compile(r"([01]\d|2[0-3])([0-5]\d)([0-5]\d)(?:[.,]\d{1,9})?", re.ASCII)
_SERIAL_DAYS = ((20_000, 80_000), (693_000, 780_000))
"""Days as spreadsheets and as MATLAB count them, of about our time."""
_SHORT = 1e-3
"""Steps that are days rather than seconds: 86 s at most, where seconds would mean 1000 samples a second."""
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def unit_of(name: str) -> tuple[str, str]:
    """Return a column's name in lower case without its unit, and the unit if it is one of time."""
    plain = " ".join(_CAPITAL.sub(" ", name.strip()).removesuffix("()").lower().split())
    if match := _UNIT.match(plain):
        unit = next(group for group in match.groups()[1:] if group)
        if unit in _SCALES:
            return match[1].replace("_", " ").strip(), unit
        if match[2]:  # a remark in brackets, such as the time zone
            return match[1].replace("_", " ").strip(), ""
    return plain.partition(",")[0].replace("_", " ").replace("-", " ").strip(), ""


def likely(names: Sequence[str]) -> list[int]:
    """Return the positions of the columns that may have the times, the most likely first."""
    ranks = {}
    for position, name in enumerate(names):
        plain, unit = unit_of(name)
        if name == TIME:
            ranks[position] = 0
        elif plain in _STRONG:
            ranks[position] = 1
        elif (
            plain in _WEAK or (unit and plain in {"", "timer", "tick", "ticks"}) or _LIKE_TIME & set(plain.split())
        ):
            ranks[position] = 2
    return sorted(ranks, key=lambda position: ranks[position])


def is_unit(word: str) -> bool:
    """Whether a word is a unit of time."""
    return word.strip(" []()").lower() in _SCALES


def is_weak(name: str) -> bool:
    """Whether a channel may have this name as well."""
    return unit_of(name)[0] not in _STRONG


def could_be_a_channel(name: str) -> bool:
    """Whether a column of this name, such as ``t``, may as well hold its own quantity."""
    plain, unit = unit_of(name)
    return not unit and plain in {"t", "h", "clock", "when"}


def is_time(word: str) -> bool:
    """Whether a word, not a number, is a date or a time of day."""
    if not any(character.isdigit() for character in word) or not any(mark in word for mark in ":-/.T "):
        return False
    try:
        return not _numbers.is_number(word) and math.isfinite(Clock("", [word])(word))
    except (ValueError, OverflowError):
        return False


def is_time_of_day(word: str) -> bool:
    """Whether a word is a time of day without a date."""
    return _OF_DAY.fullmatch(word.strip()) is not None


def is_day(word: str) -> bool:
    """Whether a word is a date without a time of day."""
    return ":" not in word and is_time(word)


def are_digits_of(days: Sequence[str], times: Sequence[str]) -> bool:
    """Whether two columns are days as 20251231 and times of day as 235959."""
    return bool(days) and all(
        _DAY_DIGITS.fullmatch(day) and _TIME_DIGITS.fullmatch(time) for day, time in zip(days, times, strict=True)
    )


class Clock:
    """Reads the times of one column as seconds from some start.

    ``unit`` is that of the column's name or of a row of units. Numbers without a unit are seconds, or, if they are
    too large for that, ms, µs or ns since 1970.
    """

    def __init__(self, name: str, words: Sequence[str], unit: str = "", decimal: Decimal = ".") -> None:
        plain, of_name = unit_of(name)
        unit = of_name or unit.strip(" []()").lower() or (plain if plain in _SCALES else "")
        self._scale = _SCALES.get(unit)
        if self._scale is None:
            self._scale = _scale_of_days(plain, words, decimal)
        self._days_alone = self._scale is None and all(_DAY_DIGITS.fullmatch(word.strip()) for word in words)
        self._days_alone &= plain in DATES
        self._zone = ""
        self._decimal: Decimal = decimal
        self._month_first = _month_first(words)
        self._only_day = ""
        self._base: int | None = None
        self._before = -math.inf
        self._days = 0.0

    def __call__(self, word: str) -> float:
        """Return when; NaN where the time is missing. ``ValueError`` for what is no time."""
        text = word.strip().strip("\"'").strip()
        if not text:
            return math.nan
        if self._scale is None and (match := self._digits(text)):
            clock = (*match.groups()[3:], None, None) if match.re is _ALL_DIGITS else (None,) * 6
            return self._since(*_moment(match[1], match[2], match[3], clock))
        if _numbers.is_number(text, self._decimal):
            if text.isdecimal() and len(text) > 12:  # too long for a float to be exact
                self._base = int(text) if self._base is None else self._base
                scale = self._scale or _epoch_scale(self._base)
                return (int(text) - self._base) * scale
            return self._counted(_numbers.read(text, self._decimal))
        if (seconds := self._written(text)) is not None:
            return seconds
        raise ValueError(f"{text[:60]!r} is not a time")

    def _digits(self, text: str) -> re.Match[str] | None:
        if self._days_alone:
            return _DAY_DIGITS.fullmatch(text)
        whole = text.partition(".")[0].partition(",")[0]
        return _ALL_DIGITS.fullmatch(text) if len(whole) in {12, 14, 17} else None

    def _check_zone(self, text: str) -> None:
        """Refuse a zone that changes: how far two names are apart is not in the file."""
        match = _ZONE.search(text)
        if match and match[1] not in {"AM", "PM"}:
            self._zone = self._zone or match[1]
            if match[1] != self._zone:
                raise ValueError(f"the zone changes from {self._zone} to {match[1]}; write times in UTC")

    def _counted(self, number: _numbers.Number) -> float:
        if number.unit in _SCALES:
            return number.value * _SCALES[number.unit]
        if number.unit:
            raise ValueError(f"{number.unit!r} is not a unit of time")
        if self._scale is None and math.isfinite(number.value):
            self._scale = _epoch_scale(number.value)
        return number.value * (self._scale or 1.0)

    def _written(self, text: str) -> float | None:
        """Return the time that a text means, ``None`` if it means none."""
        self._check_zone(text)
        if match := _ISO.fullmatch(text):
            return self._since(*_moment(match[1], match[2], match[3], match.groups()[3:]))
        if match := _COMPACT.fullmatch(text):
            hour, minute, second, fraction, zone = match.groups()[3:]
            clock = (hour, minute, second, fraction, None, zone)
            return self._since(*_moment(match[1], match[2], match[3], clock))
        if match := _NUMBERED.fullmatch(text):
            return self._numbered(match)
        if (match := _C_TIME.fullmatch(text)) and (month := _MONTHS.get(match[1].lower())):
            return self._since(*_moment(match[9], month, match[2], match.groups()[2:8]))
        if (match := _NAMED.fullmatch(text)) and (month := _MONTHS.get((match[2] or match[3])[:3].lower())):
            return self._since(*_moment(match[5], month, match[1] or match[4], match.groups()[5:]))
        return self._of_a_turn(text)

    def _of_a_turn(self, text: str) -> float | None:
        """Return a time without a day, or without an hour."""
        if match := _MINUTES.fullmatch(text):
            return self._later(60.0 * int(match[1]) + int(match[2]) + float(f"0.{match[3]}"), 3600.0)
        if match := _OF_DAY.fullmatch(text):
            return self._later(sum(_of_day(match.groups())), DAY)
        return None

    def _numbered(self, match: re.Match[str]) -> float:
        """Return a date of three numbers. With dots the day comes first; else the column must show which does."""
        month_first = False if match[2] == "." else self._month_first
        date = "/".join(match.group(1, 3, 4))
        self._only_day = self._only_day or date
        if month_first is None and date != self._only_day:  # as long as it is one day, only the hours count
            raise ValueError(f"{match.group()!r}: the day and the month are ambiguous; write dates as 2025-12-31")
        day, month = (match[3], match[1]) if month_first else (match[1], match[3])
        year = int(match[4]) + (2000 if len(match[4]) == 2 else 0)
        return self._since(*_moment(year, month, day, match.groups()[4:]))

    def _since(self, seconds: int, fraction: float) -> float:
        """Return the time from the first one on: a float of seconds since 1970 is not exact."""
        self._base = seconds if self._base is None else self._base
        return seconds - self._base + fraction

    def _later(self, seconds: float, turn: float) -> float:
        """Count the turns of a clock that shows no more than the time of the day or of the hour."""
        if seconds + self._days < self._before - turn / 2:
            self._days += turn
        self._before = seconds + self._days
        return self._before


def _month_first(words: Sequence[str]) -> bool | None:
    """Whether dates such as 1/2/2025 have the month first; ``None`` where these words do not show it."""
    firsts, seconds = set(), set()
    for word in words:
        if match := _NUMBERED.fullmatch(word.strip().strip("\"'")):
            firsts.add(int(match[1]))
            seconds.add(int(match[3]))
    if any(number > 12 for number in seconds):
        return True
    return False if any(number > 12 for number in firsts) else None


def _epoch_scale(number: float) -> float:
    """Return seconds in the unit of a number without one: since 1970 in ns, µs or ms if it is too large for s."""
    size = abs(number)
    return 1e-9 if size >= 1e17 else 1e-6 if size >= 1e14 else 1e-3 if size >= 1e11 else 1.0


def _scale_of_days(name: str, words: Sequence[str], decimal: Decimal) -> float | None:
    """Return the scale of numbers that count days, ``None`` for others. ``ValueError`` if they may be seconds."""
    words = [word.strip("\"' ") for word in words if word.strip("\"' ")]
    if len(words) < 2 or not all(_numbers.is_number(word, decimal) for word in words):
        return None
    numbers = [_numbers.read(word, decimal).value for word in words]
    if not any(all(low <= number < high for number in numbers) for low, high in _SERIAL_DAYS):
        return None
    if "date" in name.split() or name in DATES:
        return DAY
    steps = sorted(abs(after - before) for before, after in pairwise(numbers))
    if 0 < steps[len(steps) // 2] <= _SHORT:
        way_out = 'write the unit in its name, as "time (d)" or "time (s)", or set `rate` and time = ""'
        raise ValueError(f"times such as {words[0]} may be days, as spreadsheets count, or seconds; {way_out}")
    return None


def _moment(year: object, month: object, day: object, clock: Sequence[str | None]) -> tuple[int, float]:
    """Return whole seconds since 1970 and the rest. ``ValueError`` for a day that does not exist."""
    midnight = datetime(int(str(year)), int(str(month)), int(str(day)), tzinfo=timezone.utc)
    days = (midnight - _EPOCH).days
    if clock[0] is None:
        return days * 86400, 0.0
    seconds, fraction = _of_day(clock)
    return days * 86400 + seconds - _offset(clock[5]), fraction


def _of_day(clock: Sequence[str | None]) -> tuple[int, float]:
    hour, minute, second, fraction, half, _ = clock
    hours, minutes, seconds = int(hour or 0), int(minute or 0), int(second or 0)
    if half:
        if not 1 <= hours <= 12:
            raise ValueError(f"{hours} {half} is no hour")
        hours = hours % 12 + (12 if half.lower() == "pm" else 0)
    if hours > 24 or minutes > 59 or seconds > 60:
        raise ValueError(f"{hours}:{minutes:02}:{seconds:02} is no time of day")
    return 3600 * hours + 60 * minutes + seconds, float(f"0.{fraction or 0}")


def _offset(zone: str | None) -> int:
    if zone is None or zone[0] not in "+-":
        return 0
    digits = zone[1:].replace(":", "").ljust(4, "0")
    return (-60 if zone[0] == "-" else 60) * (60 * int(digits[:2]) + int(digits[2:]))

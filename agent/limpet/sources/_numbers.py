"""Numbers as boards, loggers and spreadsheets write them. Python's ``float`` would also read ``1_0`` as 10.

No I/O, no numpy: recordings and framings share this.
"""

from __future__ import annotations

import math
import re
from typing import Literal, NamedTuple, TypeAlias

Decimal: TypeAlias = Literal[".", ","]
"""The character between the whole part of a number and its fraction."""

_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_COMMA_NUMBER = re.compile(r"[+-]?(?:\d+(?:,\d*)?|,\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_HEXADECIMAL = re.compile(r"[+-]?0[xX][0-9a-fA-F]{1,16}")
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(?:,\d{3})+(?:\.\d*)?(?![\d,.])", re.ASCII)
_COMMA_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(?:(?:\.\d{3})+,\d*|(?:\.\d{3}){2,})(?![\d,.])", re.ASCII)

MISSING = frozenset(
    [
        "na",
        "n/a",
        "#n/a",
        "nan",
        "-nan",
        "+nan",
        "nan(ind)",
        "-nan(ind)",
        "null",
        "none",
        "nil",
        "undefined",
        "missing",
        "invalid",
        "ovf",
        "-",
        "--",
        "---",
        "----",
        "?",
        ".",
        "..",
        "#num!",
        "#value!",
        "#div/0!",
        "#ref!",
        "1.#qnan",
        "-1.#ind",
        "1.#ind",
        "1.#qo",
    ]
)
"""Words, in lower case, that stand for a value which is not there. An empty field is up to the caller."""
_INFINITE = {"inf", "+inf", "-inf", "infinity", "+infinity", "-infinity", "1.#inf", "-1.#inf"}

UNITS = frozenset(
    [
        "%",
        "°",
        "°C",
        "°F",
        "ºC",
        "℃",
        "℉",
        "C",
        "F",
        "K",
        "degC",
        "*C",
        "*F",
        "degF",
        "deg",
        "V",
        "mV",
        "uV",
        "µV",
        "kV",
        "A",
        "mA",
        "uA",
        "µA",
        "W",
        "mW",
        "kW",
        "Wh",
        "kWh",
        "VA",
        "J",
        "kJ",
        "N",
        "kN",
        "Nm",
        "N·m",
        "g",
        "mg",
        "kg",
        "t",
        "G",
        "mG",
        "m",
        "mm",
        "cm",
        "um",
        "µm",
        "km",
        "m/s",
        "m/s2",
        "m/s^2",
        "m/s²",
        "m/s/s",
        "mm/s",
        "km/h",
        "kph",
        "mph",
        "kn",
        "s",
        "ms",
        "us",
        "µs",
        "ns",
        "min",
        "h",
        "Hz",
        "kHz",
        "MHz",
        "Pa",
        "hPa",
        "kPa",
        "MPa",
        "mbar",
        "bar",
        "psi",
        "inHg",
        "mmHg",
        "atm",
        "ppm",
        "ppb",
        "lx",
        "lux",
        "lm",
        "cd",
        "dB",
        "dBm",
        "dBA",
        "dbm",
        "rpm",
        "RPM",
        "bpm",
        "rad",
        "rad/s",
        "dps",
        "deg/s",
        "°/s",
        "mdps",
        "T",
        "mT",
        "uT",
        "µT",
        "nT",
        "gauss",
        "Gs",
        "ohm",
        "Ohm",
        "kOhm",
        "Ω",
        "kΩ",
        "MΩ",
        "F",
        "pF",
        "nF",
        "uF",
        "µF",
        "H",
        "L",
        "l",
        "ml",
        "mL",
        "l/min",
        "L/min",
        "L/h",
        "m3/h",
        "m³/h",
        "m3",
        "m³",
        "%RH",
        "RH",
        "%rH",
        "rH",
        "%r.H.",
        "g/m3",
        "g/m³",
        "mg/m3",
        "mg/m³",
        "ug/m3",
        "µg/m3",
        "µg/m³",
        "mg/L",
        "pH",
        "steps",
        "counts",
        "count",
        "LSB",
    ]
)
"""What may stand behind a number. Anything else there is damage."""


class Number(NamedTuple):
    """A value, NaN where it is missing, and the unit that stands behind it."""

    value: float
    unit: str = ""


def read(word: str, decimal: Decimal = ".") -> Number:
    """Read a number. ``ValueError`` says what is none."""
    text = word.strip().strip("\"'").strip().replace("\N{MINUS SIGN}", "-")
    lower = text.lower()
    if lower in MISSING:
        return Number(math.nan)
    if lower in _INFINITE:
        return Number(-math.inf if lower[0] == "-" else math.inf)
    if lower in {"true", "false"}:
        return Number(float(lower == "true"))
    if _HEXADECIMAL.fullmatch(text):
        return Number(float(int(text, 16)))
    match = (
        (_thousands(text, decimal) or (_NUMBER if decimal == "." else _COMMA_NUMBER).match(text)) if text else None
    )
    if match is None:
        raise ValueError(f"{word.strip()[:60]!r} is not a number")
    unit = text[match.end() :].strip()
    if unit and unit not in UNITS:
        raise ValueError(f"{word.strip()[:60]!r} is not a number")
    return Number(float(_plain(match.group(), decimal)), unit)


def is_number(word: str, decimal: Decimal = ".") -> bool:
    """Whether ``read`` takes a word, one for a missing value among them."""
    try:
        read(word, decimal)
    except ValueError:
        return False
    return True


def _thousands(text: str, decimal: Decimal) -> re.Match[str] | None:
    return (_THOUSANDS if decimal == "." else _COMMA_THOUSANDS).match(text)


def _plain(number: str, decimal: Decimal) -> str:
    """Return a number as Python writes it."""
    if decimal == ".":
        return number.replace(",", "")
    return number.replace(".", "").replace(",", ".")


def decimal_of(words: list[str]) -> Decimal | None:
    """Return the decimal character of these numbers, ``None`` where they could mean either.

    ``1,5`` and ``0,125`` have a comma; ``1,234`` alone could be a thousand or little more than one.
    """
    texts = [word.strip().strip("\"'") for word in words]
    commas = [text for text in texts if "," in text]
    if not commas:
        return "."
    if any(_NUMBER.fullmatch(text) and "." in text for text in texts) and all(
        _THOUSANDS.fullmatch(text) for text in commas
    ):
        return "."
    if any("," in text and _COMMA_NUMBER.fullmatch(text) and not _THOUSANDS.fullmatch(text) for text in commas):
        return ","
    if all(_THOUSANDS.fullmatch(text) for text in commas) and any(
        text.count(",") > 1 or "." in text for text in commas
    ):
        return "."
    return None

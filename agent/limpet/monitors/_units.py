"""Factors by which a channel's numbers change when its unit does."""

from __future__ import annotations

import math
from typing import NamedTuple

_CONVERSIONS = (
    ("g to m/s²", 9.80665, 0.0),
    ("radians to degrees", 180 / math.pi, 0.0),
    ("degrees Celsius to Fahrenheit", 1.8, 32.0),
    ("degrees Celsius to kelvin", 1.0, 273.15),
    ("m/s to km/h", 3.6, 0.0),
    ("feet to metres", 0.3048, 0.0),
    ("inches to millimetres", 25.4, 0.0),
    ("psi to kPa", 6.894757, 0.0),
    ("mmHg to Pa", 133.322, 0.0),
    ("a factor of 10", 10.0, 0.0),
    ("a factor of 100", 100.0, 0.0),
    ("a factor of 1000", 1000.0, 0.0),
    ("a factor of 1,000,000", 1e6, 0.0),
    ("a full scale of 1 to one of 32,768", 32768.0, 0.0),
)
_TOLERANCE = 1.08
"""Of the spread."""


class Level(NamedTuple):
    """Of a channel's windows: their mean, the spread of that between windows, and the mean spread within them."""

    mean: float
    between: float
    within: float


def conversion(before: Level, now: Level) -> str | None:
    """Return the change of unit that explains these numbers, ``None`` if no known one does."""
    for name, factor, offset in _CONVERSIONS:
        if _fits(before, now, factor, offset):
            return name
        if _fits(now, before, factor, offset):
            first, _, second = name.partition(" to ")
            return f"{second} to {first}" if second else f"{name}, less"
    return None


def _fits(before: Level, now: Level, factor: float, offset: float) -> bool:
    was, is_now = (before.within, now.within) if before.within > 0 else (before.between, now.between)
    if was <= 0 or is_now <= 0 or abs(math.log(is_now / (was * factor))) > math.log(_TOLERANCE):
        return False
    expected = before.mean * factor + offset
    return abs(now.mean - expected) <= factor * max(before.between, before.within) / 2

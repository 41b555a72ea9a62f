"""Thresholds of a bundle, which are not to be trusted, and how alarms begin and end."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

END = 0.6
"""An alarm ends where the statistic is below this share of its threshold."""


def read_thresholds(kind: str, expected: type[T], thresholds: dict[str, Any]) -> T:
    """Return thresholds as ``expected``. ``ValueError`` says what is wrong with them."""
    try:
        return msgspec.convert(thresholds, expected)
    except msgspec.ValidationError as error:
        raise ValueError(f"the reference's thresholds of {kind}: {error}") from error


def check_length(kind: str, name: str, length: int, expected: int) -> None:
    """Raise ``ValueError`` if a list of a bundle has another length than the reference asks for."""
    if length != expected:
        raise ValueError(
            f"the reference's thresholds of {kind}: {name} has {length} numbers; it must have {expected}"
        )

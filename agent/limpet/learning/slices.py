"""Slices: the groups that a result belongs to, such as ``site=north`` or ``shift=night``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeAlias

from msgspec import Meta

from limpet.contracts.accuracy import MOST_GROUPS, MOST_SPANS, GroupName

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

Span = Annotated[
    str,
    Meta(
        pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9]\Z",
        extra={"use": 'times of day as "06:00-14:00"'},
    ),
]
"""From a time of day to another one, which may be on the next day. The end is not part of it."""
Groups: TypeAlias = dict[GroupName, GroupName | Annotated[dict[GroupName, Span], Meta(max_length=MOST_SPANS)]]
"""For each group its value, or values by the time of day. ``MOST_GROUPS`` at most."""


def slices(groups: Mapping[str, str | Mapping[str, str]], local: datetime) -> list[str]:
    """Return the slices of a result that was made at a local time."""
    found = []
    for group, value in list(groups.items())[:MOST_GROUPS]:
        name = value if isinstance(value, str) else _at(value, f"{local:%H:%M}")
        if name:
            found.append(f"{group}={name}")
    return found


def _at(spans: Mapping[str, str], time: str) -> str:
    """Return the first name whose time of day it is, empty if there is none."""
    for name, span in spans.items():
        begin, _, end = span.partition("-")
        if (begin <= time < end) if begin < end else (time >= begin or time < end):
            return name
    return ""

"""Slices: the groups that a result belongs to, such as ``site=north`` or ``shift=night``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeAlias

from limpet.contracts.accuracy import MOST_GROUPS, MOST_SPANS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

Groups: TypeAlias = dict[str, str | dict[str, str]]
"""For each group its value, or values by the time of day. ``problems`` checks them, as msgspec 0.22 crashes the
garbage collector with a union of limited texts and limited tables."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,23}")
_SPAN = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9]")


def problems(groups: Groups) -> Iterator[str]:
    """Yield what is wrong with groups, each with its key."""
    if len(groups) > MOST_GROUPS:
        yield f"groups: has {len(groups)} groups; use at most {MOST_GROUPS}"
    for group, value in groups.items():
        spans = {} if isinstance(value, str) else value
        if len(spans) > MOST_SPANS:
            yield f"groups.{group}: has {len(spans)} times of day; use at most {MOST_SPANS}"
        for name in (group, *([value] if isinstance(value, str) else spans)):
            if not _NAME.fullmatch(name):
                yield f'groups: {name!r}: use letters, digits, ".", "_" and "-", at most 24 characters'
        for name, span in spans.items():
            if not _SPAN.fullmatch(span):
                yield f'groups.{group}.{name} is {span!r}; use times of day as "06:00-14:00"'


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

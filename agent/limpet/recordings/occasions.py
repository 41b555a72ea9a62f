"""Which recordings are of one occasion. Their windows are alike, so they are not independent of each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.recordings.folder import Recording

CAPTURE = "capture"
"""The kind of a recording that is one captured window."""
NEAR = 10
"""Captures are of one occasion if the time between them is no longer than so many of their lengths."""


def occasions(found: Sequence[Recording]) -> list[int]:
    """Return the occasion of each recording: the position of its first recording, in time.

    A capture is of the same occasion as one of the same source that it overlaps, or that ended shortly before it.
    Every other recording has its own number: a person made it.
    """
    numbers = list(range(len(found)))
    captures = [number for number in numbers if found[number].kind == CAPTURE]
    captures.sort(key=lambda number: (found[number].source, found[number].started))
    before, end = -1, 0.0
    for number in captures:
        one = found[number]
        begin = one.started.timestamp()
        if before >= 0 and found[before].source == one.source and begin - end <= NEAR * one.seconds:
            numbers[number] = numbers[before]
            end = max(end, begin + one.seconds)
        else:
            end = begin + one.seconds
        before = number
    return numbers

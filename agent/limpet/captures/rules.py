"""What a capture is worth: which one goes if there is no room. Pure functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from limpet.contracts.captures import Reason

WORTH: dict[Reason, int] = {
    "command": 4,
    "event": 3,
    "disagreement": 3,
    "drifted": 3,
    "rare": 3,
    "unsure": 2,
    "audit": 2,
}
"""A capture never takes the place of one that is worth more."""
DONE = 1
"""Worth of a capture that was uploaded: there is another copy."""


def ordered(reasons: Iterable[Reason]) -> list[Reason]:
    """Return reasons without doubles, the weightiest first."""
    found = set(reasons)
    return [reason for reason in WORTH if reason in found]


def worth(reasons: Sequence[Reason]) -> int:
    """Return what a capture is worth: as much as its weightiest reason."""
    return max((WORTH[reason] for reason in reasons), default=0)


def evicted(
    held: Sequence[tuple[int, int]], new: tuple[int, int], most: int, most_captures: int
) -> list[int] | None:
    """Return the places of captures that must go so that a new one has room, ``None`` if it is not worth it.

    ``held``: worth and bytes of each capture, oldest first. ``new``: those of the new one. ``most``: bytes of all,
    ``most_captures`` how many.
    Captures that are worth least go first, the oldest of them first.
    """
    worth_of_new, size = new
    if size > most:
        return None
    total, count = sum(bytes_ for _, bytes_ in held) + size, len(held) + 1
    going: list[int] = []
    for place in sorted(range(len(held)), key=lambda place: (held[place][0], place)):
        if total <= most and count - len(going) <= most_captures:
            break
        if held[place][0] > worth_of_new:
            return None
        going.append(place)
        total -= held[place][1]
    return going if total <= most else None

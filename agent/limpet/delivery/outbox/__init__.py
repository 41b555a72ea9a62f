"""Where results and events wait until the broker has acknowledged them.

``queue`` is the outbox itself: recent messages in memory, older ones in ``database``, within the bounds of
``rules``. ``write_ahead_log`` brings what is in memory over the end of the process, ``database`` over a power cut.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple, TypeAlias

import msgspec

Class: TypeAlias = Literal["event", "result"]
CLASSES: tuple[Class, ...] = ("event", "result")
"""In the order in which they are sent. Retained state is not kept here: only its newest value matters."""

Freshness: TypeAlias = Literal["backlog", "fresh"]
"""``backlog``: what was there before the present connection; ``fresh``: what came since."""


class Entry(msgspec.Struct, frozen=True, gc=False):
    """Results of one pipeline, or one event, that are kept and acknowledged together.

    ``items``: the JSON of each, as it was encoded when it came. ``born`` is the ``time.monotonic`` of the oldest.
    ``same_boot``: it was made in this boot of the machine, so that times of its monotonic clock mean something.
    ``size``: bytes of memory that the bounds charge for it.
    """

    kind: Class
    pipeline: str
    items: tuple[bytes, ...]
    born: float
    same_boot: bool = True
    size: int = 0

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "size", sum(map(len, self.items)) + OVERHEAD)


class EntryId(NamedTuple):
    """Names an entry in its outbox. Within a class ``sequence`` rises in the order of arrival."""

    kind: Class
    sequence: int


class StoredEntry(NamedTuple):
    """An entry of the outbox with its id, by which it is acknowledged."""

    id: EntryId
    entry: Entry


OVERHEAD = 64
"""Bytes that the bounds charge for an entry besides its items: its row, its topic."""

LARGEST = 4 * 1024 * 1024
"""Bytes of the items of an entry, at most. More of them in a file is damage."""

MOST_ITEMS = 100_000
"""Items of an entry, at most. A result has some 250 bytes, so no batch comes near."""

_IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def is_owner(kind: Class, pipeline: str) -> bool:
    """Whether messages of a class can be of this pipeline. Events of the whole device have no pipeline."""
    return _IDENTIFIER.fullmatch(pipeline) is not None or (kind == "event" and not pipeline)

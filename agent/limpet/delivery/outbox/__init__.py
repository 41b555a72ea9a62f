"""Where results and events wait until the broker has acknowledged them.

``queue`` is the outbox itself: recent messages in memory, older ones in ``disk``, under the bounds of ``rules``.
``journal`` brings what is in memory over the death of the process, ``disk`` over a power cut.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple, TypeAlias

Class: TypeAlias = Literal["event", "result"]
CLASSES: tuple[Class, ...] = ("event", "result")
"""In the order in which they are sent. Retained state is not kept here: of that only the newest matters."""

Freshness: TypeAlias = Literal["backlog", "fresh"]
"""``backlog``: what was there before the connection at hand; ``fresh``: what came since."""


class Entry(NamedTuple):
    """One message as it is kept. ``payload`` is the JSON of one result or event, or an array of results.

    ``items`` is how many they are, ``born`` the ``time.monotonic`` of the oldest; ``here``: in this boot of the
    machine, so that times of its monotonic clock mean something.
    """

    kind: Class
    pipeline: str
    payload: bytes
    items: int
    born: float
    here: bool = True

    @property
    def size(self) -> int:
        """Bytes that it is charged with in memory."""
        return len(self.payload) + OVERHEAD


class EntryId(NamedTuple):
    """Names an entry in its outbox. Within a class ``sequence`` rises in the order of arrival."""

    kind: Class
    sequence: int


class StoredEntry(NamedTuple):
    """An entry on its way."""

    token: EntryId
    entry: Entry


OVERHEAD = 64
"""Bytes that a message costs besides its payload: its row, its topic."""

LARGEST = 4 * 1024 * 1024
"""Bytes of the largest payload that is kept. A longer one in a file is damage."""

MOST_ITEMS = 1_000_000
"""Results in one message, at most."""

_IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def is_owner(kind: Class, pipeline: str) -> bool:
    """Whether messages of a class can be of this pipeline. Events of the whole device have none."""
    return _IDENTIFIER.fullmatch(pipeline) is not None or (kind == "event" and not pipeline)

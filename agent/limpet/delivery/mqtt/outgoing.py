"""From entries of the outbox to messages for the broker: topic, marks, and how many items to a message. No I/O.

Items stay the bytes as which they were encoded when they came. Only here is anything added to them: the mark
``replayed``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from limpet.delivery.outbox import EntryId

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from limpet.delivery.outbox import Entry, StoredEntry

_OBJECT = b'{"'
_MARK = b'{"replayed":true,"'
"""How an item begins, and how it begins when it could not be sent as soon as it was made."""


class Outgoing(msgspec.Struct, frozen=True):
    """Results of one pipeline, or an event, to publish. When the broker has them, the outbox may forget ``ids``.

    ``damaged`` counts items that were not what Limpet writes and are left out. ``size`` is that of a JSON array of
    the items, in bytes.
    """

    topic: str
    items: tuple[bytes, ...]
    ids: tuple[EntryId, ...] = ()
    damaged: int = 0
    size: int = 0

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "size", json_size(self.items))


def json_size(items: Sequence[bytes]) -> int:
    """Return how many bytes ``json_array`` makes of items."""
    return sum(map(len, items)) + (len(items) + 1 if len(items) > 1 else 0)


def json_array(items: Sequence[bytes]) -> bytes:
    """Return one payload for items: the JSON object itself, or an array of several."""
    return items[0] if len(items) == 1 else b"[" + b",".join(items) + b"]"


def fresh(entries: Iterable[StoredEntry], root: str, limit: int) -> Iterator[Outgoing]:
    """Yield a message for each entry; several if it is larger than ``limit`` bytes."""
    for entry_id, entry in entries:
        message = Outgoing(_topic(root, entry), entry.items, (entry_id,))
        if message.size <= limit:
            yield message
        else:
            yield from _in_chunks(message.topic, [(entry_id, entry.items)], len(entry.items), limit)


def replayed(entries: Iterable[StoredEntry], root: str, count: int, limit: int) -> Iterator[Outgoing]:
    """Mark each item ``replayed``, and yield messages of up to ``count`` items and ``limit`` bytes.

    The order is kept within each topic.
    """
    topics: dict[str, list[tuple[EntryId | None, tuple[bytes, ...]]]] = {}
    for entry_id, entry in entries:
        topic = _topic(root, entry)
        marked = tuple(_MARK + item[2:] for item in entry.items if item[:2] == _OBJECT)
        if len(marked) < len(entry.items):
            yield Outgoing(topic, (), () if marked else (entry_id,), damaged=len(entry.items) - len(marked))
        if marked:
            topics.setdefault(topic, []).append((entry_id, marked))
    for topic, content in topics.items():
        yield from _in_chunks(topic, content, 1 if topic.startswith(f"{root}/event") else count, limit)


def unmarked(item: bytes) -> bytes:
    """Return an item as it is without the mark ``replayed``."""
    return _OBJECT + item.removeprefix(_MARK) if item.startswith(_MARK) else item


def split(message: Outgoing, items: tuple[bytes, ...], count: int, limit: int) -> list[Outgoing]:
    """Return messages with some items of a message: up to ``count`` and ``limit`` bytes each. None has ids."""
    return list(_in_chunks(message.topic, [(None, items)], count, limit))


def _topic(root: str, entry: Entry) -> str:
    return f"{root}/{entry.kind}/{entry.pipeline}" if entry.pipeline else f"{root}/{entry.kind}"


def _in_chunks(
    topic: str, content: Iterable[tuple[EntryId | None, tuple[bytes, ...]]], count: int, limit: int
) -> Iterator[Outgoing]:
    """Yield messages of up to ``count`` items and ``limit`` bytes; a single item may be larger.

    The id of an entry goes with its last item.
    """
    chunk: list[bytes] = []
    ids: list[EntryId] = []
    size = 2
    for entry_id, items in content:
        for item in items:
            if chunk and (len(chunk) >= count or size + len(item) > limit):
                yield Outgoing(topic, tuple(chunk), tuple(ids))
                chunk, ids, size = [], [], 2
            chunk.append(item)
            size += len(item) + 1
        if entry_id:
            ids.append(entry_id)
    if chunk:
        yield Outgoing(topic, tuple(chunk), tuple(ids))

"""From messages as they are kept to messages as they are sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from limpet.delivery.mqtt.batch import join
from limpet.errors import UnreadableError
from limpet.untrusted import reading

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from limpet.delivery.outbox import Entry, EntryId, StoredEntry

MARK = b'{"replayed":true,'
"""How an item begins that could not be sent when it was made."""


class Outgoing(NamedTuple):
    """A message to publish. When the broker has it, ``tokens`` are what the outbox may forget.

    ``payload`` is empty where it could not be read from the outbox: the message is then counted and dropped.
    """

    topic: str
    payload: bytes
    items: int
    tokens: tuple[EntryId, ...]


def fresh(parcels: Iterable[StoredEntry], root: str, limit: int) -> Iterator[Outgoing]:
    """Yield each as it is kept; only what is larger than ``limit`` bytes is taken apart."""
    for token, entry in parcels:
        if len(entry.payload) <= limit or entry.items == 1:
            yield Outgoing(_topic(root, entry), entry.payload, entry.items, (token,))
            continue
        try:
            items = _items(token, entry)
        except UnreadableError:
            yield _unreadable(root, token, entry)
        else:
            yield from _chunks(_topic(root, entry), items, entry.items, limit)


def replayed(parcels: Iterable[StoredEntry], root: str, count: int, limit: int) -> Iterator[Outgoing]:
    """Mark each item ``replayed`` and make batches of up to ``count`` of them and ``limit`` bytes.

    The order is kept within each topic.
    """
    topics: dict[str, list[tuple[bytes, EntryId | None]]] = {}
    for token, entry in parcels:
        try:
            items = [(_marked(raw), last) for raw, last in _items(token, entry)]
        except UnreadableError:
            yield _unreadable(root, token, entry)
        else:
            topics.setdefault(_topic(root, entry), []).extend(items)
    for topic, items in topics.items():
        yield from _chunks(topic, items, 1 if topic.startswith(f"{root}/event") else count, limit)


def _topic(root: str, entry: Entry) -> str:
    return f"{root}/{entry.kind}/{entry.pipeline}" if entry.pipeline else f"{root}/{entry.kind}"


def _unreadable(root: str, token: EntryId, entry: Entry) -> Outgoing:
    return Outgoing(_topic(root, entry), b"", max(1, entry.items), (token,))


def _marked(raw: bytes) -> bytes:
    if not raw.startswith(b"{"):
        raise UnreadableError("a message is no JSON object")
    return MARK + raw[1:]


def _items(token: EntryId, entry: Entry) -> list[tuple[bytes, EntryId | None]]:
    """Take an entry apart; its last item has the token. ``UnreadableError`` if it is damaged."""
    if entry.items == 1:
        return [(entry.payload, token)]
    with reading("a batch"):
        raws: list[tuple[bytes, EntryId | None]] = [
            (bytes(raw), None) for raw in msgspec.json.decode(entry.payload, type=list[msgspec.Raw])
        ]
        raws[-1] = (raws[-1][0], token)
    return raws


def _chunks(topic: str, items: list[tuple[bytes, EntryId | None]], count: int, limit: int) -> Iterator[Outgoing]:
    chunk: list[tuple[bytes, EntryId | None]] = []
    size = 2
    for item in items:
        if chunk and (len(chunk) >= count or size + len(item[0]) > limit):
            yield _outgoing(topic, chunk)
            chunk, size = [], 2
        chunk.append(item)
        size += len(item[0]) + 1
    if chunk:
        yield _outgoing(topic, chunk)


def _outgoing(topic: str, chunk: list[tuple[bytes, EntryId | None]]) -> Outgoing:
    tokens = tuple(token for _, token in chunk if token)
    return Outgoing(topic, join([raw for raw, _ in chunk]), len(chunk), tokens)

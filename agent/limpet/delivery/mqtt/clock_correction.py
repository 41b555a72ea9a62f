"""Corrects the time of messages that were made before the device knew the time. No I/O."""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING

import msgspec

from limpet.contracts.messages import EventMessage, ResultMessage
from limpet.device import clock
from limpet.errors import UnreadableError
from limpet.untrusted import reading

if TYPE_CHECKING:
    from limpet.delivery.outbox import Entry, StoredEntry

_MARK = b'"clock":"unsynchronised"}'
"""How a marked item ends: ``clock`` is the last field that is set when a message is made."""

_RESULT = msgspec.json.Decoder(ResultMessage)
_EVENT = msgspec.json.Decoder(EventMessage)
_ENCODER = msgspec.json.Encoder()


def corrected(stored: StoredEntry, ahead: float | None) -> StoredEntry:
    """Return an entry with the true times. ``ahead`` is what ``clock.ahead`` returns.

    An entry of another boot of the machine keeps its time and its mark: its age is unknown.
    """
    entry = stored.entry
    if ahead is None or not entry.same_boot or not any(map(bytes.endswith, entry.items, repeat(_MARK))):
        return stored
    items = tuple(_corrected(item, entry, ahead) for item in entry.items)
    return stored._replace(entry=msgspec.structs.replace(entry, items=items))


def _corrected(item: bytes, entry: Entry, ahead: float) -> bytes:
    """Return an item with its true time. A damaged one stays as it is."""
    if not item.endswith(_MARK):
        return item
    try:
        with reading("a message"):
            return _ENCODER.encode(_event(item, entry, ahead) if entry.kind == "event" else _result(item, ahead))
    except UnreadableError:
        return item


def _event(item: bytes, entry: Entry, ahead: float) -> EventMessage:
    """Use the time at which the event came to the outbox, milliseconds after it happened."""
    event = _EVENT.decode(item)
    if event.clock:
        event.time, event.clock = clock.at(entry.born, ahead), None
    return event


def _result(item: bytes, ahead: float) -> ResultMessage:
    result = _RESULT.decode(item)
    if result.clock:
        result.time, result.clock = clock.at(result.monotonic_ns / 1e9, ahead), None
    return result

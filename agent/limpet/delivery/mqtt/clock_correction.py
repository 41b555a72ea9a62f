"""Gives messages their true time that were made before the device knew it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from limpet.contracts.messages import EventMessage, ResultMessage
from limpet.device import clock
from limpet.errors import UnreadableError
from limpet.untrusted import reading

if TYPE_CHECKING:
    from limpet.delivery.outbox import Entry, StoredEntry

_MARK = b'"clock":"unsynchronised"'

_RESULTS = msgspec.json.Decoder(ResultMessage | list[ResultMessage])
_EVENT = msgspec.json.Decoder(EventMessage)
_ENCODER = msgspec.json.Encoder()


def redated(parcel: StoredEntry, ahead: float | None) -> StoredEntry:
    """Return a parcel as it is to be sent. ``ahead`` is that of ``clock.ahead``.

    What was made in another boot of the machine keeps the time and the mark that it has: nobody can tell its age.
    """
    entry = parcel.entry
    if ahead is None or not entry.here or _MARK not in entry.payload:
        return parcel
    try:
        with reading("a message"):
            payload = _ENCODER.encode(_event(entry, ahead) if entry.kind == "event" else _results(entry, ahead))
    except UnreadableError:
        return parcel  # a damaged one keeps what it has
    return parcel._replace(entry=entry._replace(payload=payload))


def _event(entry: Entry, ahead: float) -> EventMessage:
    """Take the time at which it came to the outbox, which is milliseconds later."""
    event = _EVENT.decode(entry.payload)
    if event.clock:
        event.time, event.clock = clock.at(entry.born, ahead), None
    return event


def _results(entry: Entry, ahead: float) -> ResultMessage | list[ResultMessage]:
    decoded: ResultMessage | list[ResultMessage] = _RESULTS.decode(entry.payload)
    for result in decoded if isinstance(decoded, list) else [decoded]:
        if result.clock:
            result.time, result.clock = clock.at(result.monotonic_ns / 1e9, ahead), None
    return decoded

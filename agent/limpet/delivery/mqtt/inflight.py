"""Messages that the broker has not acknowledged yet, and what the outbox may forget once it has. No I/O."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from limpet.delivery.outbox import EntryId

if TYPE_CHECKING:
    from collections.abc import Iterator

    from limpet.contracts.dialect import Publish
    from limpet.delivery.mqtt.outgoing import Outgoing


class AckGroup(msgspec.Struct):
    """The publishes that one message of the outbox becomes, in parts and dialects. ``left`` are not done."""

    ids: tuple[EntryId, ...]
    left: int = 0


class Releases:
    """Collects in ``acked`` the ids of messages that are done, in the order in which the messages began."""

    def __init__(self) -> None:
        self.acked: deque[EntryId] = deque()
        self._groups: deque[AckGroup] = deque()

    def begin(self, ids: tuple[EntryId, ...], publishes: int) -> AckGroup:
        """Add a message that becomes a number of publishes."""
        group = AckGroup(ids, publishes)
        self._groups.append(group)
        self._release()
        return group

    def expect(self, group: AckGroup, more: int) -> None:
        """Take in that a message becomes more publishes, or fewer."""
        group.left += more
        self._release()

    def finish(self, group: AckGroup | None) -> None:
        """Take in that one publish of a message is done."""
        if group:
            self.expect(group, -1)

    def clear(self) -> None:
        """Forget what is not done: the connection has ended."""
        self._groups.clear()

    def _release(self) -> None:
        while self._groups and not self._groups[0].left:
            self.acked.extend(self._groups.popleft().ids)


class Sending(NamedTuple):
    """One publish. ``source`` is the message of the outbox that it comes from, ``None`` for state and replies."""

    publish: Publish
    source: Outgoing | None = None
    group: AckGroup | None = None
    correlation: bytes = b""


class Flight(NamedTuple):
    """A publish in flight since ``at``, with the QoS and the retained flag that the connection allows."""

    sending: Sending
    at: float
    qos: int
    retain: bool


class InFlight:
    """The publishes of one connection that are not acknowledged, in the order of sending. ``size`` in bytes."""

    def __init__(self) -> None:
        self.size = 0
        self._flights: dict[int, Flight] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def __iter__(self) -> Iterator[Flight]:
        return iter(self._flights.values())

    def add(self, mid: int, flight: Flight) -> None:
        """Add a publish under its message id."""
        self._flights[mid] = flight
        self.size += len(flight.sending.publish.payload)

    def take(self, mid: int) -> Flight | None:
        """Take out the publish that was acknowledged; ``None`` if the broker acknowledges what was not sent."""
        flight = self._flights.pop(mid, None)
        if flight:
            self.size -= len(flight.sending.publish.payload)
        return flight

    def oldest(self) -> Flight | None:
        """Return the publish that has waited longest."""
        return next(iter(self), None)

    def clear(self) -> None:
        """Forget all: the connection has ended."""
        self._flights.clear()
        self.size = 0

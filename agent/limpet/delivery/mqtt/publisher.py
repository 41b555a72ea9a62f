"""What goes out on connections: its order, the window of unacknowledged messages, and what the broker refuses.

Runs on the network thread.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from typing import TYPE_CHECKING

from limpet.contracts.messages import PipelineHealth, PipelineRemoved
from limpet.delivery.mqtt import outgoing, poison
from limpet.delivery.mqtt.connection import LARGEST, QUOTA_EXCEEDED, UnpublishableError
from limpet.delivery.mqtt.inflight import Flight, InFlight, Releases, Sending
from limpet.delivery.mqtt.poison import PoisonSearch
from limpet.delivery.mqtt.ready_queue import ReadyQueue
from limpet.delivery.mqtt.refusals import Refusals
from limpet.delivery.mqtt.topics import retained, subtopic
from limpet.errors import TransportError

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable, Sequence

    from limpet.contracts.dialect import Publish
    from limpet.contracts.messages import Message
    from limpet.delivery.mqtt.connection import Connection
    from limpet.delivery.mqtt.dialects import Dialects
    from limpet.delivery.mqtt.inflight import AckGroup
    from limpet.delivery.mqtt.outgoing import Outgoing
    from limpet.delivery.mqtt.poison import Key
    from limpet.delivery.outbox import EntryId

log = logging.getLogger(__name__)

OVERHEAD = 1024
"""Bytes of a packet that are left for topic and properties."""

PATIENCE = 120.0
"""Seconds that a broker may take to acknowledge a message."""

MOST_REPLIES, LARGEST_REPLIES = 100, 1 << 22
"""Answers to commands that may wait, and their bytes."""

LARGEST_FLIGHT = 1 << 22
"""Bytes in flight, from which on no further message is sent."""

CALM = 0.5
"""Seconds that a connection must last before a suspected message is sent: some brokers close every connection."""

ROW = 3
"""Messages refused in a row after which a topic is."""

PENALTY = 3600.0
"""Seconds for which nothing more is sent to a topic that was refused."""

_SUSPICIOUS = frozenset({"closed", "unreadable", "unacknowledged"})
"""Ends of a connection that may be due to a message."""

_REFUSALS = frozenset({0x00, 0x80, 0x81, 0x82, 0x83, 0x87, 0x90, 0x95, 0x99, 0x9A, 0x9B})
"""Reason codes of a DISCONNECT that may be due to a message; 0 is the end of a connection without one."""


class Publisher:
    """Fills connections with what is ready, and says what was acknowledged.

    ``ready`` is what the present connection is to send; each connection has its own. ``acked`` has the ids of what
    has arrived, or never will and is counted in ``refused``. Ids come in the order in which their messages were
    sent.
    """

    def __init__(self, broker: str, dialects: Dialects, expiry: float) -> None:
        self.ready: ReadyQueue | None = None
        self.published = 0
        self.state_bytes = 0
        self.acknowledged = 0
        self.takes_retained = True
        self._broker = broker
        self._dialects = dialects
        self._expiry = expiry
        self._refusals = Refusals(broker)
        self._releases = Releases()
        self._poison = PoisonSearch()
        self._state: dict[str, tuple[Publish, Message]] = {}
        self._changed: dict[str, tuple[Publish, Message]] = {}
        self._replies: deque[Sending] = deque()
        self._queue: deque[Sending] = deque()
        self._parts: deque[tuple[Outgoing, AckGroup]] = deque()
        self._in_flight = InFlight()
        self._unconfirmed: Flight | None = None
        self._refused_in_a_row: dict[str, int] = {}
        self._has_retained = False
        self._largest = LARGEST
        self._began = 0.0
        self._acks = 0

    # --- from any thread

    @property
    def acked(self) -> deque[EntryId]:
        """Ids that the outbox may forget; its thread empties this."""
        return self._releases.acked

    @property
    def refused(self) -> Counter[str]:
        """Results and messages that were dropped, by cause."""
        return self._refusals.counts

    def set_state(self, native: Publish, message: Message) -> None:
        """Publish a retained message, now and on each new connection, until another one replaces it.

        ``PipelineRemoved`` replaces the state of its pipeline, and clears what the broker retains of it.
        """
        if isinstance(message, PipelineRemoved):
            root = native.topic.removesuffix(subtopic(message))
            for topic in retained(message.pipeline):
                self._state.pop(f"{root}{topic}", None)
                self._changed.pop(f"{root}{topic}", None)
        elif isinstance(message, PipelineHealth):
            self._state.pop(native.topic.removesuffix(subtopic(message)) + f"removed/{message.pipeline}", None)
        self._state[native.topic] = native, message
        self._changed[native.topic] = native, message

    def reply(self, publish: Publish, correlation: bytes) -> None:
        """Send an answer. If too many wait, drop and count it."""
        waiting = self._replies.copy()
        size = sum(len(sending.publish.payload) for sending in waiting) + len(publish.payload)
        if not waiting or (len(waiting) < MOST_REPLIES and size <= LARGEST_REPLIES):
            self._replies.append(Sending(publish, correlation=correlation))
        else:
            self.refused["too many replies"] += 1

    # --- on the network thread

    @property
    def in_flight(self) -> int:
        """How many messages are not acknowledged."""
        return len(self._in_flight)

    @property
    def is_careful(self) -> bool:
        """Whether messages go out one at a time, as one of them is suspected."""
        return self._poison.active

    def begin(self, connection: Connection, first: Iterable[Publish]) -> None:
        """Start on a new connection, with these messages first, then all retained state."""
        self._began = time.monotonic()
        self._acks = 0
        connection.retain = connection.retain and self.takes_retained
        self.enqueue(first)
        self._changed.update(self._state)
        self.ready = ReadyQueue(max(1, connection.limit - min(OVERHEAD, connection.limit // 2)))

    def end(self, connection: Connection) -> bool:
        """Take in the end of a connection; return whether that says more about a suspected message."""
        suspicious = connection.end in _SUSPICIOUS and connection.code in _REFUSALS
        learned = suspicious and self._note_break(connection)
        self._in_flight.clear()
        self._queue.clear()
        self._parts.clear()
        self._releases.clear()
        self._unconfirmed = None
        return learned

    def send_now(self, connection: Connection, publishes: Iterable[Publish]) -> None:
        """Send messages before all that waits."""
        for publish in publishes:
            self._send(connection, Sending(publish))

    def enqueue(self, publishes: Iterable[Publish]) -> None:
        """Send messages that are not kept in the outbox."""
        self._queue.extend(Sending(publish) for publish in publishes)

    def fill(self, connection: Connection) -> bool:
        """Send as much as the broker takes unacknowledged; return whether little is left that is ready."""
        assert self.ready is not None
        window, half, low = connection.window, connection.window // 2, False
        if self._poison.active:
            window = 1
            if not self._is_calm():
                return False
        while len(self._in_flight) < window and self._in_flight.size < LARGEST_FLIGHT:
            before = len(self.ready)
            if not self._send_next(connection, self.ready):
                break
            low = low or before > half >= len(self.ready)
            if self._poison.active and not self._is_calm():
                break
        return low

    def _send_next(self, connection: Connection, ready: ReadyQueue) -> bool:
        """Do one step towards sending; return ``False`` if nothing waits.

        Replies go first, then what was queued, then changed state, then results and events.
        """
        if self._replies:
            self._send(connection, self._replies.popleft())
        elif self._queue:
            self._send(connection, self._queue.popleft())
        elif self._changed:
            native, message = self._changed.pop(next(iter(self._changed)))
            self.enqueue(self._dialects.state(message, native))
            self._count_faults(native.topic, 1)
        elif self._parts:
            self._format(*self._parts.popleft())
        elif waiting := ready.take():
            self._split(connection, waiting)
        else:
            return False
        return True

    def settle(self, connection: Connection) -> bool:
        """Take in acknowledgements; return whether there were any. ``TransportError`` if they do not come."""
        over_quota = False
        for mid, code in connection.acks:
            flight = self._in_flight.take(mid)
            if flight and code == QUOTA_EXCEEDED and flight.sending.source:
                over_quota = True  # a result can wait; state and replies would be refused on each connection again
            elif flight:
                self._settle_one(flight, code)
        some = bool(connection.acks)
        connection.acks.clear()
        if over_quota:
            raise TransportError("a quota of the broker is used up; it gets its messages later")
        oldest = self._in_flight.oldest()
        if oldest and time.monotonic() - oldest.at > PATIENCE:
            connection.end = "unacknowledged"
            raise TransportError(f"it has not acknowledged a message within {PATIENCE:.0f} s")
        return some

    # --- one message

    def _split(self, connection: Connection, message: Outgoing) -> None:
        """Queue a message of the outbox in the parts in which it may go out."""
        if message.damaged:
            self._refusals.add(message.topic, message.damaged, "unreadable")
        parts = self._parts_of(connection, message) if message.items else []
        group = self._releases.begin(message.ids, len(parts))
        self._parts.extend((part, group) for part in parts)

    def _parts_of(self, connection: Connection, message: Outgoing) -> list[Outgoing]:
        limit = max(1, min(self._largest, connection.limit - len(message.topic.encode(errors="replace")) - 64))
        items = message.items
        if self._poison.has_refused:
            now = time.monotonic()
            items = tuple(item for item in items if not self._poison.is_refused(poison.item_key(item), now))
        elif self._poison.most_items is None and (len(items) == 1 or message.size <= limit):
            return [message]
        return outgoing.split(message, items, self._poison.most_items or len(message.items), limit)

    def _format(self, part: Outgoing, group: AckGroup) -> None:
        """Queue what a part is in all dialects."""
        publishes = self._dialects.results_or_event(part)
        self._count_faults(part.topic, len(part.items))
        self._queue.extend(Sending(publish, part, group) for publish in publishes)
        self._releases.expect(group, len(publishes) - 1)

    def _send(self, connection: Connection, sending: Sending) -> None:
        publish = sending.publish
        size = len(publish.payload)
        if self._poison.is_topic_refused(publish.topic, size, time.monotonic()):
            self._drop(sending, "topic refused")
            return
        try:
            expiry = self._expiry if sending.source else None
            mid = connection.publish(publish, expiry, sending.correlation)
        except UnpublishableError as error:
            self._drop(sending, error.cause, str(error))
            return
        self.published += 1
        if sending.group is None:
            self.state_bytes += len(publish.topic) + size
        retain = publish.retain and connection.retain
        flight = Flight(sending, time.monotonic(), min(publish.qos, connection.qos), retain)
        self._in_flight.add(mid, flight)
        if not flight.qos:
            self._unconfirmed = flight

    def _settle_one(self, flight: Flight, code: int) -> None:
        """Take in one acknowledgement. Codes below 0x80 are successes: 0x10 means that there was no subscriber."""
        sending = flight.sending
        if code >= 0x80:
            self._drop(sending, f"0x{code:02x}")
        else:
            self.acknowledged += 1
            self._refused_in_a_row.pop(sending.publish.topic, None)
            self._releases.finish(sending.group)
        if flight.qos:  # one with QoS 0 has only been written
            self._acks += 1
            self._has_retained = self._has_retained or (flight.retain and code < 0x80)
            # An earlier message says nothing about what was written after it.
            if self._unconfirmed and self._unconfirmed.at < flight.at:
                self._unconfirmed = None
            self._note_passed(sending)

    def _note_passed(self, sending: Sending) -> None:
        """Take in that a message did not end the connection."""
        if not self._poison.active:
            return
        size = sending.source.size if sending.source else 0
        if largest := self._poison.passed(_keys(sending), size):
            self._largest = min(self._largest, largest)
            text = "%s closes the connection over large batches; they have at most %d bytes from now on"
            log.warning(text, self._broker, self._largest)

    def _drop(self, sending: Sending, cause: str, detail: str = "") -> None:
        """Count a publish that is not sent, or not taken; another attempt would end in the same way."""
        items = len(sending.source.items) if sending.source else 1
        self._refusals.add(sending.publish.topic, items, cause, detail)
        self._releases.finish(sending.group)

    def _count_faults(self, topic: str, items: int) -> None:
        """Count what dialects could not express."""
        faults, self._dialects.faults = self._dialects.faults, []
        if faults:
            self._refusals.add(topic, items, "not encodable", faults[0])

    # --- a connection that the broker has closed

    def _is_calm(self) -> bool:
        """Whether the end of the connection would now speak against the next message, and no other."""
        now = time.monotonic()
        if self._unconfirmed and now - self._unconfirmed.at >= CALM:
            self._note_passed(self._unconfirmed.sending)
            self._unconfirmed = None
        return now - self._began >= CALM and not self._unconfirmed

    def _note_break(self, connection: Connection) -> bool:
        """Take in that the broker closed the connection; return whether that says more than before."""
        sent = [flight.sending for flight in self._in_flight]
        # The acknowledgement of a message before it may be lost with the connection, so that both are suspected.
        if self._unconfirmed and time.monotonic() - self._unconfirmed.at < 2 * CALM:
            sent.append(self._unconfirmed.sending)
        if not sent:
            return False
        is_state = connection.end == "closed" and not sent[0].source
        if self._poison.active and not is_state and not self._acks:
            return False  # it may end every connection: a result is given up only if other messages arrive
        key = self._poison.broke([_keys(sending) for sending in sent])
        if key is None:
            return self._poison.active
        retained = sent[0].publish.retain and connection.retain
        if retained and connection.version == "3.1.1" and not self._has_retained:
            self.takes_retained = False
        else:
            self._give_up(sent[0], key)
        return True

    def _give_up(self, sending: Sending, key: Key) -> None:
        """Refuse a message that ends connections: one result, or a topic for an hour."""
        topic, now = sending.publish.topic, time.monotonic()
        self._poison.refuse(key, now + (self._expiry if sending.source else PENALTY))
        self._refusals.add(topic, 1, "closes connection", "the broker closes the connection over it")
        in_a_row = self._refused_in_a_row.get(topic, 0) + 1
        self._refused_in_a_row[topic] = in_a_row
        if in_a_row >= ROW:
            self._poison.refuse(poison.topic_key(topic, 0), now + PENALTY)
            log.error("%r: the broker refused %d messages in a row; the next one is tried in an hour", topic, ROW)


def _keys(sending: Sending) -> Sequence[Key]:
    """Return what names a publish in the search for a poison message."""
    if sending.source is None:
        return [poison.topic_key(sending.publish.topic, len(sending.publish.payload))]
    return [poison.item_key(item) for item in sending.source.items]

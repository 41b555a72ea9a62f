"""What goes out on connections: order, window, acknowledgements, and what is refused. On the network thread."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from limpet.delivery.mqtt import poison
from limpet.delivery.mqtt.connection import LARGEST, QUOTA_EXCEEDED, UnpublishableError
from limpet.delivery.mqtt.poison import PoisonSearch
from limpet.errors import TransportError, UnreadableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from limpet.contracts.dialect import Publish
    from limpet.contracts.messages import Message
    from limpet.delivery.mqtt.connection import Connection
    from limpet.delivery.mqtt.dialects import Dialects
    from limpet.delivery.mqtt.outgoing import Outgoing
    from limpet.delivery.mqtt.poison import Key
    from limpet.delivery.outbox import EntryId

log = logging.getLogger(__name__)

OVERHEAD = 1024
"""Bytes of a packet that are left for topic and properties."""

PATIENCE = 120.0
"""Seconds that a broker may take to acknowledge a message."""

REPLIES, LARGEST_REPLIES = 100, 1 << 22
"""Answers to commands that may wait, and their bytes."""

LARGEST_FLIGHT = 1 << 22
"""Bytes under way, from which on no further message is sent."""

CALM = 0.5
"""Seconds that a connection must last before a suspected message is sent: some brokers close every connection."""

ROW = 3
"""Messages refused in a row after which a topic is."""

PENALTY = 3600.0
"""Seconds for which nothing more is sent to a topic that was refused."""

OURS = frozenset({"topic", "unreadable", "not encodable"})
"""Causes that do not lie with the broker."""

SUSPICIOUS = frozenset({"closed", "unreadable", "unacknowledged"})
"""Ends of a connection that may be due to a message."""

REFUSALS = frozenset({0x00, 0x80, 0x81, 0x82, 0x83, 0x87, 0x90, 0x95, 0x99, 0x9A, 0x9B})
"""Reason codes of a DISCONNECT that may mean a message; 0 is the end of a connection without one."""


class Line:
    """What one connection is to send: ``ready``, each with a payload of at most ``limit`` bytes."""

    def __init__(self, limit: int) -> None:
        self.ready: deque[Outgoing] = deque()
        self.limit = limit


class _Group:
    """A message of the outbox, on its way in parts and dialects; done when ``left`` of them are none."""

    def __init__(self, tokens: tuple[EntryId, ...]) -> None:
        self.tokens = tokens
        self.left = 0


class _Sending(NamedTuple):
    """One publish. ``part`` is what it came from, ``None`` for state and replies."""

    publish: Publish
    part: Outgoing | None = None
    group: _Group | None = None
    correlation: bytes = b""


class _Flight(NamedTuple):
    """A publish under way since ``at``."""

    sending: _Sending
    at: float
    qos: int
    retain: bool


@dataclass
class _Trial:
    """The search for a message over which the broker closes connections.

    ``split``: it was a batch; ``passed`` is the size of the largest message that arrived meanwhile; ``gave_up``: a
    message was refused.
    """

    split: bool = False
    gave_up: bool = False
    passed: int = 0


class Publisher:
    """Fills connections. ``acked`` are tokens of what has arrived, or never will and is counted in ``refused``.

    Tokens are released in the order in which their messages were sent.
    """

    def __init__(self, broker: str, told: Dialects, expiry: float) -> None:
        self.line: Line | None = None
        self.acked: deque[EntryId] = deque()
        self.published = 0
        self.state_bytes = 0
        self.acknowledged = 0
        self.refused: Counter[str] = Counter()
        self.takes_retained = True
        self._broker = broker
        self._told = told
        self._expiry = expiry
        self._caution = PoisonSearch()
        self._state: dict[str, tuple[Publish, Message]] = {}
        self._changed: dict[str, tuple[Publish, Message]] = {}
        self._replies: deque[_Sending] = deque()
        self._queue: deque[_Sending] = deque()
        self._parts: deque[tuple[Outgoing, _Group]] = deque()
        self._groups: deque[_Group] = deque()
        self._flight: dict[int, _Flight] = {}
        self._flying = 0
        self._unconfirmed: _Flight | None = None
        self._in_a_row: Counter[str] = Counter()
        self._named: set[str] = set()
        self._has_retained = False
        self._trial = _Trial()
        self._cap = LARGEST
        self._began = 0.0
        self._acks = 0

    # --- from other threads

    def set_state(self, native: Publish, message: Message) -> None:
        """Publish a retained message, now and on each new connection, until another one replaces it."""
        self._state[native.topic] = native, message
        self._changed[native.topic] = native, message

    def reply(self, publish: Publish, correlation: bytes) -> None:
        """Send an answer; more than may wait are dropped and counted."""
        waiting = self._replies.copy()
        size = sum(len(sending.publish.payload) for sending in waiting) + len(publish.payload)
        if not waiting or (len(waiting) < REPLIES and size <= LARGEST_REPLIES):
            self._replies.append(_Sending(publish, correlation=correlation))
        else:
            self.refused["too many replies"] += 1

    # --- on the network thread

    @property
    def under_way(self) -> int:
        """How many messages are not acknowledged."""
        return len(self._flight)

    @property
    def is_careful(self) -> bool:
        """Whether messages go out one at a time, as one of them is suspected."""
        return self._caution.active

    def begin(self, link: Connection, first: Iterable[Publish]) -> None:
        """Start on a new connection, with these messages first."""
        self._began = time.monotonic()
        self._acks = 0
        link.retain = link.retain and self.takes_retained
        self.say(first)
        self._changed.update(self._state)
        self.line = Line(max(1, link.limit - min(OVERHEAD, link.limit // 2)))

    def end(self, link: Connection) -> bool:
        """Take note of the end of a connection; return whether that says more about a suspected message."""
        learned = link.end in SUSPICIOUS and link.code in REFUSALS and self._note_break(link)
        self._flight.clear()
        self._flying = 0
        self._queue.clear()
        self._parts.clear()
        self._groups.clear()
        self._unconfirmed = None
        return learned

    def send_now(self, link: Connection, publishes: Iterable[Publish]) -> None:
        """Send messages before all that waits."""
        for publish in publishes:
            self._send(link, _Sending(publish))

    def say(self, publishes: Iterable[Publish]) -> None:
        """Send messages that are not kept in the outbox."""
        self._queue.extend(_Sending(publish) for publish in publishes)

    def fill(self, link: Connection) -> bool:
        """Send as much as the broker takes unacknowledged, state before all else; whether the line runs low."""
        assert self.line
        low = False
        window = link.window
        if self._caution.active:
            window = 1
            if not self._is_calm():
                return False
        while len(self._flight) < window and self._flying < LARGEST_FLIGHT:
            if self._replies:
                self._send(link, self._replies.popleft())
            elif self._queue:
                self._send(link, self._queue.popleft())
            elif self._changed:
                native, message = self._changed.pop(next(iter(self._changed)))
                self.say(self._told.state(message, native))
                self._note_faults(native.topic, 1)
            elif self._parts:
                self._tell(*self._parts.popleft())
            elif self.line.ready:
                self._take_apart(link, self.line.ready.popleft())
                low = low or len(self.line.ready) == link.window // 2
            else:
                return low
            if self._caution.active and not self._is_calm():
                return low
        return low

    def settle(self, link: Connection) -> bool:
        """Take note of acknowledgements; whether there were any. ``TransportError`` if they do not come.

        Below 0x80 a reason code is a success: 0x10 means that there was no subscriber.
        """
        over_quota = False
        for mid, code in link.acks:
            flight = self._flight.pop(mid, None)
            if flight:
                self._flying -= len(flight.sending.publish.payload)
            if flight and code == QUOTA_EXCEEDED and flight.sending.part:
                over_quota = True  # a result can wait; state and replies would be refused on each connection again
            elif flight:
                self._settle_one(flight, code)
        some = bool(link.acks)
        link.acks.clear()
        if over_quota:
            raise TransportError("a quota of the broker is used up; it gets its messages later")
        oldest = next(iter(self._flight.values()), None)
        if oldest and time.monotonic() - oldest.at > PATIENCE:
            link.end = "unacknowledged"
            raise TransportError(f"it has not acknowledged a message within {PATIENCE:.0f} s")
        return some

    # --- a message on its way

    def _take_apart(self, link: Connection, message: Outgoing) -> None:
        """Queue a message in the parts in which it may go out."""
        group = _Group(message.tokens)
        self._groups.append(group)
        made = self._made_of(link, message)
        group.left = len(made)
        self._parts.extend((part, group) for part in made)
        self._release()

    def _made_of(self, link: Connection, message: Outgoing) -> list[Outgoing]:
        if not message.payload:
            self._refuse(message.topic, message.items, "unreadable")
            return []
        size = max(1, min(self._cap, link.limit - len(message.topic.encode(errors="replace")) - 64))
        small = message.items == 1 or len(message.payload) <= size
        if small and not self._caution.part and not self._caution.remembers:
            return [message]
        try:
            items = poison.items_of(message)
        except UnreadableError:
            self._refuse(message.topic, message.items, "unreadable")
            return []
        if self._caution.remembers:
            now = time.monotonic()
            items = [raw for raw in items if not self._caution.is_refused(poison.key_of(raw), now)]
        return poison.parts(message.topic, items, self._caution.part, size)

    def _tell(self, part: Outgoing, group: _Group) -> None:
        """Queue what a part is in all dialects."""
        publishes = self._told.outgoing(part)
        self._note_faults(part.topic, part.items)
        group.left += len(publishes) - 1
        self._queue.extend(_Sending(publish, part, group) for publish in publishes)
        self._release()

    def _send(self, link: Connection, sending: _Sending) -> None:
        publish, part, group, correlation = sending
        size = len(publish.payload)
        if self._caution.is_topic_refused(publish.topic, size, time.monotonic()):
            self._drop(sending, "topic refused")
            return
        try:
            mid = link.publish(publish, self._expiry if part else None, correlation)
        except UnpublishableError as error:
            self._drop(sending, error.cause, str(error))
            return
        self.published += 1
        if group is None:
            self.state_bytes += len(publish.topic) + size
        retain = publish.retain and link.retain
        flight = _Flight(sending, time.monotonic(), min(publish.qos, link.qos), retain)
        self._flight[mid] = flight
        self._flying += size
        if not flight.qos:
            self._unconfirmed = flight

    def _settle_one(self, flight: _Flight, code: int) -> None:
        sending = flight.sending
        if code >= 0x80:
            self._drop(sending, f"0x{code:02x}")
        else:
            self.acknowledged += 1
            self._in_a_row.pop(sending.publish.topic, None)
            self._finish(sending.group)
        if flight.qos:  # one with QoS 0 has only been written
            self._acks += 1
            self._has_retained = self._has_retained or (flight.retain and code < 0x80)
            # An earlier message says nothing about what was written after it.
            if self._unconfirmed and self._unconfirmed.at < flight.at:
                self._unconfirmed = None
            self._clear(sending)

    def _clear(self, sending: _Sending) -> None:
        if not self._caution.active:
            return
        if sending.part:
            self._trial.passed = max(self._trial.passed, len(sending.part.payload))
        if self._caution.cleared(_keys(sending)):
            self._conclude()

    def _conclude(self) -> None:
        """If all parts of a batch arrived, its size was at fault: later batches are no larger than the parts."""
        if self._trial.split and not self._trial.gave_up and self._trial.passed:
            self._cap = min(self._cap, self._trial.passed)
            text = "%s closes the connection over large batches; they have at most %d bytes from now on"
            log.warning(text, self._broker, self._cap)
        self._trial = _Trial()

    def _drop(self, sending: _Sending, cause: str, detail: str = "") -> None:
        """Count a publish that is not sent, or not taken; another attempt would end in the same way."""
        items = sending.part.items if sending.part else 1
        self._refuse(sending.publish.topic, items, cause, detail)
        self._finish(sending.group)

    def _finish(self, group: _Group | None) -> None:
        """Take note that one publish of a group is done with."""
        if group:
            group.left -= 1
            self._release()

    def _release(self) -> None:
        while self._groups and not self._groups[0].left:
            self.acked.extend(self._groups.popleft().tokens)

    def _note_faults(self, topic: str, items: int) -> None:
        """Count what dialects could not express."""
        faults, self._told.faults = self._told.faults, []
        if faults:
            self._refuse(topic, items, "not encodable", faults[0])

    def _refuse(self, topic: str, items: int, cause: str, detail: str = "") -> None:
        """Count messages that are dropped. The first of a topic has a line in the log."""
        self.refused[cause] += items
        if topic not in self._named and len(self._named) < poison.MOST:
            self._named.add(topic)
            why = f"{cause}: {detail[:200]}" if detail else cause
            if cause in OURS:
                log.error("messages to %r cannot be published (%s) and are dropped", topic[:200], why)
                return
            text = "%s refuses messages to %s (%s), which are dropped; check its access list and its limits"
            log.error(text, self._broker, topic[:200], why)

    # --- a connection that the broker has closed

    def _is_calm(self) -> bool:
        """Whether the end of the connection would now speak against the next message, and no other."""
        now = time.monotonic()
        if self._unconfirmed and now - self._unconfirmed.at >= CALM:
            self._clear(self._unconfirmed.sending)
            self._unconfirmed = None
        return now - self._began >= CALM and not self._unconfirmed

    def _note_break(self, link: Connection) -> bool:
        """Take note that the broker closed the connection; return whether that says more than before."""
        sent = [flight.sending for flight in self._flight.values()]
        # The acknowledgement of a message before it may be lost with the connection, so that both are suspected.
        if self._unconfirmed and time.monotonic() - self._unconfirmed.at < 2 * CALM:
            sent.append(self._unconfirmed.sending)
        sure = link.end == "closed" and not sent[0].part if sent else False
        if not sent or (self._caution.active and not sure and not self._acks):
            return False  # it may end every connection: a result is given up only where other messages arrive
        if self._caution.active and sent[0].part and sent[0].part.items > 1:
            self._trial.split = True
        key = self._caution.broke([_keys(sending) for sending in sent])
        if key is None:
            return self._caution.active
        publish = sent[0].publish
        if publish.retain and link.retain and link.version == "3.1.1" and not self._has_retained:
            self.takes_retained = False
        else:
            self._give_up(sent[0], key)
        return True

    def _give_up(self, sending: _Sending, key: Key) -> None:
        """Refuse a message that ends connections: one result, or a topic for an hour."""
        self._trial.gave_up = True
        topic, now = sending.publish.topic, time.monotonic()
        detail = "the broker closes the connection over it"
        self._caution.refuse(key, now + (self._expiry if sending.part else PENALTY))
        self._refuse(topic, 1, "closes connection", detail)
        self._in_a_row[topic] += 1
        if self._in_a_row[topic] >= ROW:
            self._caution.refuse(poison.topic_key(topic, 0), now + PENALTY)
            log.error("%r: the broker refused %d messages in a row; the next one is tried in an hour", topic, ROW)


def _keys(sending: _Sending) -> Sequence[Key]:
    if sending.part is None:
        return [poison.topic_key(sending.publish.topic, len(sending.publish.payload))]
    try:
        return poison.keys_of(sending.part)
    except UnreadableError:
        return [poison.key_of(sending.part.payload)]

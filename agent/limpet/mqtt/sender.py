"""The network thread: keeps a connection, publishes what is ready, and notes what was acknowledged."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections import Counter, deque
from typing import TYPE_CHECKING, Literal, NamedTuple

from limpet.errors import TransportError
from limpet.mqtt.backoff import Backoff
from limpet.mqtt.broker import endpoint, secrets_version
from limpet.mqtt.link import QUOTA_EXCEEDED, UNSUPPORTED_VERSION, WINDOW, Link, RefusedError
from limpet.mqtt.request import Request
from limpet.reporters.dialects import Publish

if TYPE_CHECKING:
    from collections.abc import Callable

    from limpet.messages import Message
    from limpet.mqtt.broker import Broker
    from limpet.mqtt.pack import Outgoing
    from limpet.mqtt.told import Told
    from limpet.outbox import Token
    from limpet.plugin import Command

log = logging.getLogger(__name__)

GOOD = 10.0
"""Seconds after which a connection counts as good: the next pause is then the shortest again."""

FAREWELL = 1.0
"""Seconds to wait for the acknowledgement of the last message, ``offline``."""


SECRETS = 5.0
"""Seconds between two looks whether a certificate, a key or the password was replaced."""

OVERHEAD = 1024
"""Bytes of a packet that are left for topic and properties."""


class Presence(NamedTuple):
    """Payloads of the topic ``status``: while connected, as last will, and after a clean stop."""

    topic: str
    online: bytes
    lost: bytes
    stopped: bytes


class Line:
    """What one connection is to send: ``ready``, each with a payload of at most ``limit`` bytes."""

    def __init__(self, limit: int) -> None:
        self.ready: deque[Outgoing] = deque()
        self.limit = limit


class _Group:
    """What one message of the outbox became in all dialects; done when ``left``, unacknowledged, are none."""

    def __init__(self, message: Outgoing, left: int) -> None:
        self.tokens = message.tokens
        self.items = message.items
        self.left = left


class _Flight(NamedTuple):
    """A message under way, of a group if it came out of the outbox."""

    topic: str
    group: _Group | None


class Sender:
    """Owns paho. ``line`` is what to send on the connection at hand, ``acked`` what has arrived or never will.

    The thread that owns the outbox fills the line and empties ``acked``; ``refill`` wakes it. Each connection has
    a line of its own: what the one before did not get acknowledged is handed over again.
    A bug ends the thread by its traceback, through ``threading.excepthook``: the program is to end then.
    """

    def __init__(self, broker: Broker, client_id: str, presence: Presence, told: Told, expiry: float) -> None:
        self.line: Line | None = None
        self.acked: deque[Token] = deque()
        self.connected = False
        self.version = ""
        self.connections = 0
        self.last_disconnect = ""
        self.published = 0
        self.state_bytes = 0
        self.acknowledged = 0
        self.refused: Counter[str] = Counter()
        self._broker = broker
        self._client_id = client_id
        self._presence = presence
        self._root = presence.topic.rpartition("/")[0]
        self._told = told
        self._expiry = expiry
        self._refill: Callable[[], None]
        self._news: Callable[[str], None]
        self._obey: Callable[[Command], None]
        self._state: dict[str, tuple[Publish, Message]] = {}
        self._changed: dict[str, tuple[Publish, Message]] = {}
        self._replies: deque[tuple[Publish, bytes]] = deque()
        self._queue: deque[tuple[Publish, _Group | None]] = deque()
        self._flight: dict[int, _Flight] = {}
        self._backoff = Backoff(1.0, broker.reconnect_max)
        self._silent_on_5 = 0
        self._said: set[str] = set()
        self._refused_topics: set[str] = set()
        self._stop = threading.Event()
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_out.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)

    def start(
        self, refill: Callable[[], None], news: Callable[[str], None], obey: Callable[[Command], None]
    ) -> None:
        """Start the thread.

        ``refill`` is called when the line runs low or something has been acknowledged, ``news`` with what keeps it
        from the broker, ``obey`` with each command that comes.
        """
        self._refill, self._news, self._obey = refill, news, obey
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Say goodbye to the broker and end the thread; give up waiting after ``timeout`` seconds."""
        self._stop.set()
        self.wake()
        self._thread.join(timeout)

    def wake(self) -> None:
        """Have the thread look at ``ready``. From any thread."""
        with contextlib.suppress(OSError):  # full: it has wake-ups enough; closed: the thread has ended
            self._wake_out.send(b"\0")

    def set_state(self, topic: str, payload: bytes, message: Message) -> None:
        """Publish a retained message, now and on each new connection, until another one replaces it."""
        native = Publish(topic, payload, 1, retain=True, content_type="application/json")
        self._state[topic] = native, message
        self._changed[topic] = native, message
        self.wake()

    def _run(self) -> None:
        with self._wake_in, self._wake_out:
            self._keep_connected()

    def _keep_connected(self) -> None:
        while not self._stop.is_set():
            try:
                link = self._connect()
            except TransportError as error:
                self._say(str(error))
                self._stop.wait(self._backoff.next())
                continue
            began = time.monotonic()
            self._serve(link)
            if time.monotonic() - began >= GOOD:
                self._backoff.reset()
            self._stop.wait(self._backoff.next())

    def _connect(self) -> Link:
        """Connect with the version configured; "auto" goes on to 3.1.1 when the broker does not answer in 5.

        Some brokers that only know 3.1.1 hang up instead of answering; so does a proxy whose broker is down.
        So after a silent end the two take turns, and after any good connection 5 is first again.
        """
        version = self._broker.protocol
        if version != "auto":
            return self._attempt(version)
        if self._silent_on_5 % 2:
            self._silent_on_5 += 1
            return self._attempt("3.1.1")
        try:
            return self._attempt("5")
        except RefusedError as refused:
            if refused.code != UNSUPPORTED_VERSION:
                self._silent_on_5 += refused.code == 0
                raise
        return self._attempt("3.1.1")

    def _attempt(self, version: Literal["5", "3.1.1"]) -> Link:
        self._secrets = secrets_version(self._broker)
        will = self._told.will(version, self._status(self._presence.lost))
        link = Link(self._broker, self._client_id, version, will, self._wake_in)
        try:
            link.connect(self._broker.keepalive, self._stop)
        except TransportError:
            link.drop()
            raise
        self._silent_on_5 = 0
        return link

    def _serve(self, link: Link) -> None:
        """Use a connection until it ends or the thread is to stop."""
        try:
            self._begin(link)
            while not self._stop.is_set() and not self._secrets_replaced():
                self._fill_window(link)
                link.poll(0.0 if link.acks else 1.0)
                self._settle(link)
                self._hear(link)
                self._praise()
            self._say_goodbye(link)
        except TransportError as error:
            link.drop()
            self.last_disconnect = str(error)
            self._say(str(error))
            with contextlib.suppress(TransportError):
                self._settle(link)
        finally:
            self.connected = False
            self._flight.clear()
            self._queue.clear()

    def _begin(self, link: Link) -> None:
        self.connections += 1
        self.version = link.version
        self._connected_at = self._secrets_at = time.monotonic()
        # Whoever reads ``online`` may send commands at once.
        for refused in link.subscribe([f"{self._root}/command/+", *self._told.subscriptions]):
            self._say(refused)
        self._say(f"connected with MQTT {link.version}", logging.INFO)
        first = [self._status(self._presence.online), *self._told.connected()]
        self._queue.extend((publish, None) for publish in first)
        self._changed.update(self._state)
        self.line = Line(link.limit - OVERHEAD)
        self.connected = True
        self._refill()

    def _praise(self) -> None:
        """Once a connection has proved good, what goes wrong next is news again."""
        if self._said and time.monotonic() - self._connected_at >= GOOD:
            self._said.clear()

    def _fill_window(self, link: Link) -> None:
        """Publish as much as the broker takes unacknowledged, state before all else."""
        assert self.line
        while len(self._flight) < link.window:
            if self._replies:
                self._publish(link, *self._replies.popleft())
            elif self._queue:
                self._send(link, *self._queue.popleft())
            elif self._changed:
                native, message = self._changed.pop(next(iter(self._changed)))
                self._queue.extend((publish, None) for publish in self._told.state(message, native))
            elif self.line.ready:
                self._tell(self.line.ready.popleft())
                if len(self.line.ready) == WINDOW // 2:
                    self._refill()
            else:
                return

    def _tell(self, message: Outgoing) -> None:
        """Queue what a message is in all dialects."""
        publishes = self._told.outgoing(message)
        group = _Group(message, len(publishes))
        self._queue.extend((publish, group) for publish in publishes)
        if not publishes:
            self.acked.extend(group.tokens)

    def _send(self, link: Link, publish: Publish, group: _Group | None) -> None:
        if group and len(publish.payload) + OVERHEAD > link.limit:
            self._refuse(publish.topic, group.items, "too large")
            self._finish(group)
            return
        self._publish(link, publish, group=group)

    def _publish(
        self, link: Link, publish: Publish, correlation: bytes = b"", group: _Group | None = None
    ) -> None:
        self.published += 1
        if group is None:
            self.state_bytes += len(publish.topic) + len(publish.payload)
        mid = link.publish(publish, self._expiry if group else None, correlation)
        self._flight[mid] = _Flight(publish.topic, group)

    def _finish(self, group: _Group | None) -> None:
        """Take note that one of a group's messages is done with."""
        if group:
            group.left -= 1
            if not group.left:
                self.acked.extend(group.tokens)

    def _settle(self, link: Link) -> None:
        """Take note of acknowledgements. Below 0x80 a reason code is a success: 0x10 says that nobody listened."""
        over_quota = False
        for mid, code in link.acks:
            if code == QUOTA_EXCEEDED:
                over_quota = True
                continue
            flight = self._flight.pop(mid)
            self._finish(flight.group)
            if code < 0x80:
                self.acknowledged += 1
            else:
                self._refuse(flight.topic, flight.group.items if flight.group else 1, f"0x{code:02x}")
        if link.acks and (not self._flight or len(self.acked) >= WINDOW):
            self._refill()
        link.acks.clear()
        if over_quota:
            raise TransportError("a quota of the broker is used up; it gets its messages later")

    def _hear(self, link: Link) -> None:
        """Take what came on subscriptions: commands, and what dialects listen to."""
        for incoming in link.incoming:
            if not incoming.topic.startswith(f"{self._root}/command/"):
                answers = self._told.received(incoming.topic, incoming.payload)
                self._queue.extend((publish, None) for publish in answers)
            elif incoming.retained:
                log.warning("%s: a retained command is not obeyed", incoming.topic)
            else:
                self._obey(Request(incoming, self._root, self._reply))
        link.incoming.clear()

    def _reply(self, publish: Publish, correlation: bytes) -> None:
        """Send an answer. From any thread."""
        self._replies.append((publish, correlation))
        self.wake()

    def _secrets_replaced(self) -> bool:
        """Whether a file with a secret is another than when this connection was made: it is then made anew."""
        now = time.monotonic()
        if now - self._secrets_at < SECRETS:
            return False
        self._secrets_at = now
        return secrets_version(self._broker) != self._secrets

    def _refuse(self, topic: str, items: int, reason: str) -> None:
        """Count a message that the broker will not have; it is dropped, as it would be refused again."""
        self.refused[reason] += items
        if topic not in self._refused_topics:
            self._refused_topics.add(topic)
            log.error(
                "%s refuses messages to %s (%s), which are dropped; check its access list and its limits",
                endpoint(self._broker.url), topic, reason,
            )  # fmt: skip

    def _say_goodbye(self, link: Link) -> None:
        """End a connection in order: for good, or as a secret was replaced and the next one follows."""
        stopped = [self._status(self._presence.stopped)] if self._stop.is_set() else []
        for publish in (*self._told.leaving(), *stopped):
            self._publish(link, publish)
        deadline = time.monotonic() + FAREWELL
        while self._flight and time.monotonic() < deadline:
            link.poll(0.1)
            self._settle(link)
        link.disconnect()
        self.last_disconnect = "stopped" if stopped else "a secret was replaced"
        if not stopped:
            log.info("%s: a secret was replaced; connecting anew", endpoint(self._broker.url))

    def _status(self, payload: bytes) -> Publish:
        return Publish(self._presence.topic, payload, 1, retain=True, content_type="application/json")

    def _say(self, text: str, level: int = logging.WARNING) -> None:
        """Log a line, once until a connection has been good."""
        if text not in self._said and not self._stop.is_set():
            self._said.add(text)
            log.log(level, "%s: %s", endpoint(self._broker.url), text)
            if level >= logging.WARNING:
                self._news(text)

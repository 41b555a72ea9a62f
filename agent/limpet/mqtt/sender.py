"""The network thread: keeps a connection, publishes what is ready, and notes what was acknowledged."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections import Counter, deque
from typing import TYPE_CHECKING, NamedTuple

from limpet.errors import TransportError
from limpet.mqtt.backoff import Backoff
from limpet.mqtt.broker import endpoint
from limpet.mqtt.link import QUOTA_EXCEEDED, UNSUPPORTED_VERSION, WINDOW, Link, RefusedError, Will

if TYPE_CHECKING:
    from collections.abc import Callable

    from limpet.mqtt.broker import Broker
    from limpet.outbox import Parcel

log = logging.getLogger(__name__)

GOOD = 10.0
"""Seconds after which a connection counts as good: the next pause is then the shortest again."""

FAREWELL = 1.0
"""Seconds to wait for the acknowledgement of the last message, ``offline``."""


class Presence(NamedTuple):
    """Payloads of the topic ``status``: while connected, as last will, and after a clean stop."""

    topic: str
    online: bytes
    lost: bytes
    stopped: bytes


class _Flight(NamedTuple):
    """A message under way. ``parcel`` is ``None`` for retained state, which is kept in ``Sender.state``."""

    topic: str
    parcel: Parcel | None


class Sender:
    """Owns paho. ``ready`` is what to send next, ``acked`` the tokens of what has arrived or never will.

    ``ready`` is filled and ``acked`` emptied by the thread that owns the outbox, which ``refill`` wakes.
    Messages that were not acknowledged when a connection ended go out first on the next one, in their order.
    A bug ends the thread by its traceback, through ``threading.excepthook``: the program is to end then.
    """

    def __init__(self, broker: Broker, client_id: str, presence: Presence, refill: Callable[[], None]) -> None:
        self.ready: deque[Parcel] = deque()
        self.acked: deque[int] = deque()
        self.connected = False
        self.version = ""
        self.connections = 0
        self.last_disconnect = ""
        self.published = 0
        self.acknowledged = 0
        self.refused: Counter[str] = Counter()
        self._broker = broker
        self._client_id = client_id
        self._presence = presence
        self._refill = refill
        self._state: dict[str, bytes] = {}
        self._changed: dict[str, bytes] = {}
        self._again: deque[Parcel] = deque()
        self._flight: dict[int, _Flight] = {}
        self._backoff = Backoff(1.0, broker.reconnect_max)
        self._silent_on_5 = 0
        self._said: set[str] = set()
        self._refused_topics: set[str] = set()
        self._stop = threading.Event()
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_out.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)

    def start(self) -> None:
        """Start the thread."""
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

    def set_state(self, topic: str, payload: bytes) -> None:
        """Publish a retained message, now and on each new connection, until another one replaces it."""
        self._state[topic] = payload
        self._changed[topic] = payload
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

    def _attempt(self, version: str) -> Link:
        will = Will(self._presence.topic, self._presence.lost)
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
        self._begin(link)
        try:
            while not self._stop.is_set():
                self._fill_window(link)
                link.poll(0.0 if link.acks else 1.0)
                self._settle(link)
                self._praise()
            self._say_goodbye(link)
        except TransportError as error:
            link.drop()
            self.last_disconnect = str(error)
            self._say(str(error))
        finally:
            self.connected = False
            self._settle(link)
            self._again.extendleft(
                flight.parcel for flight in reversed(self._flight.values()) if flight.parcel is not None
            )
            self._flight.clear()

    def _begin(self, link: Link) -> None:
        self.connections += 1
        self.version = link.version
        self._connected_at = time.monotonic()
        self._say(f"connected with MQTT {link.version}", logging.INFO)
        self._publish(link, self._presence.topic, self._presence.online)
        self._changed.update(self._state)
        self.connected = True
        self._refill()

    def _praise(self) -> None:
        """Once a connection has proved good, what goes wrong next is news again."""
        if self._said and time.monotonic() - self._connected_at >= GOOD:
            self._said.clear()

    def _fill_window(self, link: Link) -> None:
        """Publish as much as the broker takes unacknowledged: state, then what was sent before, then the rest."""
        while len(self._flight) < link.window:
            if self._changed:
                self._publish(link, *self._changed.popitem())
            elif self._again:
                self._send(link, self._again.popleft())
            elif self.ready:
                self._send(link, self.ready.popleft())
                if len(self.ready) == WINDOW // 2:
                    self._refill()
            else:
                return

    def _send(self, link: Link, parcel: Parcel) -> None:
        entry = parcel.entry
        self.published += 1
        mid = link.publish(entry.topic, entry.payload, entry.qos, retain=False)
        self._flight[mid] = _Flight(entry.topic, parcel)

    def _publish(self, link: Link, topic: str, payload: bytes) -> None:
        self.published += 1
        self._flight[link.publish(topic, payload, 1, retain=True)] = _Flight(topic, None)

    def _settle(self, link: Link) -> None:
        """Take note of acknowledgements. Below 0x80 a reason code is a success: 0x10 says that nobody listened."""
        over_quota = False
        for mid, code in link.acks:
            if code == QUOTA_EXCEEDED:
                over_quota = True
                continue
            flight = self._flight.pop(mid)
            if flight.parcel:
                self.acked.append(flight.parcel.token)
            if code < 0x80:
                self.acknowledged += 1
            else:
                self._note_refusal(flight, code)
        if link.acks and (not self._flight or len(self.acked) >= WINDOW):
            self._refill()
        link.acks.clear()
        if over_quota:
            raise TransportError("a quota of the broker is used up; it gets its messages later")

    def _note_refusal(self, flight: _Flight, code: int) -> None:
        """Count a message that the broker will not have; it is dropped, as it would be refused again."""
        self.refused[f"0x{code:02x}"] += flight.parcel.entry.items if flight.parcel else 1
        if flight.topic not in self._refused_topics:
            self._refused_topics.add(flight.topic)
            log.error(
                "%s refuses messages to %s (0x%02x); check its access list; they are dropped",
                endpoint(self._broker.url), flight.topic, code,
            )  # fmt: skip

    def _say_goodbye(self, link: Link) -> None:
        self._publish(link, self._presence.topic, self._presence.stopped)
        deadline = time.monotonic() + FAREWELL
        while self._flight and time.monotonic() < deadline:
            link.poll(0.1)
            self._settle(link)
        link.disconnect()
        self.last_disconnect = "stopped"

    def _say(self, text: str, level: int = logging.WARNING) -> None:
        """Log a line, once until a connection has been good."""
        if text not in self._said and not self._stop.is_set():
            self._said.add(text)
            log.log(level, "%s: %s", endpoint(self._broker.url), text)

"""The network thread: keeps a connection, publishes what is ready, and notes what was acknowledged."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from limpet.backoff import Backoff
from limpet.contracts.commands import REQUESTS
from limpet.contracts.dialect import Publish
from limpet.delivery.mqtt.broker_settings import endpoint, secrets_version
from limpet.delivery.mqtt.connection import WINDOW, Connection, RefusedError
from limpet.delivery.mqtt.incoming_commands import IncomingCommands
from limpet.delivery.mqtt.negotiation import Negotiation
from limpet.delivery.mqtt.publisher import Publisher
from limpet.errors import TransportError
from limpet.wakeup import Wakeup

if TYPE_CHECKING:
    from collections.abc import Callable

    from limpet.contracts.messages import Message
    from limpet.contracts.reporter import Command
    from limpet.delivery.mqtt.broker_settings import BrokerSettings
    from limpet.delivery.mqtt.dialects import Dialects
    from limpet.delivery.mqtt.negotiation import Version, Will

log = logging.getLogger(__name__)

GOOD = 10.0
"""Seconds after which a connection counts as good: the next pause is then the shortest again."""

FAREWELL = 1.0
"""Seconds to wait for the acknowledgement of the last message, ``offline``."""


SECRETS = 5.0
"""Seconds between two looks whether a certificate, a key or the password was replaced."""

MOST_SAID = 1000
"""Lines of the log that are remembered; what a broker says may vary without end."""

ENDS = 2
"""Ends of connections over a subscription after which it is left out."""

DEAF = 3600.0
"""Seconds for which a subscription over which the broker closes the connection is left out."""

ASKED_AGAIN = 5.0
"""Seconds between two answers of dialects to what comes on one topic: each may be all that they have to say."""

MOST_ASKED = 4
"""Messages to dialects on one topic that may wait for that."""

LARGEST_ASKED = 1 << 16
"""Bytes of a message to dialects."""

GARBLED = 2
"""Connections in a row that end with something unreadable, after which the broker's session is given up."""


BREAKS, BREAKS_WITHIN = 3, 600.0
"""Connections that the broker has used and then closed without a reason, and within how many seconds, after which
another client with the same id is suspected: not every broker says that."""


class Presence(NamedTuple):
    """Payloads of the topic ``status``: while connected, as last will, and after a clean stop."""

    topic: str
    online: bytes
    lost: bytes
    stopped: bytes


class Sender:
    """Owns paho. ``publisher`` is what goes out.

    The outbox's thread fills ``publisher.ready`` and empties ``publisher.acked``; ``refill`` wakes it. Each
    connection has a queue of its own: what the one before did not get acknowledged is handed over again.
    ``commands``: whether there are any, so that the broker is asked for them. ``lost`` has in words what the
    broker does not give. What is raised on the thread ends the connection, and not the thread.
    """

    def __init__(  # noqa: PLR0913 - each is a different thing
        self,
        broker: BrokerSettings,
        client_id: str,
        presence: Presence,
        told: Dialects,
        expiry: float,
        *,
        commands: bool = True,
    ) -> None:
        self.publisher = Publisher(str(endpoint(broker.url)), told, expiry)
        self.connected = False
        self.version = ""
        self.connections = 0
        self.last_disconnect = ""
        self.lost: list[str] = []
        self._broker = broker
        self._client_id = client_id
        self._presence = presence
        self._root = presence.topic.rpartition("/")[0]
        self._told = told
        self.requests = IncomingCommands(self._root.rpartition("/")[2], self._root, told.reserved, self._reply)
        self._listens = commands and not told.exclusive
        self._attempts = Negotiation(broker.protocol)
        self._deaf: dict[str, tuple[int, float]] = {}
        self._asked: dict[str, deque[bytes]] = {}
        self._answered_at: dict[str, float] = {}
        self._garbled = 0
        self._breaks: deque[float] = deque(maxlen=BREAKS)
        self._refill: Callable[[], None]
        self._news: Callable[[str], None]
        self._obey: Callable[[Command], None]
        self._backoff = Backoff(1.0, broker.reconnect_max)
        self._failures = 0
        self._said: set[str] = set()
        self._stop = threading.Event()
        self._wakeup = Wakeup()
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
        self._wakeup.wake()

    def set_state(self, topic: str, payload: bytes, message: Message) -> None:
        """Publish a retained message, now and on each new connection, until another one replaces it."""
        native = Publish(topic, payload, 1, retain=True, content_type="application/json")
        self.publisher.set_state(native, message)
        self.wake()

    def _run(self) -> None:
        with contextlib.closing(self._wakeup):
            while not self._stop.is_set():
                try:
                    self._connect_once()
                except Exception:
                    log.exception("%s: a bug ended the connection; trying again", endpoint(self._broker.url))
                self._failures += 1
                self._stop.wait(self._backoff.pause(self._failures))

    def _connect_once(self) -> None:
        """Try to connect, and use the connection until it ends."""
        try:
            link = self._connect()
        except TransportError as error:
            self._say(str(error))
            return
        began = time.monotonic()
        learned = self._serve(link)
        if time.monotonic() - began >= GOOD or learned:
            self._failures = 0

    def _connect(self) -> Connection:
        """Connect with the version and the last will that are due; at once with less where the broker says so."""
        attempts = self._attempts
        attempts.start()
        while True:
            try:
                return self._attempt(attempts.version, attempts.will)
            except RefusedError as refused:
                if not attempts.refused(refused.code):
                    raise

    def _attempt(self, version: Version, asked: Will) -> Connection:
        self._secrets = secrets_version(self._broker)
        will = self._told.will(version, self._status(self._presence.lost))
        will = will._replace(qos=min(will.qos, asked.qos), retain=will.retain and asked.retain)
        # Where there is nothing to hear, a session is good for nothing.
        clean = self._garbled >= GARBLED or not self._wanted(wildcards=True)
        if self._garbled == GARBLED:
            self._say("it keeps a message that cannot be read; its session, with commands that wait, is given up")
        link = Connection(
            self._broker, self._client_id, version, will if asked.there else None, self._wakeup.socket, clean=clean
        )
        try:
            link.connect(self._broker.keepalive, self._stop)
        except TransportError:
            self._garbled += link.end == "unreadable"
            link.drop()
            raise
        if version == "3.1.1":
            link.qos, link.retain = asked.qos if asked.there else 1, asked.retain or not asked.there
        self._attempts.accepted()
        return link

    def _serve(self, link: Connection) -> bool:
        """Use a connection until it ends or the thread is to stop; return what ``Publisher.end`` does."""
        before = self.publisher.acknowledged
        try:
            self._begin(link)
            while not self._stop.is_set() and not self._secrets_replaced():
                if self.publisher.fill(link):
                    self._refill()
                link.poll(0.0 if link.acks else 0.2 if self.publisher.is_careful else 1.0)
                self._settle(link)
                self._hear(link)
                self._answer_dialects()
                self._listen_again(link)
                self._reset_failure_log()
            self._say_goodbye(link)
        except TransportError as error:
            link.drop()
            self.last_disconnect = self._explain(str(error), link, used=self.publisher.acknowledged > before)
            self._say(str(error))
            self._hint()
            with contextlib.suppress(TransportError):
                self._settle(link)
        finally:
            self.connected = False
            link.drop()
            self._garbled = self._garbled + 1 if link.end == "unreadable" else 0
            learned = self.publisher.end(link)
        return learned

    def _explain(self, reason: str, link: Connection, *, used: bool) -> str:
        """Return why a connection ended, and what that may mean if it happens again and again."""
        now = time.monotonic()
        if used and link.end == "closed" and not link.code:
            self._breaks.append(now)
        if len(self._breaks) < BREAKS or now - self._breaks[0] > BREAKS_WITHIN:
            return reason
        return (
            f"{reason} again and again; another client may use the same client_id {self._client_id!r}: "
            "give each device its own id"
        )

    def _hint(self) -> None:
        """Log once what ends without a reason may mean. No event: while a message is suspected, none is added."""
        text = self.last_disconnect
        if "again and again" in text and text not in self._said:
            self._said.add(text)
            log.warning("%s: %s", endpoint(self._broker.url), text)

    def _begin(self, link: Connection) -> None:
        self.connections += 1
        self.version = link.version
        self._connected_at = self._secrets_at = time.monotonic()
        # After ``online``, clients can send commands.
        deaf = [topic for topic in self._wanted(wildcards=link.wildcards) if not self._subscribe(link, topic)]
        status = [] if self._told.exclusive else [self._status(self._presence.online)]
        self.publisher.begin(link, [*status, *self._told.connected()])
        self._say(f"connected with MQTT {link.version}", logging.INFO)
        self._name_losses(link, deaf)
        self.connected = True
        self._refill()

    def _wanted(self, *, wildcards: bool) -> list[str]:
        """Return the topics to subscribe to."""
        names = ["+"] if wildcards else list(REQUESTS)
        commands = [f"{self._root}/command/{name}" for name in names] if self._listens else []
        return [*commands, *self._told.subscriptions]

    def _subscribe(self, link: Connection, topic: str) -> bool:
        """Subscribe to a topic; return whether it is heard.

        A topic over which the broker has twice closed the connection is left out for an hour, then for longer.
        """
        ends, until = self._deaf.get(topic, (0, 0.0))
        if ends >= ENDS and time.monotonic() < until:
            return False
        try:
            refusals = link.subscribe([topic])
        except TransportError:
            self._deaf[topic] = ends + 1, time.monotonic() + DEAF * min(24, 1 << max(0, ends - 1))
            raise
        self._deaf.pop(topic, None)
        for refusal in refusals:
            self._say(refusal)
        return not refusals

    def _listen_again(self, link: Connection) -> None:
        """Try a subscription again that was left out for long enough."""
        now = time.monotonic()
        for topic in [topic for topic, (ends, until) in self._deaf.items() if ends >= ENDS and now >= until]:
            if self._subscribe(link, topic):
                self.lost = [what for what in self.lost if topic not in what]

    def _name_losses(self, link: Connection, deaf: list[str]) -> None:
        """Say once what the broker does not give."""
        lost = self._attempts.will.lost()
        lost += [] if link.retain else ["retained messages: state is seen only by clients that listen already"]
        lost += [] if link.qos else ["QoS 1: messages may be lost on the way to the broker"]
        lost += [f"subscription to {topic}" for topic in deaf]
        if lost and lost != self.lost:
            log.warning("%s does not give: %s", endpoint(self._broker.url), "; ".join(lost))
        self.lost = lost

    def _reset_failure_log(self) -> None:
        """After a connection has lasted, the next failure is logged again."""
        if self._said and time.monotonic() - self._connected_at >= GOOD:
            self._said.clear()

    def _settle(self, link: Connection) -> None:
        publisher = self.publisher
        if publisher.settle(link) and (not publisher.in_flight or len(publisher.acked) >= WINDOW):
            self._refill()

    def _hear(self, link: Connection) -> None:
        """Take what came on subscriptions: commands, and what dialects listen to."""
        if link.unreadable:
            link.unreadable = 0
            self.requests.ignore("unreadable", "a message whose topic is not valid UTF-8 is ignored")
        if link.missed:
            self.requests.ignore("too many", "messages come faster than they are read", link.missed)
            link.missed = 0
        for incoming in link.incoming:
            if incoming.topic in self._told.subscriptions:
                self._ask(incoming.topic, incoming.payload)
            elif not self._listens or not incoming.topic.startswith(f"{self._root}/command/"):
                self.requests.ignore("unexpected topic", f"a message on {incoming.topic[:100]!r} is ignored")
            elif request := self.requests.take(incoming):
                self._obey(request)
        link.incoming.clear()

    def _ask(self, topic: str, payload: bytes) -> None:
        """Keep a message to the dialects until it is due."""
        waiting = self._asked.setdefault(topic, deque())
        if len(payload) > LARGEST_ASKED:
            self.requests.ignore("too large", f"a message of {len(payload)} bytes on {topic!r} is ignored")
        elif len(waiting) < MOST_ASKED and payload not in waiting:
            waiting.append(payload)
        elif payload not in waiting:
            self.requests.ignore("too many", f"messages come on {topic!r} faster than they are answered")

    def _answer_dialects(self) -> None:
        """Have the dialects answer what came, so that a flood of questions is no flood of answers."""
        now = time.monotonic()
        for topic, waiting in self._asked.items():
            while waiting and now - self._answered_at.get(topic, -ASKED_AGAIN) >= ASKED_AGAIN:
                if answer := self._told.received(topic, waiting.popleft()):
                    self._answered_at[topic] = now
                    self.publisher.enqueue(answer)

    def _reply(self, publish: Publish, correlation: bytes) -> None:
        """Send an answer. From any thread."""
        self.publisher.reply(publish, correlation)
        self.wake()

    def _secrets_replaced(self) -> bool:
        """Whether a file with a secret is another than when this connection was made: it is then made anew."""
        now = time.monotonic()
        if now - self._secrets_at < SECRETS:
            return False
        self._secrets_at = now
        return secrets_version(self._broker) != self._secrets

    def _say_goodbye(self, link: Connection) -> None:
        """End a connection in order: for good, or as a secret was replaced and the next one follows."""
        stopped = [self._status(self._presence.stopped)] if self._stop.is_set() else []
        self.publisher.send_now(link, [*self._told.leaving(), *(stopped if not self._told.exclusive else [])])
        deadline = time.monotonic() + FAREWELL
        while self.publisher.in_flight and time.monotonic() < deadline:
            link.poll(0.1)
            self.publisher.settle(link)
        link.disconnect()
        self.last_disconnect = "stopped" if stopped else "a secret was replaced"
        if not stopped:
            log.info("%s: a secret was replaced; connecting anew", endpoint(self._broker.url))

    def _status(self, payload: bytes) -> Publish:
        return Publish(self._presence.topic, payload, 1, retain=True, content_type="application/json")

    def _say(self, text: str, level: int = logging.WARNING) -> None:
        """Log a line, once until a connection has been good."""
        if len(self._said) >= MOST_SAID:
            self._said.clear()
        if text not in self._said and not self._stop.is_set():
            self._said.add(text)
            log.log(level, "%s: %s", endpoint(self._broker.url), text)
            if level >= logging.WARNING:
                self._news(text)

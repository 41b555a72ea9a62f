"""The network thread: carries out the instructions of ``connection_machine`` on a connection to the broker."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from limpet.contracts.commands import LABEL
from limpet.contracts.dialect import Publish
from limpet.delivery.mqtt.broker_settings import SecretsWatch, endpoint
from limpet.delivery.mqtt.connection import WINDOW, Connection, RefusedError
from limpet.delivery.mqtt.connection_machine import ConnectionMachine
from limpet.delivery.mqtt.connection_state import (
    Accepted,
    Begin,
    Connect,
    Crashed,
    Due,
    Exchange,
    Failed,
    Leave,
    Left,
    LogLine,
    Lost,
    PauseOver,
    Refused,
    SecretReplaced,
    StopRequested,
    Subscribe,
    Subscribed,
    Unsubscribe,
    Wait,
)
from limpet.delivery.mqtt.dialect_requests import DialectRequests
from limpet.delivery.mqtt.incoming_commands import IncomingCommands
from limpet.delivery.mqtt.incoming_models import IncomingModels
from limpet.delivery.mqtt.model_exchange import ModelExchange
from limpet.delivery.mqtt.publisher import Publisher
from limpet.delivery.mqtt.subscriptions import Subscriptions
from limpet.errors import TransportError
from limpet.wakeup import Wakeup

if TYPE_CHECKING:
    from collections.abc import Callable

    from limpet.contracts.deliveries import Deliveries
    from limpet.contracts.messages import Message, SnapshotMessage
    from limpet.contracts.reporter import Command
    from limpet.delivery.mqtt.broker_settings import BrokerSettings
    from limpet.delivery.mqtt.connection_state import Instruction, Stimulus
    from limpet.delivery.mqtt.dialects import Dialects

log = logging.getLogger(__name__)

FAREWELL = 1.0
"""Seconds to wait for the acknowledgement of the last message, ``offline``."""

POLL, CAREFUL_POLL = 1.0, 0.2
"""Seconds that one wait for the broker lasts at most, and while messages go out one at a time."""


class Presence(NamedTuple):
    """Payloads of the topic ``status``: while connected, as last will, and after a clean stop."""

    topic: str
    online: bytes
    lost: bytes
    stopped: bytes


class Sender:
    """Owns the connection. ``publisher`` is what goes out on it.

    The outbox's thread fills ``publisher.ready`` and empties ``publisher.acked``. Each connection has its own
    queue: messages that were not acknowledged on the one before are handed over again. ``commands``: whether any
    command is allowed, so that the sender subscribes to them. ``models``: name of the reporter, and where what
    comes about models is delivered. An exception on the thread ends the connection, and not the thread.
    """

    def __init__(  # noqa: PLR0913 - each is a different thing
        self,
        broker: BrokerSettings,
        client_id: str,
        presence: Presence,
        dialects: Dialects,
        expiry: float,
        *,
        commands: bool = True,
        models: tuple[str, Deliveries] | None = None,
    ) -> None:
        self._name = str(endpoint(broker.url))
        self.publisher = Publisher(self._name, dialects, expiry)
        self.connected = False
        self.version = ""
        self._broker = broker
        self._client_id = client_id
        self._presence = presence
        self._root = presence.topic.rpartition("/")[0]
        self._dialects = dialects
        self.requests = IncomingCommands(self._root.rpartition("/")[2], self._root, dialects.reserved, self._reply)
        self._takes_commands = commands and not dialects.exclusive
        self._dialect_requests = DialectRequests(self.requests.ignore)
        self._subscriptions = Subscriptions(self._root, dialects.subscriptions, commands=self._takes_commands)
        self._machine = ConnectionMachine(client_id, broker.protocol, broker.reconnect_max, self._subscriptions)
        takes = models and not dialects.exclusive
        incoming = IncomingModels(self._root, *models, self.requests.ignore) if models and takes else None
        self._models = ModelExchange(self._name, incoming, self._subscriptions)
        self._connection: Connection | None = None
        self._secrets: SecretsWatch
        self._acknowledged_before = 0
        self._refill: Callable[[], None]
        self._report: Callable[[str], None]
        self._obey: Callable[[Command], None]
        self._stop = threading.Event()
        self._wakeup = Wakeup()
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)

    # --- from any thread

    def start(
        self, refill: Callable[[], None], report: Callable[[str], None], obey: Callable[[Command], None]
    ) -> None:
        """Start the thread.

        It calls ``refill`` when few messages are ready or some have been acknowledged. It calls ``report`` with
        the reason if the broker cannot be reached, and ``obey`` with each command.
        """
        self._refill, self._report, self._obey = refill, report, obey
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Leave the broker and end the thread; give up waiting after ``timeout`` seconds."""
        self._stop.set()
        self.wake()
        self._thread.join(timeout)

    def wake(self) -> None:
        """Have the thread look at what is ready."""
        self._wakeup.wake()

    def set_state(self, topic: str, payload: bytes, message: Message) -> None:
        """Publish a retained message, now and on each new connection, until another one replaces it."""
        native = Publish(topic, payload, 1, retain=True, content_type="application/json")
        self.publisher.set_state(native, message)
        self.wake()

    def set_picture(self, topic: str, message: SnapshotMessage) -> None:
        """Publish a picture as ``set_state`` does. An empty one clears what the broker retains."""
        about = (("time", message.time.isoformat()), ("sample", str(message.sample))) if message.jpeg else ()
        kind = "image/jpeg" if message.jpeg else ""
        native = Publish(topic, message.jpeg, 1, retain=True, content_type=kind, user_properties=about)
        self.publisher.set_state(native, message)
        self.wake()

    @property
    def connections(self) -> int:
        """How many connections there have been."""
        return self._machine.connections

    @property
    def last_disconnect(self) -> str:
        """Why the last connection ended, empty if none has."""
        return self._machine.last_disconnect

    @property
    def missing(self) -> list[str]:
        """What the broker does not give, in words."""
        return list(self._machine.missing)

    def _reply(self, publish: Publish, correlation: bytes) -> None:
        """Send an answer."""
        self.publisher.reply(publish, correlation)
        self.wake()

    # --- on the thread

    def _run(self) -> None:
        with contextlib.closing(self._wakeup), self._models.watching(self.wake):
            stimulus: Stimulus | None = StopRequested() if self._stop.is_set() else PauseOver()
            while stimulus is not None:
                try:
                    stimulus = self._carry_out(self._machine.handle(stimulus, time.monotonic()))
                except Exception:
                    log.exception("%s: a bug ended the connection; trying again", self._name)
                    stimulus = self._crashed()

    def _carry_out(self, instructions: list[Instruction]) -> Stimulus | None:
        """Carry instructions out; return the outcome of the last, ``None`` after the last of all."""
        outcome = None
        try:
            for instruction in instructions:
                outcome = self._do(instruction)
        except TransportError as error:
            return self._lost(self._open, str(error))
        return outcome

    def _do(self, instruction: Instruction) -> Stimulus | None:  # noqa: PLR0911 - one for each
        match instruction:
            case LogLine():
                self._log(instruction)
                return None
            case Begin():
                self._begin(self._open)
                return None
            case Wait(seconds):
                return StopRequested() if self._stop.wait(seconds) else PauseOver()
            case Connect():
                return self._connect(instruction)
            case Subscribe(topic, qos):
                refusals = self._open.subscribe([topic], qos)
                return Subscribed(topic, "; ".join(refusals))
            case Unsubscribe(topics):
                self._open.unsubscribe(topics)
                return None
            case Exchange(until):
                return self._exchange(self._open, until)
            case Leave(stopped):
                return self._leave(self._open, stopped=stopped)

    @property
    def _open(self) -> Connection:
        assert self._connection
        return self._connection

    def _connect(self, how: Connect) -> Stimulus:
        will = self._dialects.will(how.version, self._status(self._presence.lost))
        will = will._replace(qos=min(will.qos, how.will.qos), retain=will.retain and how.will.retain)
        self._secrets = SecretsWatch(self._broker, time.monotonic())
        connection: Connection | None = None
        try:
            connection = Connection(
                self._broker,
                self._client_id,
                how.version,
                will if how.will.present else None,
                self._wakeup.socket,
                clean=how.clean,
            )
            connection.connect(self._broker.keepalive, self._stop)
        except TransportError as error:
            end = connection.end if connection else ""
            if connection:
                connection.drop()
            if isinstance(error, RefusedError):
                return Refused(str(error), error.code, end)
            return Failed(str(error), end)
        if how.version == "3.1.1" and how.will.present:
            # Such a broker does not announce what it takes. It takes of a message what it took of the will.
            connection.qos, connection.retain = how.will.qos, how.will.retain
        connection.retain = connection.retain and self.publisher.takes_retained
        self._connection, self.version = connection, how.version
        self._acknowledged_before = self.publisher.acknowledged
        self._models.connected(connection)
        return Accepted(how.version, connection.retain, connection.wildcards, connection.qos)

    def _begin(self, connection: Connection) -> None:
        status = [] if self._dialects.exclusive else [self._status(self._presence.online)]
        self.publisher.begin(connection, [*status, *self._dialects.connected()])
        self.connected = True
        self._refill()

    def _exchange(self, connection: Connection, until: float) -> Stimulus:
        """Publish and receive until the connection is to end, or until a time."""
        while True:
            now = time.monotonic()
            if self._stop.is_set():
                return StopRequested()
            if self._secrets.replaced(now):
                return SecretReplaced()
            if now >= until or self._models.tend(connection, now):
                return Due()
            self.publisher.enqueue(self._models.questions(self._machine.is_subscribed, now))
            if self.publisher.fill(connection):
                self._refill()
            timeout = CAREFUL_POLL if self.publisher.is_careful else min(POLL, until - now)
            connection.poll(0.0 if connection.acks else timeout)
            self._settle(connection)
            self._receive(connection)

    def _leave(self, connection: Connection, *, stopped: bool) -> Stimulus:
        """Send the last messages, wait a moment for their acknowledgements, and close the connection."""
        offline = [self._status(self._presence.stopped)] if stopped and not self._dialects.exclusive else []
        self.publisher.send_now(connection, [*self._dialects.leaving(), *offline])
        deadline = time.monotonic() + FAREWELL
        while self.publisher.in_flight and time.monotonic() < deadline:
            connection.poll(0.1)
            self.publisher.settle(connection)
        connection.disconnect()
        self._end(connection)
        return Left()

    def _crashed(self) -> Stimulus:
        if self._connection:
            self._end(self._connection)
        return Crashed()

    def _lost(self, connection: Connection, reason: str) -> Stimulus:
        """Take in what came before the connection ended, and clear up after it."""
        connection.drop()
        with contextlib.suppress(TransportError):
            self._settle(connection)
        used = self.publisher.acknowledged > self._acknowledged_before
        return Lost(reason, connection.end, connection.code, used, self._end(connection))

    def _end(self, connection: Connection) -> bool:
        """Give a connection up; return whether its end says more about a suspected message."""
        self.connected, self._connection = False, None
        connection.drop()
        return self.publisher.end(connection)

    def _settle(self, connection: Connection) -> None:
        publisher = self.publisher
        if publisher.settle(connection) and (not publisher.in_flight or len(publisher.acked) >= WINDOW):
            self._refill()

    def _receive(self, connection: Connection) -> None:
        """Take what came on subscriptions: commands, and messages to dialects."""
        if connection.unreadable:
            connection.unreadable = 0
            self.requests.ignore("unreadable", "a message whose topic is not valid UTF-8 is ignored")
        if connection.missed:
            self.requests.ignore("too many", "messages come faster than they are read", connection.missed)
            connection.missed = 0
        if connection.missed_bulk:
            self.requests.ignore(
                "chunks too fast", "chunks come faster than they are read", connection.missed_bulk
            )
            connection.missed_bulk = 0
        for incoming in connection.incoming:
            if incoming.topic in self._dialects.subscriptions:
                self._dialect_requests.add(incoming.topic, incoming.payload)
            elif incoming.topic == f"{self._root}/command/{LABEL}":
                continue  # `limpet record` answers it
            elif self._models.take(incoming, time.monotonic()):
                continue
            elif not self._takes_commands or not incoming.topic.startswith(f"{self._root}/command/"):
                self.requests.ignore("unexpected topic", f"a message on {incoming.topic[:100]!r} is ignored")
            elif request := self.requests.take(incoming):
                self._obey(request)
        connection.incoming.clear()
        self._answer_dialects()

    def _answer_dialects(self) -> None:
        now = time.monotonic()
        while request := self._dialect_requests.next(now):
            topic, payload = request
            if answer := self._dialects.received(topic, payload):
                self._dialect_requests.answered(topic, now)
                self.publisher.enqueue(answer)

    def _status(self, payload: bytes) -> Publish:
        return Publish(self._presence.topic, payload, 1, retain=True, content_type="application/json")

    def _log(self, line: LogLine) -> None:
        if self._stop.is_set():
            return
        log.log(line.level, "%s: %s", self._name, line.text)
        if line.event:
            self._report(line.text)

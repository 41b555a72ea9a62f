"""One connection to a broker. A new one is made for each attempt, so that paho never holds its own queue."""

from __future__ import annotations

import select
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from paho.mqtt.enums import CallbackAPIVersion, LogLevel, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes

from limpet.delivery.mqtt import packet_limits, reasons, topics
from limpet.delivery.mqtt.broker_settings import BrokerSettings, endpoint, password, tls_context
from limpet.delivery.mqtt.guarded_client import GuardedClient
from limpet.delivery.mqtt.publish_packets import MOST_ALIASES, PublishHeads, new_properties, packet_size
from limpet.errors import LimpetError, TransportError, UnreadableError
from limpet.untrusted import reading

if TYPE_CHECKING:
    import socket
    import threading
    from collections.abc import Sequence

    from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode

    from limpet.contracts.dialect import Publish
    from limpet.delivery.mqtt.connection_state import End
    from limpet.delivery.mqtt.negotiation import MqttVersion

CONNECT_TIMEOUT = 10.0
WINDOW = 20
LARGEST = 256 * 1024 * 1024
KEEP_ALIVE_TIMEOUT = 0x8D
QUOTA_EXCEEDED = 0x97
PROTOCOL_ERROR = 0x82

MOST_INCOMING, LARGEST_INCOMING = 100, 1 << 22
"""Messages that may wait for the owner, and their bytes. A broker may send them before it answers a subscription.
"""

MOST_BULK, LARGEST_BULK = 16, 1 << 21
"""Chunks among them: they leave room for commands."""

UNANSWERED = 1000
"""Packets that are read from a broker that reads none of ours."""


class Incoming(NamedTuple):
    """A message on one of our subscriptions. The last two are empty if the sender gave none, as in 3.1.1."""

    topic: str
    payload: bytes
    retained: bool
    response_topic: str
    correlation: bytes


class RefusedError(TransportError):
    """The broker refused the connection with an MQTT 5 reason code; 0: it closed it without an answer."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


class UnpublishableError(LimpetError):
    """A message cannot be sent on this connection. It is counted under ``cause``."""

    def __init__(self, cause: str, text: str) -> None:
        super().__init__(text)
        self.cause = cause


class Connection:
    """A connection. All of its methods belong to the thread that made it.

    ``acks`` holds what the broker has acknowledged, as (message id, reason code), ``incoming`` what came on
    subscriptions; the owner empties both. ``unreadable`` counts messages whose topic or properties are damaged,
    ``missed`` those that came faster than the owner takes them. Messages on topics that begin with ``bulk`` leave
    room for others, and are counted in ``missed_bulk``.
    ``window`` is how many unacknowledged messages the broker takes, ``limit`` how many bytes a packet may have,
    ``qos`` the highest quality of service. ``retain`` and ``wildcards`` say whether the broker takes retained
    messages and subscriptions with wildcards. ``clean``: begin without the session that the broker has kept.
    """

    def __init__(  # noqa: PLR0913 - what a CONNECT has
        self,
        broker: BrokerSettings,
        client_id: str,
        version: MqttVersion,
        will: Publish | None,
        wake: socket.socket,
        *,
        clean: bool = False,
    ) -> None:
        self.acks: list[tuple[int, int]] = []
        self.incoming: list[Incoming] = []
        self.unreadable = 0
        self.missed = 0
        self.bulk = ""
        self.missed_bulk = 0
        self.window = WINDOW
        self.limit = LARGEST
        self.qos = 1
        self.retain = True
        self.wildcards = True
        self.end: End = ""
        self.code = 0
        self.version = version
        self._endpoint = endpoint(broker.url)
        self._wake = wake
        self._ending = ""
        self._trouble = ""
        self._answer: tuple[int, str] | None = None
        self._session_expiry = broker.session_expiry
        self._clean = clean or not broker.session_expiry
        self._unanswered = 0
        self._subscribed: dict[int, list[ReasonCode]] = {}
        self._heads = PublishHeads(version)
        self._client = self._make_client(broker, client_id, will)

    def _make_client(self, broker: BrokerSettings, client_id: str, will: Publish | None) -> GuardedClient:
        client = GuardedClient(
            self.version,
            CallbackAPIVersion.VERSION2,
            client_id,
            clean_session=None if self.version == "5" else self._clean,
            protocol=MQTTProtocolVersion.MQTTv5 if self.version == "5" else MQTTProtocolVersion.MQTTv311,
            transport="websockets" if self._endpoint.path else "tcp",
            reconnect_on_failure=False,
        )
        client.connect_timeout = CONNECT_TIMEOUT
        client.max_inflight_messages = 0  # the owner keeps to the window
        if will:
            client.will_set(will.topic, will.payload, will.qos, will.retain)
        if self._endpoint.path:
            client.ws_set_options(self._endpoint.path)
        if self._endpoint.tls:
            client.tls_set_context(tls_context(broker))
        if broker.username:
            client.username_pw_set(broker.username, password(broker))
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        # paho says nowhere else what went wrong with a socket.
        client.on_log = self._on_log
        return client

    def connect(self, keepalive: int, stop: threading.Event) -> None:
        """Connect, and wait for the broker's answer. ``TransportError``, of which ``RefusedError`` is one.

        It gives up when ``stop`` is set.
        """
        try:
            # paho raises what sockets, ssl and its own websocket code raise, ValueError among it.
            self._client.connect(self._endpoint.host, self._endpoint.port, keepalive, **self._session())
        except Exception as error:
            self._client.on_disconnect = None
            raise TransportError(reasons.failure(error, self._endpoint)) from error
        deadline = time.monotonic() + CONNECT_TIMEOUT
        while self._answer is None:
            if stop.is_set():
                raise TransportError("stopped while connecting")
            if time.monotonic() > deadline:
                raise TransportError("it accepts the connection and says nothing; is this an MQTT port?")
            self._poll_until_answer()
        self._client.on_log = None
        code, name = self._answer
        if code:
            raise RefusedError(reasons.refusal(code, name), code)

    def _poll_until_answer(self) -> None:
        try:
            self.poll(0.25)
        except TransportError as error:
            if self._answer is None:
                raise RefusedError(reasons.silence(self._trouble), 0) from error

    def _session(self) -> dict[str, Any]:
        """Return how to connect so that the broker keeps the session."""
        if self.version != "5":
            return {}
        properties = new_properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = self._session_expiry
        properties.MaximumPacketSize = packet_limits.LARGEST
        return {"clean_start": self._clean, "properties": properties}

    def subscribe(self, wanted: Sequence[str], qos: int = 1) -> list[str]:
        """Subscribe, and wait for the broker's answer; return its refusals. ``TransportError``."""
        _, mid = self._client.subscribe([(topic, qos) for topic in wanted])
        if mid is None:
            raise TransportError("the connection is closed")
        deadline = time.monotonic() + CONNECT_TIMEOUT
        while mid not in self._subscribed:
            if time.monotonic() > deadline:
                raise TransportError("it does not answer a subscription")
            self.poll(0.25)
        answers = [(reason.value, reason.getName()) for reason in self._subscribed.pop(mid)]
        answers += [(PROTOCOL_ERROR, "no answer")] * (len(wanted) - len(answers))
        return [
            f"it refuses our subscription to {topic} ({name}); check its access list"
            for topic, (code, name) in zip(wanted, answers, strict=False)
            if code >= 0x80
        ]

    def unsubscribe(self, topics: Sequence[str]) -> None:
        """Give subscriptions up, without waiting for the broker's answer."""
        self._client.unsubscribe(list(topics))

    def publish(self, message: Publish, expiry: float | None = None, correlation: bytes = b"") -> int:
        """Send a message; return its id, which ``acks`` will name. The caller keeps to ``window``.

        In MQTT 5 the broker drops it after ``expiry`` seconds undelivered. Its retained flag and QoS are lowered
        to what the broker takes. ``UnpublishableError`` if it cannot be sent at all.
        """
        if why := topics.problem(message.topic):
            raise UnpublishableError("topic", why)
        qos, retain = min(message.qos, self.qos), message.retain and self.retain
        try:
            head = self._heads.head(message, expiry, correlation)
            size = packet_size(head.topic, message.payload, qos, head.properties)
        except Exception as error:
            raise UnpublishableError("not encodable", f"{type(error).__name__}: {error}") from error
        if size > self.limit:
            raise UnpublishableError("too large", f"{size} bytes; the broker takes {self.limit}")
        properties: Any = head.properties  # paho calls ``pack`` of them, and nothing else
        try:
            info = self._client.publish(head.topic, message.payload, qos, retain, properties)
        except Exception as error:
            raise UnpublishableError("not encodable", f"{type(error).__name__}: {error}") from error
        if info.rc == MQTTErrorCode.MQTT_ERR_QUEUE_SIZE:
            raise TransportError("it leaves a message unacknowledged though it has acknowledged later ones")
        self._heads.aliases.sent(info.mid, head)
        return info.mid

    def poll(self, timeout: float) -> None:
        """Wait for the broker, for the owner's wake-up or for ``timeout`` seconds, and do what is to be done.

        ``TransportError`` when the connection has ended.
        """
        if (sock := self._client.socket()) is None:
            raise TransportError(self._ending or "the connection is closed")
        timeout = min(timeout, self._client.keepalive / 4 or timeout)
        # Any: paho's sockets have ``pending`` where bytes can wait above the file descriptor (TLS).
        pending = getattr(sock, "pending", int)()
        poller = select.poll()
        poller.register(sock.fileno(), select.POLLIN | (select.POLLOUT if self._client.want_write() else 0))
        poller.register(self._wake.fileno(), select.POLLIN)
        events = dict(poller.poll(0 if pending else timeout * 1000))
        if self._wake.fileno() in events:
            self._wake.recv(4096)
        ready = events.get(sock.fileno(), 0)
        self._work(read=bool(pending or ready & ~select.POLLOUT), write=bool(ready & select.POLLOUT))
        if self._client.socket() is None:
            raise TransportError(self._ending or "the connection is closed")

    def _work(self, *, read: bool, write: bool) -> None:
        try:
            # Our callbacks only note what happened, so what is raised here comes from paho on foreign bytes.
            with reading("what it sends"):
                if read:
                    self._client.loop_read()
                if write:
                    self._client.loop_write()
                self._client.loop_misc()
        except UnreadableError as error:
            self.end = "unreadable"
            self.drop()
            raise TransportError(f"it sends what is not MQTT: {error}") from error
        self._unanswered = self._unanswered + 1 if read and self._client.want_write() else 0
        if self._unanswered > UNANSWERED:
            self.end = "silent"
            self.drop()
            raise TransportError("it sends, and reads nothing of what it is sent")

    def disconnect(self) -> None:
        """Close the connection in order, so that the broker does not publish the will."""
        self._client.on_disconnect = None
        self._client.disconnect()
        self.drop()

    def drop(self) -> None:
        """Close the socket if it is open, without a DISCONNECT."""
        self._client.on_disconnect = None
        if (sock := self._client.socket()) is not None:
            sock.close()

    def _on_connect(
        self, _client: Client, _data: Any, _flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if self._answer:
            return  # a second answer has no meaning
        self._answer = (reason.value, reason.getName())
        self.window = min(WINDOW, getattr(properties, "ReceiveMaximum", WINDOW))
        self.limit = getattr(properties, "MaximumPacketSize", LARGEST)
        self.qos = getattr(properties, "MaximumQoS", 1)
        self.retain = bool(getattr(properties, "RetainAvailable", True))
        self.wildcards = bool(getattr(properties, "WildcardSubscriptionAvailable", True))
        self._heads.aliases.limit = min(MOST_ALIASES, getattr(properties, "TopicAliasMaximum", 0))

    def _on_disconnect(
        self,
        _client: Client,
        _data: Any,
        flags: DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self.end = "closed"
        if self._client.complaint:
            self.end = "unreadable"
            self._ending = f"it sends what is not accepted here: {self._client.complaint}"
        elif flags.is_disconnect_packet_from_server:
            self.code = reason.value
            self._ending = reasons.refusal(reason.value, reason.getName())
        elif reason.value == KEEP_ALIVE_TIMEOUT:
            self.end = "silent"
            self._ending = "the broker stopped answering"
        elif reason.value == PROTOCOL_ERROR and not (self._answer and self._answer[0]):
            self.end = "unreadable"
            self._ending = "it sends what is not MQTT"
        else:
            self._ending = "the connection broke"

    def _on_subscribe(
        self, _client: Client, _data: Any, mid: int, reasons: list[ReasonCode], _properties: Properties | None
    ) -> None:
        self._subscribed[mid] = reasons

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        properties = message.properties
        try:
            with reading("a message"):
                incoming = Incoming(
                    message.topic,
                    bytes(message.payload),
                    message.retain,
                    getattr(properties, "ResponseTopic", ""),
                    getattr(properties, "CorrelationData", b""),
                )
        except UnreadableError:
            self.unreadable += 1
        else:
            self._keep(incoming)

    def _keep(self, incoming: Incoming) -> None:
        """Keep a message for the owner if there is room."""
        size = len(incoming.payload)
        if self.bulk and incoming.topic.startswith(self.bulk):
            waiting = [len(one.payload) for one in self.incoming if one.topic.startswith(self.bulk)]
            if len(waiting) >= MOST_BULK or sum(waiting) + size > LARGEST_BULK:
                self.missed_bulk += 1
                return
        if (
            len(self.incoming) >= MOST_INCOMING
            or sum(len(one.payload) for one in self.incoming) + size > LARGEST_INCOMING
        ):
            self.missed += 1
            return
        self.incoming.append(incoming)

    def _on_log(self, _client: Client, _data: Any, level: int, text: str) -> None:
        if level == LogLevel.MQTT_LOG_ERR:
            self._trouble = text

    def _on_publish(
        self, _client: Client, _data: Any, mid: int, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        self.acks.append((mid, reason.value))
        self._heads.aliases.acknowledged(mid, reason.value)

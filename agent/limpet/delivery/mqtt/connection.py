"""One connection to a broker. A new one is made for each attempt, so that paho never holds a queue of its own."""

from __future__ import annotations

import select
import time
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from paho.mqtt.client import Client, MQTTv5, _WebsocketWrapper
from paho.mqtt.enums import CallbackAPIVersion, LogLevel, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from limpet.delivery.mqtt import packet_limits, reasons, topics
from limpet.delivery.mqtt.broker_settings import BrokerSettings, endpoint, password, tls_context
from limpet.errors import LimpetError, TransportError, UnreadableError
from limpet.untrusted import reading

if TYPE_CHECKING:
    import socket
    import threading
    from collections.abc import Iterable, Sequence

    from paho.mqtt.client import ConnectFlags, DisconnectFlags, MQTTMessage

    from limpet.contracts.dialect import Publish

CONNECT_TIMEOUT = 10.0
WINDOW = 20
LARGEST = 256 * 1024 * 1024
UNSUPPORTED_VERSION = 0x84
KEEP_ALIVE_TIMEOUT = 0x8D
QUOTA_EXCEEDED = 0x97
PROTOCOL_ERROR = 0x82

MOST_INCOMING, LARGEST_INCOMING = 100, 1 << 22
"""Messages that may wait for the owner, and their bytes. A broker may send them before it answers a subscription.
"""

MOST_ALIASES = 256
"""Topics that are sent as numbers."""

LARGEST_ANSWER, LONGEST_ANSWER = 1 << 14, 10.0
"""Bytes of the answer to a websocket's request, and the seconds that it may take."""

LARGEST_FRAME = 2 * packet_limits.LARGEST
"""Bytes of a websocket frame, which paho keeps until it is complete."""

UNANSWERED = 1000
"""Packets that are taken from a broker that takes none from us."""

_CODE_AT = {PacketTypes.CONNACK: 1, PacketTypes.PUBACK: 2, PacketTypes.DISCONNECT: 0}
"""Where the reason code is in a packet of MQTT 5."""

End: TypeAlias = Literal["", "closed", "unreadable", "silent", "unacknowledged"]
"""How a connection ended: the broker closed it, sent what could not be read, stopped answering, or answered
everything but one message."""


class Incoming(NamedTuple):
    """A message on one of our subscriptions. The last two are empty where the sender gave none, as in 3.1.1."""

    topic: str
    payload: bytes
    retained: bool
    response_topic: str
    correlation: bytes


class RefusedError(TransportError):
    """The broker answered, and said no with an MQTT 5 reason code; 0 where it hung up without a word."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


class UnpublishableError(LimpetError):
    """A message cannot be sent on this connection. ``cause`` is what it is counted by."""

    def __init__(self, cause: str, text: str) -> None:
        super().__init__(text)
        self.cause = cause


class GuardedClient(Client):
    """A paho client that takes nothing beyond the limits of ``frames``.

    paho has no setting for that. All bytes that it receives come through this method, TLS and websockets included.
    """

    def __init__(self, version: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.complaint = ""
        self._frames = packet_limits.PacketLimits(version)

    def _sock_recv(self, bufsize: int) -> bytes:
        size = min(bufsize, packet_limits.LARGEST)
        # Without TLS: what paho does about its exceptions would import ssl.
        data = super()._sock_recv(size) if self._ssl or self._sock is None else self._sock.recv(size)
        try:
            self._frames.feed(data)
        except UnreadableError as error:
            self.complaint = str(error)
            raise ConnectionError(self.complaint) from error
        return data

    def _sock_send(self, buf: bytes | bytearray) -> int:
        if self._ssl or self._sock is None:
            return super()._sock_send(buf)
        try:
            return self._sock.send(buf)
        except BlockingIOError:
            self._call_socket_register_write()
            raise

    def _packet_handle(self) -> MQTTErrorCode:
        """Handle a packet. A reason code that paho does not know becomes the unspecified one."""
        self._generalise(self._in_packet["command"] & 0xF0, self._in_packet["packet"])
        return super()._packet_handle()

    def _generalise(self, kind: int, packet: bytearray) -> None:
        codes: Iterable[int] = ()
        if kind == PacketTypes.SUBACK << 4:
            codes = range(
                packet_limits.after_properties(packet, 2) if self._protocol == MQTTv5 else 2, len(packet)
            )
        elif self._protocol == MQTTv5 and kind >> 4 in _CODE_AT:
            codes = range(_CODE_AT[kind >> 4], min(_CODE_AT[kind >> 4] + 1, len(packet)))
        for at in codes:
            try:
                ReasonCode(kind >> 4, identifier=packet[at])
            except (KeyError, ValueError):
                packet[at] = 0x80

    def _create_socket(self) -> Any:
        if self._transport != "websockets":
            return super()._create_socket()
        connection = self._create_socket_connection()
        sock = self._ssl_wrap_socket(connection) if self._ssl else connection
        sock.settimeout(self._connect_timeout)
        try:
            return GuardedWebsocket(
                sock, self._host, self._port, self._ssl, self._websocket_path, self._websocket_extra_headers
            )
        except BaseException:
            sock.close()
            raise


class GuardedWebsocket(_WebsocketWrapper):
    """A websocket of paho's with limits: paho keeps each line of a header and each frame until it is complete."""

    def _do_handshake(self, extra_headers: Any) -> None:
        sock: Any = self._socket
        limited: Any = _Handshake(sock)
        self._socket = limited
        try:
            super()._do_handshake(extra_headers)
        finally:
            self._socket = sock

    def _buffered_read(self, length: int) -> bytearray:
        if self._readbuffer_head + length > LARGEST_FRAME:
            raise ConnectionAbortedError(f"a websocket frame of more than {LARGEST_FRAME} bytes")
        return super()._buffered_read(length)


class _Handshake:
    """Stands in for a socket while a broker answers a websocket's request."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._left = LARGEST_ANSWER
        self._until = time.monotonic() + LONGEST_ANSWER
        self.send = sock.send

    def recv(self, size: int) -> bytes:
        """Return received bytes. ``ConnectionAbortedError`` beyond the limits."""
        self._left -= size
        if self._left < 0 or time.monotonic() > self._until:
            raise ConnectionAbortedError("the answer to a websocket's request has no end")
        return self._sock.recv(size)


class Connection:
    """A connection. All of its methods belong to the thread that made it.

    ``acks`` holds what the broker has acknowledged, as (message id, reason code), ``incoming`` what came on
    subscriptions; the owner empties both. ``unreadable`` counts messages whose topic or properties are damaged,
    ``missed`` those that came faster than the owner takes them.
    ``window`` is how many unacknowledged messages the broker takes, ``limit`` how many bytes a packet may have,
    ``qos`` the highest quality of service; ``retain`` and ``wildcards`` say whether it takes retained messages
    and subscriptions with wildcards. ``clean``: begin without the session that the broker has kept.
    """

    def __init__(  # noqa: PLR0913 - what a CONNECT has
        self,
        broker: BrokerSettings,
        client_id: str,
        version: str,
        will: Publish | None,
        wake: socket.socket,
        *,
        clean: bool = False,
    ) -> None:
        self.acks: list[tuple[int, int]] = []
        self.incoming: list[Incoming] = []
        self.unreadable = 0
        self.missed = 0
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
        self._aliases: dict[str, int] = {}
        self._introduced: dict[int, str] = {}
        self._established: set[str] = set()
        self._alias_limit = 0
        self._usual: dict[tuple[str, int | None, int], _Packed] = {}
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
                raise TransportError("it takes the connection and says nothing; is this an MQTT port?")
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
        properties = _properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = self._session_expiry
        properties.MaximumPacketSize = packet_limits.LARGEST
        return {"clean_start": self._clean, "properties": properties}

    def subscribe(self, wanted: Sequence[str]) -> list[str]:
        """Subscribe with QoS 1, and wait for the broker's answer; return its refusals. ``TransportError``."""
        _, mid = self._client.subscribe([(topic, 1) for topic in wanted])
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

    def publish(self, message: Publish, expiry: float | None = None, correlation: bytes = b"") -> int:
        """Send a message; return its id, which ``acks`` will name. The caller keeps to ``window``.

        In MQTT 5 with all that it says of itself, and the broker drops it after ``expiry`` seconds undelivered.
        What the broker does not take, a retained message or QoS 1, is left out. ``UnpublishableError`` if it
        cannot be sent at all.
        """
        if why := topics.problem(message.topic):
            raise UnpublishableError("topic", why)
        qos, retain = min(message.qos, self.qos), message.retain and self.retain
        try:
            topic, alias, properties = self._head(message, expiry, correlation)
            size = packet_size(topic, message.payload, qos, properties)
        except Exception as error:
            raise UnpublishableError("not encodable", f"{type(error).__name__}: {error}") from error
        if size > self.limit:
            raise UnpublishableError("too large", f"{size} bytes; the broker takes {self.limit}")
        try:
            info = self._client.publish(topic, message.payload, qos, retain, properties)
        except Exception as error:
            raise UnpublishableError("not encodable", f"{type(error).__name__}: {error}") from error
        if info.rc == MQTTErrorCode.MQTT_ERR_QUEUE_SIZE:
            raise TransportError("it leaves a message unacknowledged though it has acknowledged later ones")
        if topic and alias:
            self._introduced[info.mid] = topic
        return info.mid

    def _head(self, message: Publish, expiry: float | None, correlation: bytes) -> tuple[str, int, Any]:
        """Return the topic to write, its alias, and the properties. Any: paho asks them for ``pack`` only."""
        if self.version != "5":
            return message.topic, 0, None
        # Replies go to topics that clients choose: those would use the numbers up.
        topic, alias = self._alias(message.topic) if expiry or message.retain else (message.topic, 0)
        seconds = None if expiry is None else max(1, min(int(expiry), 0xFFFF_FFFF))
        return topic, alias, self._publish_properties(message, seconds, correlation, alias)

    def _publish_properties(self, message: Publish, expiry: int | None, correlation: bytes, alias: int) -> _Packed:
        """Return what goes with a message, made anew only where it must be, as that takes paho long."""
        key = (message.content_type, expiry, alias)
        changing = message.user_properties or message.response_topic or correlation
        if changing or key not in self._usual:
            properties = _properties(PacketTypes.PUBLISH)
            if message.content_type:
                properties.ContentType = message.content_type
            if message.user_properties:
                properties.UserProperty = list(message.user_properties)
            if expiry is not None:
                properties.MessageExpiryInterval = expiry
            if message.response_topic:
                properties.ResponseTopic = message.response_topic
            if correlation:
                properties.CorrelationData = correlation
            if alias:
                properties.TopicAlias = alias
            packed = _Packed(properties.pack())
            if changing:
                return packed
            self._usual[key] = packed
        return self._usual[key]

    def _alias(self, topic: str) -> tuple[str, int]:
        """Return the topic to write, and its number, 0 for none.

        It is not written once the broker has confirmed the number on this connection; it may not remember that
        of a message that it refused.
        """
        if topic not in self._aliases:
            if len(self._aliases) >= self._alias_limit:
                return topic, 0
            self._aliases[topic] = len(self._aliases) + 1
        return "" if topic in self._established else topic, self._aliases[topic]

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
            raise TransportError("it sends, and takes nothing of what it is sent")

    def disconnect(self) -> None:
        """Say goodbye, so that the broker does not publish the will."""
        self._client.on_disconnect = None
        self._client.disconnect()
        self.drop()

    def drop(self) -> None:
        """Close the socket, without a word if it is still open."""
        self._client.on_disconnect = None
        if (sock := self._client.socket()) is not None:
            sock.close()

    def _on_connect(
        self, _client: Client, _data: Any, _flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if self._answer:
            return  # a second answer means nothing
        self._answer = (reason.value, reason.getName())
        self.window = min(WINDOW, getattr(properties, "ReceiveMaximum", WINDOW))
        self.limit = getattr(properties, "MaximumPacketSize", LARGEST)
        self.qos = getattr(properties, "MaximumQoS", 1)
        self.retain = bool(getattr(properties, "RetainAvailable", True))
        self.wildcards = bool(getattr(properties, "WildcardSubscriptionAvailable", True))
        self._alias_limit = min(MOST_ALIASES, getattr(properties, "TopicAliasMaximum", 0))

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
        size = sum(len(one.payload) for one in self.incoming) + len(message.payload)
        if len(self.incoming) >= MOST_INCOMING or size > LARGEST_INCOMING:
            self.missed += 1
            return
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
            self.incoming.append(incoming)

    def _on_log(self, _client: Client, _data: Any, level: int, text: str) -> None:
        if level == LogLevel.MQTT_LOG_ERR:
            self._trouble = text

    def _on_publish(
        self, _client: Client, _data: Any, mid: int, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        self.acks.append((mid, reason.value))
        topic = self._introduced.pop(mid, None)
        if topic and reason.value < 0x80:
            self._established.add(topic)


class _Packed(NamedTuple):
    """Properties as they go over the wire; paho asks them for no more."""

    wire: bytes

    def pack(self) -> bytes:
        """Return them."""
        return self.wire


def packet_size(topic: str, payload: bytes, qos: int, properties: _Packed | None) -> int:
    """Return how many bytes a PUBLISH has."""
    body = 2 + len(topic.encode()) + (2 if qos else 0) + (len(properties.wire) if properties else 0) + len(payload)
    return 1 + max(1, -(-body.bit_length() // 7)) + body


def _properties(packet: int) -> Any:
    """Return an empty set of properties. Any: paho sets them as attributes that no type knows."""
    make: Any = Properties
    return make(packet)

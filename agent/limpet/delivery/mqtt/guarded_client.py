"""paho's client within bounds: what a hostile broker sends costs little memory and time, and ends the connection.

paho has no settings for that. All bytes that it receives come through these classes, TLS and websockets included.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from paho.mqtt.client import Client, MQTTv5, _WebsocketWrapper
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from limpet.delivery.mqtt import packet_limits
from limpet.errors import UnreadableError

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable

    from paho.mqtt.enums import MQTTErrorCode

LARGEST_ANSWER, LONGEST_ANSWER = 1 << 14, 10.0
"""Bytes of the answer to a websocket's request, and the seconds that it may take."""

LARGEST_FRAME = 2 * packet_limits.LARGEST
"""Bytes of a websocket frame, which paho keeps until it is complete."""

_CODE_AT = {PacketTypes.CONNACK: 1, PacketTypes.PUBACK: 2, PacketTypes.DISCONNECT: 0}
"""Where the reason code is in a packet of MQTT 5."""


class GuardedClient(Client):
    """A client that keeps to the limits of ``packet_limits``. ``complaint`` names the limit that was broken."""

    def __init__(self, version: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.complaint = ""
        self._limits = packet_limits.PacketLimits(version)

    def _sock_recv(self, bufsize: int) -> bytes:
        size = min(bufsize, packet_limits.LARGEST)
        # Without TLS: what paho does about its exceptions would import ssl.
        data = super()._sock_recv(size) if self._ssl or self._sock is None else self._sock.recv(size)
        try:
            self._limits.feed(data)
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
            first = packet_limits.after_properties(packet, 2) if self._protocol == MQTTv5 else 2
            codes = range(first, len(packet))
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
    """A websocket with limits: paho keeps each line of a header and each frame until it is complete."""

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
    """A socket with limits, while a broker answers a websocket's request."""

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

"""Who is at the other end of a call over gRPC, as its library describes the connection."""

from __future__ import annotations

import ipaddress
import os
import socket
import stat
import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote

from limpet.gateway.access.certificates import first_of
from limpet.gateway.access.peers import key_of, owner_between

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_FAMILIES = (socket.AF_INET, socket.AF_INET6)
_MOST_FILES = 1024
"""gRPC does not say which of the open files is the socket of a connection. They have the lowest numbers."""
_RECEIVED_AT = 128
"""Where ``tcpi_bytes_received`` is in ``struct tcp_info``, see linux/tcp.h."""


class GrpcPeer:
    """The client of a call. ``ports``: those of this device, one of which it is connected to."""

    transport: Literal["tcp"] = "tcp"

    def __init__(self, peer: str, identity: Mapping[str, Iterable[bytes]], ports: Sequence[int]) -> None:
        """``peer``: as gRPC writes it, such as ``ipv6:%5B::1%5D:43210``. ``ValueError`` if it is no TCP client."""
        self.address, self.port = _address(peer)
        self._ports = ports
        self.loopback = _is_loopback(self.address)
        self.key = key_of(self.address)
        self.certificate = _name(identity)

    @property
    def uid(self) -> int | None:
        """User id, if it is on this device and the kernel says so.

        It is read for each call: gRPC does not say whether a connection is still the same.
        """
        if not self.loopback:
            return None
        client = (self.address, self.port)
        owners = (owner_between(client, (self.address, port)) for port in self._ports)
        return next((owner for owner in owners if owner is not None), None)

    @property
    def received(self) -> int | None:
        """Bytes that came over the connection, as the kernel counts them. ``None`` if it does not say."""
        if sys.platform != "linux":
            return None
        for number in range(_MOST_FILES):
            try:
                if not stat.S_ISSOCK(os.fstat(number).st_mode):
                    continue
                # An address of IPv4 fits into one of IPv6.
                with socket.fromfd(number, socket.AF_INET6, socket.SOCK_STREAM) as one:
                    if one.getsockopt(socket.SOL_SOCKET, socket.SO_DOMAIN) not in _FAMILIES:
                        continue
                    address, port = one.getpeername()[:2]
                    if one.getsockname()[1] not in self._ports:
                        continue
                    if port == self.port and _plain(address) == self.address:
                        info = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _RECEIVED_AT + 8)
                        return int.from_bytes(info[_RECEIVED_AT:], sys.byteorder)
            except OSError:  # not open, no socket, or not connected
                continue
        return None


def _plain(address: str) -> str:
    return address.partition("%")[0].removeprefix("::ffff:")


@lru_cache(256)
def _address(peer: str) -> tuple[str, int]:
    family, _, rest = unquote(peer).partition(":")
    host, _, port = rest.rpartition(":")
    if family not in {"ipv4", "ipv6"}:
        raise ValueError(f"{peer} is no TCP client")
    return host.strip("[]").partition("%")[0], int(port)


@lru_cache(256)
def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback


def _name(identity: Mapping[str, Iterable[bytes]]) -> str:
    """Return the name in a verified certificate. Empty if there is none."""
    if not identity.get("x509_pem_cert"):
        return ""
    kinds = ("x509_common_name", "x509_subject_alternative_name")
    return first_of([raw.decode("utf-8", "replace") for kind in kinds for raw in identity.get(kind, ())])

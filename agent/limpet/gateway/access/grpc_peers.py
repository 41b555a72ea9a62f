"""Who is at the other end of a call over gRPC, as its library describes the connection."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote

from limpet.gateway.access.certificates import first_of
from limpet.gateway.access.peers import key_of, owner_between

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


class GrpcPeer:
    """The client of a call. ``ports``: those of this device, one of which it is connected to."""

    transport: Literal["tcp"] = "tcp"

    def __init__(self, peer: str, identity: Mapping[str, Iterable[bytes]], ports: Sequence[int]) -> None:
        """``peer``: as gRPC writes it, such as ``ipv6:%5B::1%5D:43210``. ``ValueError`` if it is no TCP client."""
        self.address, self._client_port = _address(peer)
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
        client = (self.address, self._client_port)
        owners = (owner_between(client, (self.address, port)) for port in self._ports)
        return next((owner for owner in owners if owner is not None), None)


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

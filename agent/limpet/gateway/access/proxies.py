"""Requests that come through a proxy: the client is not the program that is connected."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from limpet.gateway.access.rights import Peer

_HEADERS = frozenset({"forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip"})


class Proxied:
    """The other end of a proxy. The proxy may run on this device, but its clients need not.

    So it has the rights of its token or certificate alone. The address in the headers is not used, as anyone can
    write it there.
    """

    transport: Literal["tcp"] = "tcp"
    loopback = False
    uid = None

    def __init__(self, proxy: Peer) -> None:
        self.address = proxy.address or "a proxy"
        self.certificate = proxy.certificate
        self.key = proxy.key


def behind(connected: Peer, headers: Iterable[str]) -> Peer:
    """Return who sends a request. ``headers``: their names, in small letters."""
    return connected if _HEADERS.isdisjoint(headers) else Proxied(connected)

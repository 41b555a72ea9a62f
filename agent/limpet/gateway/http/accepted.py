"""A connection from when it was accepted until it is closed, whatever protocol it speaks."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

from limpet.gateway.access.certificates import name_of

if TYPE_CHECKING:
    from asyncio import Transport

    from limpet.gateway.access.peers import Connection
    from limpet.gateway.http.connections import Connections
    from limpet.gateway.http.slow_clients import Patience

CONNECTION = "limpet.connection"
"""Key of the connection in ``scope["state"]``."""


class Accepted:
    """A connection that counts until ``release``. ``request_bytes``: of a body. ``patience``: with the client."""

    def __init__(
        self, connection: Connection, counted: Connections, request_bytes: int, patience: Patience
    ) -> None:
        self.connection = connection
        self.request_bytes = request_bytes
        self.patience = patience
        self.state: dict[str, Any] = {CONNECTION: connection}
        self._counted = counted

    def made(self, transport: Transport) -> None:
        """Note who the client is, once TLS has verified it."""
        certificate = transport.get_extra_info("peercert")
        if certificate and isinstance(transport.get_extra_info("ssl_object"), ssl.SSLObject):
            self.connection.certificate = name_of(certificate)

    def release(self) -> None:
        """Count it no more."""
        self._counted.release(self.connection)

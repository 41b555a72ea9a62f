"""Who may do what. One function decides, without I/O, for HTTP and for gRPC."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from limpet.gateway.peers import Connection


class Rights(IntEnum):
    """What a client may do. Each includes those before it."""

    NONE = 0
    VIEW = 1
    """Read, and run models."""
    CONTROL = 2
    """Send commands, load and unload models, read the log."""


class Policy(NamedTuple):
    """``protected``: whether a client over TCP needs a token or a certificate."""

    protected: bool


class Client(NamedTuple):
    """A client, as ``scope["limpet.client"]``. ``name``: whose token or certificate, or which user or address."""

    connection: Connection
    name: str
    rights: Rights

    @property
    def uid(self) -> int | None:
        """User id, if it is on this device and the kernel says so."""
        return self.connection.uid

    @property
    def address(self) -> str:
        """IP address. Empty over the Unix socket."""
        return self.connection.address

    @property
    def transport(self) -> Literal["unix", "tcp"]:
        """How it is connected."""
        return self.connection.transport


def client(policy: Policy, connection: Connection, token: str = "") -> Client:
    """Return the client of a connection, with its rights. ``token``: whose valid token or session it showed.

    The mode of the Unix socket's file says who may do everything. Over TCP, a token or a certificate does. If
    no such is configured, programs on this device may read and run models.
    """
    if connection.transport == "unix":
        return Client(connection, f"user {connection.uid} on the Unix socket", Rights.CONTROL)
    name = token or connection.certificate
    if policy.protected and name:
        return Client(connection, f"{name} from {connection.address}", Rights.CONTROL)
    rights = Rights.VIEW if connection.loopback and not policy.protected else Rights.NONE
    return Client(connection, connection.address, rights)

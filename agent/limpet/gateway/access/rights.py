"""Who may do what. Decides, without I/O, for HTTP and for gRPC."""

from __future__ import annotations

from enum import IntEnum
from typing import Literal, NamedTuple, Protocol


class Rights(IntEnum):
    """What a client may do. Each includes those before it."""

    NONE = 0
    VIEW = 1
    """Read, and run models."""
    CONTROL = 2
    """Send commands, load and unload models, read the log."""


class Peer(Protocol):
    """What is known of the other end of a connection, see ``peers.Connection``."""

    @property
    def transport(self) -> Literal["unix", "tcp"]:
        """How it is connected."""

    @property
    def address(self) -> str:
        """IP address. Empty over a Unix socket."""

    @property
    def loopback(self) -> bool:
        """Whether it is on this device."""

    @property
    def certificate(self) -> str:
        """The name in its certificate. Empty if it has none."""

    @property
    def uid(self) -> int | None:
        """User id, if it is on this device and the kernel says so."""

    @property
    def key(self) -> str:
        """What limits for one client are counted by."""


class Client(NamedTuple):
    """A client, as ``scope["limpet.client"]``. ``name``: whose token or certificate, or which user or address."""

    connection: Peer
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


def client_of(connection: Peer, token: str, *, protected: bool) -> Client:
    """Return the client of a connection, with its rights. ``token``: whose valid token or session it showed.

    ``protected``: tokens or certificates are configured. Then clients over TCP need one. Otherwise programs on
    this device may read and run models. Who can open the Unix socket may do everything: its file's mode decides.
    """
    if connection.transport == "unix":
        user = "a user" if connection.uid is None else f"user {connection.uid}"
        return Client(connection, f"{user} on this device", Rights.CONTROL)
    name = token or connection.certificate
    if protected and name:
        return Client(connection, f"{name} at {connection.address}", Rights.CONTROL)
    rights = Rights.VIEW if connection.loopback and not protected else Rights.NONE
    return Client(connection, connection.address, rights)


_OPEN = {
    "/",
    "/favicon.ico",
    "/v2/health/live",
    "/v2/health/ready",
    "/api/session",
    "/api/login",
    "/api/logout",
}
_OPEN_BELOW = "/static/"
_CONTROL_BELOW = ("/api/commands", "/api/log", "/v2/repository/models")


def needed(path: str) -> Rights:
    """Return the right that a path needs. A path that is not known here needs ``VIEW``.

    The page itself is open: it has no data, which it gets from the other paths.
    """
    if path in _OPEN or path.startswith(_OPEN_BELOW):
        return Rights.NONE
    return Rights.CONTROL if path.startswith(_CONTROL_BELOW) else Rights.VIEW


def refusal(client: Client, path: str, *, protected: bool) -> tuple[int, str] | None:
    """Return the status and the reason with which a request is refused. ``None`` if the client may do it."""
    if client.rights >= needed(path):
        return None
    if protected:
        return 401, "send a token as `Authorization: Bearer TOKEN`. To make one, run: limpet token NAME"
    if client.rights >= Rights.VIEW:
        return 403, (
            "over TCP, this needs a token, and the device has none. Use the Unix socket. Or configure "
            "`token_file`, and run: limpet token NAME"
        )
    return 403, "this client is not on the device, or comes through a proxy, and the device has no token"

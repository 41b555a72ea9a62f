"""What a client shows of itself: a token, or the cookie of a session."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from limpet.gateway.access import tokens
from limpet.gateway.access.limits import Rates
from limpet.gateway.access.sessions import Sessions
from limpet.gateway.access.tokens import digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from limpet.gateway.access.rights import Peer
    from limpet.gateway.access.tokens import Token

_BEARER = "bearer "
_WRONG_PER_SECOND, _WRONG_AT_ONCE = 0.2, 10


class WrongTokenError(Exception):
    """A client showed a token that is not valid. The text says so to the client."""


class TooManyWrongError(WrongTokenError):
    """A client showed too many that are not valid."""


class Credentials:
    """The tokens of this device, and sessions that began with one. ``protected``: clients over TCP need one.

    ``cookie``: name of the cookie of a session. A browser sends cookies to all ports of a host. So each device has
    its own name, and a person can be logged in to several of them through tunnels.
    """

    def __init__(self, known: tuple[Token, ...], *, protected: bool, device: str) -> None:
        self.protected = protected
        self.cookie = f"limpet-session-{digest(device)[:16]}"
        self._tokens = known
        self._sessions = Sessions()
        self._wrong = Rates(_WRONG_PER_SECOND, _WRONG_AT_ONCE)

    @property
    def has_tokens(self) -> bool:
        """Whether a client can log in."""
        return bool(self._tokens)

    def of_headers(self, connection: Peer, headers: Mapping[str, str]) -> str:
        """Return whose token or session a request has. Empty if it has none. ``WrongTokenError``."""
        if not self.protected or connection.transport == "unix":
            return ""
        token = bearer(headers.get("authorization", ""))
        if token is not None:
            return self.of_token(connection, token)
        secret = _value(self.cookie, headers.get("cookie", ""))
        return self._sessions.name_of(secret, monotonic()) if secret else ""

    def of_token(self, connection: Peer, secret: str) -> str:
        """Return whose token this is. ``WrongTokenError``."""
        name = tokens.name_of(self._tokens, secret)
        if name:
            return name
        if not self._wrong.allows(connection.key, monotonic()):
            raise TooManyWrongError("too many wrong tokens")
        raise WrongTokenError("this token is not valid")

    def log_in(self, connection: Peer, secret: str) -> str:
        """Begin a session with a token. Return the secret of the session. ``WrongTokenError``."""
        return self._sessions.begin(self.of_token(connection, secret), monotonic())

    def log_out(self, headers: Mapping[str, str]) -> None:
        """End the session of a request, if it has one."""
        if secret := _value(self.cookie, headers.get("cookie", "")):
            self._sessions.end(secret)


def bearer(header: str) -> str | None:
    """Return the token in a header ``Authorization``. ``None`` if it has none."""
    return header[len(_BEARER) :].strip() if header[: len(_BEARER)].lower() == _BEARER else None


def _value(cookie: str, header: str) -> str:
    """Return the value of a cookie in a header ``Cookie``. Empty if there is none."""
    for part in header.split(";"):
        name, _, value = part.strip().partition("=")
        if name == cookie:
            return value
    return ""

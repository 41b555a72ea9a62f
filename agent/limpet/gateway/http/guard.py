"""Decides about each request before the rest of the application sees it."""

from __future__ import annotations

from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from starlette.exceptions import HTTPException

from limpet.contracts.api import Refused
from limpet.gateway.access.credentials import TooManyWrongError, WrongTokenError
from limpet.gateway.access.hosts import is_foreign, is_ours, without_port
from limpet.gateway.access.limits import TOO_LARGE, TOO_MANY, Budget, Rates
from limpet.gateway.access.proxies import behind
from limpet.gateway.access.rights import client_of, refusal
from limpet.gateway.http.accepted import CONNECTION
from limpet.gateway.http.head_cache import CACHEABLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from limpet.gateway.access.credentials import Credentials
    from limpet.gateway.access.peers import Connection
    from limpet.gateway.access.rights import Peer
    from limpet.gateway.http.head_cache import CacheableHead

CLIENT = "limpet.client"
"""Key of the ``Client`` in a request's scope."""
_ONCE = ("host", "origin", "authorization", "content-length", "cookie", "sec-fetch-site", "sec-fetch-mode")
_EVERY = [
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "manifest-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
_PAGES = [
    (b"content-security-policy", _POLICY.encode()),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
]
_CHALLENGE = {"www-authenticate": 'Bearer realm="limpet"'}
_NO_STORE = (b"cache-control", b"no-store")
BUDGET_REQUESTS = 4
"""The largest requests that may be in memory at once."""
BODY = "limpet.body"
"""Key of the ``Body`` in a request's scope."""
SMALL = 1 << 16
"""Bytes of a body that are not counted: there are only so many connections."""


class Limits(NamedTuple):
    """``request_bytes``: of one body. ``rate``: requests of one client a second. ``names``: of this device."""

    request_bytes: int
    rate: float
    names: frozenset[str]


class RefusedError(HTTPException):
    """A request is refused with this status, and the reason in words. What reads its body may raise it, too."""

    def __init__(self, status: int, reason: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, reason, headers)


class Guard:
    """The application behind its checks."""

    def __init__(self, app: ASGIApp, credentials: Credentials, limits: Limits) -> None:
        self._app = app
        self._credentials = credentials
        self._limits = limits
        self._rates = Rates(limits.rate, 2 * limits.rate)
        self._budget = Budget(BUDGET_REQUESTS * limits.request_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        connection: Connection = scope["state"][CONNECTION]
        scope[BODY] = body = Body(receive, self._limits.request_bytes, self._budget, connection)
        answer = _Answer(send, is_websocket=scope["type"] == "websocket")
        try:
            headers = self._admit(scope)
            await self._app(scope, body.expected(headers), answer.send)
        except RefusedError as refused:
            await answer.refuse(refused)
        finally:
            body.forget()

    def _admit(self, scope: Scope) -> dict[str, str]:
        """Return the headers of a request that may pass, and put its client into the scope. ``RefusedError``."""
        connection: Connection = scope["state"][CONNECTION]
        if not self._rates.allows(connection.key, monotonic()):
            raise RefusedError(429, TOO_MANY, {"retry-after": "1"})
        headers = _unique(scope["headers"])
        path: str = scope["path"]
        if not path.isprintable():
            raise RefusedError(400, "the path has characters that cannot be printed")
        peer = behind(connection, headers)
        if peer.transport == "tcp":
            self._check_site(scope, headers, connection)
        protected = self._credentials.protected
        scope[CLIENT] = client = client_of(peer, self._token(peer, headers), protected=protected)
        refused = refusal(client, path, protected=protected)
        if refused is not None:
            raise RefusedError(*refused, _CHALLENGE if refused[0] == 401 else None)
        cacheable: CacheableHead | None = scope.get(CACHEABLE)
        if cacheable is not None and "cookie" not in headers:  # a session can end
            cacheable.admit = partial(self._admit_again, connection)
            cacheable.release = partial(self._release, connection)
        return headers

    def _admit_again(self, connection: Connection, size: int) -> bool:
        """Count a request with a head that may pass, and its body. ``False`` if there is no room for them."""
        if size > SMALL and not self._budget.take(connection.key, size, near=connection.loopback):
            return False
        if self._rates.allows(connection.key, monotonic()):
            return True
        self._release(connection, size)
        return False

    def _release(self, connection: Connection, size: int) -> None:
        if size > SMALL:
            self._budget.give(connection.key, size)

    def _check_site(self, scope: Scope, headers: dict[str, str], connection: Connection) -> None:
        host = headers.get("host", "")
        if not is_ours(host, connection.local, self._limits.names):
            name = without_port(host)[:80]
            raise RefusedError(403, f"this device is not called {name!r}. Add the name to `hosts` in [api]")
        if is_foreign(scope.get("method", "GET"), host, headers):
            raise RefusedError(403, "a page of another site sent this request")

    def _token(self, peer: Peer, headers: dict[str, str]) -> str:
        try:
            return self._credentials.of_headers(peer, headers)
        except TooManyWrongError as error:
            raise RefusedError(429, str(error), {"retry-after": "10"}) from error
        except WrongTokenError as error:
            raise RefusedError(401, str(error), _CHALLENGE) from error


def _unique(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return headers by name. Those that decide something must not come twice."""
    found: dict[str, str] = {}
    for name, value in headers:
        key = name.decode("latin-1")
        if key in found and key in _ONCE:
            raise RefusedError(400, f"the header {key} came more than once")
        found[key] = value.decode("latin-1")
    return found


class Body:
    """The body of a request, which is counted before and while it is read, and what is made of it."""

    def __init__(self, receive: Receive, most: int, budget: Budget, connection: Connection) -> None:
        self._receive = receive
        self._most = most
        self._budget = budget
        self._connection = connection
        self._size = self._taken = 0

    def expected(self, headers: dict[str, str]) -> Receive:
        """Return what reads the body. ``RefusedError`` if it is too large."""
        length, has_pieces = headers.get("content-length"), "transfer-encoding" in headers
        if length is not None:
            if has_pieces:
                raise RefusedError(400, "content-length and transfer-encoding came together")
            if not (length.isascii() and length.isdigit() and len(length) < 20):
                raise RefusedError(400, "content-length is not a number")
            self._count(int(length))  # The parser reads no more than that.
            return self._receive
        return self._counted if has_pieces else self._receive

    async def _counted(self) -> Message:
        message = await self._receive()
        self._count(len(message.get("body", b"")))
        return message

    def _count(self, size: int) -> None:
        if self._size + size > self._most:
            raise RefusedError(413, f"the body is too large; `request_bytes` is {self._most}")
        self._size += size
        self.becomes(self._size)

    def becomes(self, size: int) -> None:
        """Count the body with the size that it has now. ``RefusedError`` if there is no room for it."""
        more, connection = size - self._taken, self._connection
        if size <= SMALL or more <= 0:
            return
        if not self._budget.take(connection.key, more, near=connection.loopback):
            raise RefusedError(503, TOO_LARGE, {"retry-after": "1"})
        self._taken = size

    def forget(self) -> None:
        """Give back what the request took."""
        if self._taken:
            self._budget.give(self._connection.key, self._taken)


class _Answer:
    """The answer to a request."""

    def __init__(self, send: Send, *, is_websocket: bool) -> None:
        self._send = send
        self._kind = "websocket.http.response" if is_websocket else "http.response"
        self._has_begun = False

    async def send(self, message: Message) -> None:
        """Send a part of the application's answer."""
        if message["type"] == "http.response.start":
            message["headers"] = secured(message.get("headers", []))
        self._has_begun = True
        await self._send(message)

    async def refuse(self, refused: RefusedError) -> None:
        """Send the reason in place of the application's answer. If that has begun, the connection ends."""
        if self._has_begun:
            raise refused
        body = msgspec.json.encode(Refused(error=refused.detail))
        headers: list[Any] = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            _NO_STORE,
            *_EVERY,
            *((name.encode(), value.encode()) for name, value in (refused.headers or {}).items()),
        ]
        await self._send({"type": f"{self._kind}.start", "status": refused.status_code, "headers": headers})
        await self._send({"type": f"{self._kind}.body", "body": body})


def secured(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return the headers of an answer, and those that limit what browsers do with it."""
    found = [*headers, *_EVERY]
    names = dict(found)
    if names.get(b"content-type", b"").startswith(b"text/html"):
        found += _PAGES
    if b"cache-control" not in names:
        found.append(_NO_STORE)
    return found

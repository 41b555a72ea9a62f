"""HTTP/1.1 as the client speaks it, without I/O. h11 reads and writes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import h11

from limpet.client.errors import UnavailableError
from limpet.errors import UnreadableError
from limpet.untrusted import reading

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Buffer: TypeAlias = bytes | bytearray | memoryview

_CLOSED = "the daemon closed the connection"
LARGEST_ANSWER = 1 << 28
"""Bytes of an answer, which is as much as the daemon's models can have in all their outputs."""
CHUNK = 1 << 16
"""Bytes of one read. A larger buffer would be mapped and unmapped for each, as malloc does above 128 KiB."""
SMALL = 1 << 16
"""Bytes up to which parts of a request are joined, for one system call."""


class Request(NamedTuple):
    """``target``: path and query. ``body`` comes in parts, so that large tensors are not copied."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...] = ()
    body: tuple[Buffer, ...] = ()


class Response(NamedTuple):
    """The whole answer. The names of ``headers`` are in small letters."""

    status: int
    headers: dict[str, str]
    body: Buffer


class Head(NamedTuple):
    """How an answer begins."""

    status: int
    headers: dict[str, str]


class End:
    """The answer is complete. ``reusable``: the connection can take another request."""

    def __init__(self, *, reusable: bool) -> None:
        self.reusable = reusable


class Conversation:
    """One connection: what to send for a request, and what the bytes that come mean."""

    def __init__(self) -> None:
        self._http = h11.Connection(h11.CLIENT)

    def send(self, request: Request) -> Sequence[Buffer]:
        """Return what to send."""
        length = sum(len(part) for part in request.body)
        headers = [("Host", "localhost"), *request.headers]
        if request.method != "GET":
            headers.append(("Content-Length", str(length)))
        begin = self._http.send(h11.Request(method=request.method, target=request.target, headers=headers))
        assert begin is not None
        # h11 counts the parts against the length of the headers, and passes them on without a copy.
        parts: list[Buffer] = [begin]
        for part in request.body:
            passed = self._http.send_with_data_passthrough(h11.Data(data=part))  # type: ignore[arg-type]
            parts += passed or []
        self._http.send(h11.EndOfMessage())
        return [b"".join(parts)] if len(begin) + length <= SMALL else parts

    def take(self, data: bytes) -> Iterator[Head | Buffer | End]:
        """Return what these bytes have; none mean that the other end closed. ``LimpetError``."""
        with reading("an answer of the daemon"):
            self._http.receive_data(data)
        while (event := self._next(closed=not data)) not in (h11.NEED_DATA, h11.PAUSED):
            if isinstance(event, h11.Response):
                yield Head(event.status_code, {name.decode(): value.decode() for name, value in event.headers})
            elif isinstance(event, h11.Data):
                yield event.data
            elif isinstance(event, h11.EndOfMessage):
                yield self._end()
                return
            elif isinstance(event, h11.ConnectionClosed):
                raise UnavailableError(_CLOSED)

    def _next(self, *, closed: bool) -> h11.Event | type[h11.NEED_DATA | h11.PAUSED]:
        try:
            return self._http.next_event()
        except h11.RemoteProtocolError as error:
            if closed:
                raise UnavailableError(_CLOSED) from error
            raise UnreadableError(f"an answer of the daemon could not be read: {error}") from error

    def _end(self) -> End:
        done = self._http.our_state is h11.DONE and self._http.their_state is h11.DONE
        reusable = done and not self._http.trailing_data[0]
        if reusable:
            self._http.start_next_cycle()
        return End(reusable=reusable)


class Collector:
    """Puts an answer together, of at most ``LARGEST_ANSWER`` bytes."""

    def __init__(self) -> None:
        self._head = Head(0, {})
        self._body = bytearray()
        self.end: End | None = None

    def add(self, parts: Iterator[Head | Buffer | End]) -> Response | None:
        """Add what came. Return the answer when it is complete."""
        for part in parts:
            if isinstance(part, Head):
                self._head = part
            elif isinstance(part, End):
                self.end = part
                return Response(*self._head, self._body)
            else:
                self._body += part
                if len(self._body) > LARGEST_ANSWER:
                    raise UnreadableError(f"an answer of the daemon has more than {LARGEST_ANSWER} bytes")
        return None

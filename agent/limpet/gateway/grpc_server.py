"""The gRPC server, with the same clients, rights and limits as over HTTP.

gRPC's library opens its own sockets. Each call begins with its headers alone: who calls is decided before any
message is read, and few messages are read at once. So clients cannot fill the memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from time import monotonic
from typing import TYPE_CHECKING, Any

from limpet.errors import UnreadableError
from limpet.gateway.access.credentials import TooManyWrongError, WrongTokenError, bearer
from limpet.gateway.access.grpc_peers import GrpcPeer
from limpet.gateway.access.limits import TOO_LARGE, TOO_MANY, Budget, Rates, share
from limpet.gateway.access.proxies import behind
from limpet.gateway.access.rights import client_of, refusal
from limpet.gateway.channels.model_channel import PATIENCE
from limpet.gateway.errors import RequestError
from limpet.gateway.grpc_turns import SILENT_SECONDS, SilentError, Turns
from limpet.gateway.http import addresses
from limpet.gateway.http.guard import BUDGET_REQUESTS
from limpet.gateway.http.slow_clients import STALLED_SECONDS
from limpet.gateway.link import BusyError
from limpet.tables import listen_address
from limpet.untrusted import reading

# Before the import: gRPC would log what clients do wrong, and prepare for forks, which never come.
os.environ["GRPC_VERBOSITY"] = "NONE"
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

import grpc
import grpc.aio

from limpet.gateway.open_inference.grpc_messages import MESSAGES, SERVICE
from limpet.gateway.open_inference.grpc_methods import Caller, Methods
from limpet.gateway.open_inference.protobuf_fields import check_fields

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from limpet.gateway.access.credentials import Credentials
    from limpet.gateway.access.rights import Peer
    from limpet.gateway.context import Context
    from limpet.gateway.errors import Cause
    from limpet.gateway.files import Pem
    from limpet.gateway.open_inference.grpc_methods import Method
    from limpet.tables import ApiTable

log = logging.getLogger(__name__)

MOST_CALLS = 256
"""Calls of all clients at once. One client has a share of them. More are refused."""
MOST_CALLS_OF_A_CONNECTION = 64
MOST_READ_AT_ONCE = 4
"""Messages, each of up to ``request_bytes``, that are read at once, and as many without tensors. More wait."""
MOST_STREAMS = 8
"""Calls with many messages at once, of which one client has a share. More are refused."""
HANDSHAKE_SECONDS, IDLE_SECONDS = 10, 300
MESSAGE_SECONDS = 10.0
LEAST_RATE = 1_000_000
"""Bytes a second. A message may take ``MESSAGE_SECONDS`` more than the largest one takes at this rate."""
SMALL = 1 << 16
"""Bytes of an answer that may wait for its client as long as the client likes."""
LARGEST_HEADERS = 1 << 14
_STATUS: dict[Cause, grpc.StatusCode] = {
    "invalid": grpc.StatusCode.INVALID_ARGUMENT,
    "denied": grpc.StatusCode.PERMISSION_DENIED,
    "unknown": grpc.StatusCode.NOT_FOUND,
    "too large": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "busy": grpc.StatusCode.UNAVAILABLE,
    "failed": grpc.StatusCode.INTERNAL,
}
_REFUSED = {401: grpc.StatusCode.UNAUTHENTICATED, 403: grpc.StatusCode.PERMISSION_DENIED}


class _RefusedError(Exception):
    """A call ends with this status, and the reason in words."""

    def __init__(self, status: grpc.StatusCode, reason: str) -> None:
        super().__init__(reason)
        self.status = status


async def start(context: Context, pem: Pem | None) -> Coroutine[Any, Any, object]:
    """Serve from now on. Return what ends when the server does. ``ListenError``."""
    table = context.begin.table
    server = grpc.aio.server(
        maximum_concurrent_rpcs=MOST_CALLS,
        options=[
            ("grpc.so_reuseport", 0),  # else another program could listen at the same port
            ("grpc.max_receive_message_length", table.request_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.http2.bdp_probe", 0),  # else megabytes of each message come before anyone reads it
            ("grpc.max_metadata_size", LARGEST_HEADERS),
            ("grpc.absolute_max_metadata_size", LARGEST_HEADERS),
            ("grpc.max_concurrent_streams", MOST_CALLS_OF_A_CONNECTION),
            ("grpc.max_allowed_incoming_connections", table.connections),
            ("grpc.server_handshake_timeout_ms", HANDSHAKE_SECONDS * 1000),
            ("grpc.max_connection_idle_ms", IDLE_SECONDS * 1000),
        ],
    )
    calls = _Calls(context.credentials, table)
    handlers = {
        name: grpc.stream_stream_rpc_method_handler(calls.handler(method))
        for name, method in Methods(context.open_inference).by_name().items()
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    for address in table.grpc:
        try:
            if pem is None:
                server.add_insecure_port(address)
            else:
                server.add_secure_port(address, _tls(pem, context.credentials))
        except RuntimeError as error:
            raise addresses.ListenError(
                f"{address}: gRPC cannot listen there; another program may use it"
            ) from error
    await server.start()
    serving: Coroutine[Any, Any, object] = server.wait_for_termination()
    return serving


def _tls(pem: Pem, credentials: Credentials) -> grpc.ServerCredentials:
    """Return the settings of TLS. gRPC either requires certificates of clients or takes none: tokens go first."""
    required = pem.client_ca is not None and not credentials.has_tokens
    return grpc.ssl_server_credentials(
        [(pem.key, pem.certificate)],
        root_certificates=pem.client_ca if required else None,
        require_client_auth=required,
    )


class _Calls:
    """Answers calls, within the limits."""

    def __init__(self, credentials: Credentials, table: ApiTable) -> None:
        self._credentials = credentials
        self._rates = Rates(table.requests_per_second, 2 * table.requests_per_second)
        self._ports = [listen_address(address).port for address in table.grpc]
        self._budget = Budget(BUDGET_REQUESTS * table.request_bytes)
        self._calls, self._streams = Budget(MOST_CALLS), Budget(MOST_STREAMS)
        self._tensors, self._others = Turns(MOST_READ_AT_ONCE), Turns(MOST_READ_AT_ONCE)
        self._patience = MESSAGE_SECONDS + table.request_bytes / LEAST_RATE

    def handler(self, method: Method) -> Any:
        """Return what gRPC calls for a method."""

        async def handle(_requests: Any, context: grpc.aio.ServicerContext) -> None:
            try:
                await self._serve(method, context)
            except _RefusedError as error:
                _refuse(context, error.status, str(error))
            except RequestError as error:
                _refuse(context, _STATUS[error.cause], str(error))
            except BusyError as error:
                _refuse(context, grpc.StatusCode.UNAVAILABLE, str(error))

        return handle

    async def _serve(self, method: Method, context: grpc.aio.ServicerContext) -> None:
        names = [name for name, _ in context.invocation_metadata() or ()]
        connected = GrpcPeer(context.peer(), context.auth_context(), self._ports)
        peer = behind(connected, names)
        self._admit(method.path, peer, context)
        with _one_more(self._calls, peer, MOST_CALLS, "calls are open"):
            if method.stream:
                await self._serve_stream(method, peer, context)
            elif not method.request.DESCRIPTOR.fields:  # nothing to read
                await self._answer(method, b"", peer, context)
            elif (data := await self._read(method, peer, connected, context)) is not grpc.aio.EOF:
                await self._answer(method, data, peer, context)

    async def _serve_stream(self, method: Method, peer: Peer, context: grpc.aio.ServicerContext) -> None:
        with _one_more(self._streams, peer, MOST_STREAMS, "streams are open; close one"):
            while (data := await context.read()) is not grpc.aio.EOF:
                await self._answer(method, data, peer, context)
                self._count(peer)

    async def _answer(self, method: Method, data: bytes, peer: Peer, context: grpc.aio.ServicerContext) -> None:
        """Answer a message, which counts as long as it is in memory."""
        taken = len(data) if len(data) > SMALL else 0
        if taken and not self._budget.take(peer.key, taken, near=peer.loopback):
            raise _RefusedError(grpc.StatusCode.UNAVAILABLE, TOO_LARGE)
        try:
            caller = Caller(lambda: peer.uid, _remaining(context))
            answer = await method.answer(_decoded(method, data), caller)
        finally:
            if taken:
                self._budget.give(peer.key, taken)
        await self._write(context, answer.SerializeToString())

    def _admit(self, path: str, peer: Peer, context: grpc.aio.ServicerContext) -> None:
        """Decide whether a client may call this."""
        self._count(peer)
        protected = self._credentials.protected
        client = client_of(peer, self._token(peer, context), protected=protected)
        if (refused := refusal(client, path, protected=protected)) is not None:
            raise _RefusedError(_REFUSED[refused[0]], refused[1])

    def _count(self, peer: Peer) -> None:
        if not self._rates.allows(peer.key, monotonic()):
            raise _RefusedError(grpc.StatusCode.RESOURCE_EXHAUSTED, TOO_MANY)

    def _token(self, peer: Peer, context: grpc.aio.ServicerContext) -> str:
        """Return whose token a call has. Empty if it has none."""
        shown = [value for name, value in context.invocation_metadata() or () if name == "authorization"]
        if not self._credentials.protected or not shown:
            return ""
        text = shown[0]
        token = bearer(text) if len(shown) == 1 and isinstance(text, str) else None
        if token is None:
            raise _RefusedError(grpc.StatusCode.UNAUTHENTICATED, "send one authorization: Bearer TOKEN")
        try:
            return self._credentials.of_token(peer, token)
        except TooManyWrongError as error:
            raise _RefusedError(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error)) from error
        except WrongTokenError as error:
            raise _RefusedError(grpc.StatusCode.UNAUTHENTICATED, str(error)) from error

    async def _read(
        self, method: Method, peer: Peer, connected: GrpcPeer, context: grpc.aio.ServicerContext
    ) -> Any:
        """Return the message, or ``EOF``. A slow client does not keep others from being read for long."""
        turns = self._tensors if method.request is MESSAGES["ModelInferRequest"] else self._others
        try:
            return await turns.read(peer, connected, context.read(), self._patience)
        except asyncio.TimeoutError:
            reason = f"no message came in {self._patience:.0f} s"
        except SilentError:
            reason = f"no message came in {SILENT_SECONDS:.0f} s, and other calls wait"
        raise _RefusedError(grpc.StatusCode.DEADLINE_EXCEEDED, reason)

    async def _write(self, context: grpc.aio.ServicerContext, data: bytes) -> None:
        if len(data) <= SMALL:
            await context.write(data)
            return
        try:
            await asyncio.wait_for(context.write(data), STALLED_SECONDS)
        except asyncio.TimeoutError as error:
            raise _RefusedError(grpc.StatusCode.DEADLINE_EXCEEDED, "this client does not read answers") from error


@contextlib.contextmanager
def _one_more(counted: Budget, peer: Peer, most: int, what: str) -> Iterator[None]:
    """Count one until it ends. ``_RefusedError`` if the client has its share."""
    if not counted.take(peer.key, 1, near=peer.loopback):
        reason = f"{share(most, near=peer.loopback)} of this client or {most} in all {what}"
        raise _RefusedError(grpc.StatusCode.UNAVAILABLE, reason)
    try:
        yield
    finally:
        counted.give(peer.key, 1)


def _refuse(context: grpc.aio.ServicerContext, status: grpc.StatusCode, reason: str) -> None:
    """End the call with a status. ``abort`` would keep the request in memory until garbage is collected."""
    context.set_code(status)
    context.set_details(reason)


def _decoded(method: Method, data: bytes) -> Any:
    check_fields(data, method.request.DESCRIPTOR)
    try:
        with reading("the message"):
            return method.request.FromString(data)
    except UnreadableError as error:
        raise RequestError("invalid", str(error)) from error


def _remaining(context: grpc.aio.ServicerContext) -> float:
    """Return the seconds that the client still waits."""
    remaining: float | None = context.time_remaining()
    return PATIENCE if remaining is None else max(remaining, 0.0)

"""The gateway's process. It has the network, and neither a sensor nor the broker's password.

Its sockets and files are opened first. Then it enters a sandbox in which it can accept connections, and open
nothing else.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from limpet.contracts.needs import Endpoint
from limpet.errors import LimpetError
from limpet.gateway import files
from limpet.gateway.access.credentials import Credentials
from limpet.gateway.access.hosts import names_of
from limpet.gateway.app import app
from limpet.gateway.channels.models import Models
from limpet.gateway.context import Context
from limpet.gateway.feed import Feed
from limpet.gateway.http import addresses
from limpet.gateway.http.guard import Guard, Limits
from limpet.gateway.http.server import Server
from limpet.gateway.link import SupervisorLink
from limpet.gateway.open_inference.service import OpenInference
from limpet.gateway.otlp.opening import open_exporter
from limpet.isolation import sandbox
from limpet.isolation.permissions import Permissions
from limpet.tables import listen_address
from limpet.wire.border import cleaned
from limpet.wire.gateway_records import Begin, Listening, ToGateway

if TYPE_CHECKING:
    import ssl
    from collections.abc import Coroutine

    from limpet.gateway.otlp.export import Exporter
    from limpet.tables import ApiTable
    from limpet.wire.channel import Channel

log = logging.getLogger(__name__)


class Opened(NamedTuple):
    """What was opened before the sandbox. ``tls``: for the sockets of TCP. ``pem``: the same for gRPC."""

    sockets: list[socket.socket]
    credentials: Credentials
    tls: ssl.SSLContext | None
    pem: files.Pem | None
    exporter: Exporter | None


def serve(channel: Channel[ToGateway]) -> None:
    """Serve until the supervisor is gone."""
    begin = _begin(channel)
    try:
        opened = open_all(begin)
    except LimpetError as error:
        channel.send(Listening(problem=cleaned(str(error))))
        return
    sandbox.enter(permissions(begin.table))
    asyncio.run(_run(channel, begin, opened))


def _begin(channel: Channel[ToGateway]) -> Begin:
    while True:
        for record in channel.receive():
            assert isinstance(record, Begin)
            return record


def open_all(begin: Begin) -> Opened:
    """Open sockets and read files. ``LimpetError`` says what is wrong."""
    table = begin.table
    credentials = Credentials(files.read_tokens(table), protected=table.protected, device=begin.origin.device)
    settings, pem = files.tls(table), files.read_pem(table)
    found = [addresses.listen(address) for address in table.listen]
    if begin.socket is not None:
        found.append(addresses.listen_at_path(begin.socket))
    return Opened(found, credentials, settings, pem, open_exporter(begin))


def permissions(table: ApiTable) -> Permissions:
    """Return what the gateway may do in its sandbox."""
    collector = table.otlp.address if table.otlp is not None else None
    return Permissions(
        endpoints=frozenset([Endpoint(collector.host.strip("[]"), collector.port)] if collector else []),
        accepts=True,
        listens=_ports_of_grpc(table),
        shared_memory=True,
    )


def _ports_of_grpc(table: ApiTable) -> frozenset[int]:
    """Return the ports that gRPC's library listens at. For IPv6, it first tries any free port of the loopback."""
    found = [listen_address(address) for address in table.grpc]
    probe = {0} if any(":" in one.host for one in found) else set()
    return frozenset({*(one.port for one in found), *probe})


async def _run(channel: Channel[ToGateway], begin: Begin, opened: Opened) -> None:
    link = SupervisorLink(channel, lambda: os._exit(0))
    table = begin.table
    protocol = OpenInference(Models(link, table.request_bytes))
    context = Context(begin, link, Feed(link), opened.credentials, protocol)
    limits = Limits(table.request_bytes, table.requests_per_second, names_of(socket.gethostname(), table.hosts))
    guard = Guard(app(context), opened.credentials, limits)
    server = Server(guard, table.connections, table.request_bytes, opened.tls)
    for each in opened.sockets:
        server.serve(each)
    found = [addresses.shown(each) for each in opened.sockets]
    running: list[Coroutine[Any, Any, object]] = []
    if table.grpc:
        try:
            running.append(await _start_grpc(context, opened))
        except LimpetError as error:
            link.say(Listening(problem=cleaned(str(error))))
            return
        found += [f"{address} for gRPC" for address in table.grpc]
    running.append(opened.exporter.run(link, protocol.statistics) if opened.exporter else asyncio.Event().wait())
    _give_memory_back()
    link.say(Listening(addresses=found))
    await asyncio.gather(*running)


def _give_memory_back() -> None:
    """Give memory that the start alone needed back to the kernel, if the C library can: 0.4 MB with gRPC."""
    gc.collect()
    with suppress(AttributeError):  # musl and macOS have no such function
        ctypes.CDLL(None).malloc_trim(0)


async def _start_grpc(context: Context, opened: Opened) -> Coroutine[Any, Any, object]:
    """Serve gRPC, for which others need not have 15 MB. ``LimpetError`` says why that is not possible."""
    try:
        from limpet.gateway import grpc_server
    except ModuleNotFoundError as error:
        from limpet.extras import install_extra

        raise LimpetError(f"`grpc` needs the extra api-grpc: {install_extra('api-grpc')}") from error
    return await grpc_server.start(context, opened.pem)

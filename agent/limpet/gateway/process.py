"""The gateway's process. It has the network, and neither a sensor nor the broker's password.

Its sockets and files are opened first. Then it enters a sandbox in which it can accept connections, and open
nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import stat
from contextlib import suppress

from limpet.device import logs
from limpet.device.unix_path import reachable
from limpet.gateway.access import Policy
from limpet.gateway.app import app
from limpet.gateway.context import Context
from limpet.gateway.feed import Feed
from limpet.gateway.guard import Guard
from limpet.gateway.link import SupervisorLink
from limpet.gateway.server import Server
from limpet.isolation.child import die_before_parent, die_with_parent, set_name
from limpet.wire.channel import Channel
from limpet.wire.gateway_records import LARGEST_TO_GATEWAY, Begin, Listening, ToGateway

log = logging.getLogger(__name__)

SOCKET_MODE = 0o660
"""Owner and group, which is the service's."""


def main(parent: str, fd: str) -> None:
    """Serve until the supervisor is gone."""
    die_with_parent(int(parent))
    die_before_parent()
    set_name("limpet-api")
    logs.configure()
    channel: Channel[ToGateway] = Channel(
        socket.socket(fileno=int(fd)), ToGateway, largest=LARGEST_TO_GATEWAY, fds=16
    )
    begin = _begin(channel)
    try:
        sockets = open_sockets(begin)
    except OSError as error:
        channel.send(Listening(problem=f"it cannot listen: {error.strerror}"))
        return
    asyncio.run(_run(channel, begin, sockets))


def _begin(channel: Channel[ToGateway]) -> Begin:
    while True:
        for record in channel.receive():
            assert isinstance(record, Begin)
            return record


def open_sockets(begin: Begin) -> list[socket.socket]:
    """Return listening sockets for HTTP. ``OSError``."""
    found = []
    for address in begin.table.listen:
        host, _, port = address.rpartition(":")
        found.append(socket.create_server((host.strip("[]"), int(port)), backlog=128))
    if begin.socket is not None:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with suppress(FileNotFoundError):
            if stat.S_ISSOCK(begin.socket.lstat().st_mode):
                begin.socket.unlink()
        with reachable(begin.socket) as path:
            listener.bind(path)
        begin.socket.chmod(SOCKET_MODE)
        listener.listen(128)
        found.append(listener)
    return found


async def _run(channel: Channel[ToGateway], begin: Begin, sockets: list[socket.socket]) -> None:
    link = SupervisorLink(channel, lambda: os._exit(0))
    context = Context(begin, link, Feed(link))
    link.say(Listening(addresses=[_address(each) for each in sockets]))
    table = begin.table
    policy = Policy(protected=table.token_file is not None or table.client_ca is not None)
    server = Server(Guard(app(context), policy), table.connections, table.request_bytes)
    for each in sockets:
        server.serve(each)
    await asyncio.Event().wait()


def _address(listener: socket.socket) -> str:
    """Return where a socket listens, as a configuration has it."""
    name = listener.getsockname()
    if isinstance(name, str):
        return name
    return f"[{name[0]}]:{name[1]}" if listener.family == socket.AF_INET6 else f"{name[0]}:{name[1]}"

"""Where the gateway's process begins: a package that is missing becomes a reason that the daemon reports."""

from __future__ import annotations

import os
import socket
from contextlib import suppress

from limpet import deferred
from limpet.device import logs
from limpet.isolation.child import die_before_parent, die_with_parent, set_name
from limpet.wire.channel import Channel
from limpet.wire.gateway_records import LARGEST_TO_GATEWAY, Listening, ToGateway

NICE = 5
"""How far the priority is below that of the pipelines, as that of guests."""


def main(parent: str, fd: str) -> None:
    """Serve until the supervisor is gone."""
    die_with_parent(int(parent))
    die_before_parent()
    set_name("limpet-api")
    with suppress(OSError):
        os.nice(NICE)
    logs.configure()
    channel: Channel[ToGateway] = Channel(
        socket.socket(fileno=int(fd)), ToGateway, largest=LARGEST_TO_GATEWAY, fds=16
    )
    deferred.save_memory()
    try:
        from limpet.gateway import process  # loads uvicorn and Starlette
    except ModuleNotFoundError as error:
        channel.send(Listening(problem=f"{error.name} is not installed. Run: pip install 'limpet[api]'"))
        return
    process.serve(channel)

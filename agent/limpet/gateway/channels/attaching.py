"""The start of a direct channel: the model's process says what it serves, and gets the memory that both share."""

from __future__ import annotations

import asyncio
import mmap
from typing import TYPE_CHECKING

from limpet.errors import UnreadableError
from limpet.gateway.channels.model_channel import ModelChannel
from limpet.gateway.errors import RequestError
from limpet.wire.border import cleaned
from limpet.wire.channel import Channel
from limpet.wire.guest_records import LARGEST, Attach, FromGuest, Refused, Serving
from limpet.wire.memory_file import anonymous_file, seal

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

OPENING = 30.0
"""Seconds in which the model's process must say what it serves."""


async def attached(
    end: socket.socket, memory_size: Callable[[Serving], int], ended: Callable[[ModelChannel], None]
) -> ModelChannel:
    """Return the channel on a socket to a model's process, once that has said what it serves.

    ``memory_size`` says how much memory the two share. ``RequestError`` if the process does not serve.
    """
    end.setblocking(False)
    channel: Channel[FromGuest] = Channel(end, FromGuest, largest=LARGEST)
    try:
        serving = await asyncio.wait_for(_serving(channel), OPENING)
        memory = _share(channel, memory_size(serving))
    except asyncio.TimeoutError:
        channel.close()
        raise RequestError("busy", f"the model was not ready within {OPENING:g} s; try again") from None
    except (EOFError, UnreadableError, OSError) as error:
        channel.close()
        raise RequestError("busy", f"the model's process ended: {cleaned(str(error), 200)}; try again") from error
    except BaseException:
        channel.close()
        raise
    return ModelChannel(channel, serving, memory, ended)


async def _serving(channel: Channel[FromGuest]) -> Serving:
    loop = asyncio.get_running_loop()
    while True:
        ready: asyncio.Future[None] = loop.create_future()
        loop.add_reader(channel.fileno(), _wake, ready)
        try:
            await ready
        finally:
            loop.remove_reader(channel.fileno())
        for record in channel.receive():
            if isinstance(record, Serving):
                return record
            if isinstance(record, Refused):
                raise RequestError("busy" if record.busy else "failed", cleaned(record.problem))
            raise UnreadableError("it did not begin with what it serves")


def _wake(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def _share(channel: Channel[FromGuest], size: int) -> mmap.mmap:
    """Make memory of this size, and send it to the model's process."""
    with anonymous_file() as file:
        file.truncate(size)
        seal(file)
        memory = mmap.mmap(file.fileno(), size)
        channel.send(Attach(size), (file.fileno(),))
    return memory

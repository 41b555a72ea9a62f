"""The models that clients can use: which there are, and the channels to their processes."""

from __future__ import annotations

import asyncio
import os
import socket
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from limpet.gateway.channels.answers import item_size
from limpet.gateway.channels.attaching import attached
from limpet.gateway.channels.spans import aligned
from limpet.gateway.errors import RequestError
from limpet.wire.border import cleaned
from limpet.wire.gateway_records import Done, GetModels, Load, NotFound, Opened, OpenModel, Unload
from limpet.wire.gateway_records import Models as Answered
from limpet.wire.guest_records import ALIGN, LARGEST_MEMORY, MOST_WAITING, REAL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.gateway.channels.model_channel import ModelChannel
    from limpet.gateway.errors import Cause
    from limpet.gateway.link import SupervisorLink
    from limpet.wire.gateway_records import ServedModel
    from limpet.wire.guest_records import Serving, TensorFacts

Key: TypeAlias = tuple[str, int | None]
"""Name and version of a model; ``None`` for the version that runs."""

MOST_CHANNELS = 64
"""Models whose memory is shared at once. One that no request uses makes room."""
IDLE = 60.0
"""Seconds after which a channel that no request used is closed, and its memory is free."""
FRESH = 0.5
"""Seconds for which the list of models is not fetched again: anyone may name models that do not exist."""
AGAIN = 0.25
"""Seconds between two requests to the supervisor about a model that cannot be used. Clients try again at once."""
UNKNOWN_OUTPUT = 1 << 20
"""Bytes for an output whose size the model decides."""


class _Refused(NamedTuple):
    until: float
    cause: Cause
    text: str


class Models:
    """Models by name. ``request_bytes``: the largest request."""

    def __init__(self, supervisor: SupervisorLink, request_bytes: int) -> None:
        self._supervisor = supervisor
        self._request_bytes = request_bytes
        self._channels: dict[Key, ModelChannel] = {}
        self._refused: dict[Key, _Refused] = {}
        self._opening: dict[Key, asyncio.Task[ModelChannel]] = {}
        self._listing: asyncio.Task[list[ServedModel]] | None = None
        self._listed: list[ServedModel] = []
        self._fresh_until = 0.0
        self._timer: asyncio.TimerHandle | None = None

    async def listed(self) -> Sequence[ServedModel]:
        """Return all models that clients can use or load."""
        if monotonic() < self._fresh_until:
            return self._listed
        if self._listing is None:
            self._listing = asyncio.create_task(self._list())
        return await asyncio.shield(self._listing)

    async def _list(self) -> list[ServedModel]:
        try:
            self._listed = (await self._supervisor.ask(GetModels, Answered)).models
            self._fresh_until = monotonic() + FRESH
        finally:
            self._listing = None
        return self._listed

    async def find(self, name: str, version: int | None) -> ServedModel:
        """Return the model of this name. Without a version, return the one that clients get. ``RequestError``."""
        found = [one for one in await self.listed() if one.name == name and version in (None, one.version)]
        if not found:
            which = "" if version is None else f" version {version}"
            raise RequestError(
                "unknown", f'model "{name}"{which} does not exist here; /v2/repository/index has all'
            )
        return max(found, key=lambda one: (bool(one.pipelines), one.ready, one.version))

    def open_channel(self, name: str, version: int | None) -> ModelChannel | None:
        """Return the channel to a model, ``None`` if there is none yet."""
        return self._channels.get((name, version))

    async def channel(self, name: str, version: int | None) -> ModelChannel:
        """Return the channel to a model. ``RequestError`` if it is not there or not ready."""
        key = (name, version)
        found = self._channels.get(key)
        if found is not None:
            return found
        refused = self._refused.get(key)
        if refused is not None and monotonic() < refused.until:
            raise RequestError(refused.cause, refused.text)
        opening = self._opening.get(key)
        if opening is None:
            opening = self._opening[key] = asyncio.create_task(self._open(key))
            opening.add_done_callback(_retrieve)
        return await asyncio.shield(opening)

    async def load(self, name: str, version: int | None) -> None:
        """Have a model of the store loaded. ``RequestError`` says why not."""
        await self._change(partial(Load, name=name, version=version))

    async def unload(self, name: str, version: int | None) -> None:
        """Have a model of the store unloaded. ``RequestError`` says why not."""
        await self._change(partial(Unload, name=name, version=version))

    async def _change(self, request: partial[Load] | partial[Unload]) -> None:
        try:
            done = await self._supervisor.ask(lambda number: request(number=number), Done)
        finally:
            self._fresh_until = 0.0
            self._refused.clear()
        if done.problem:
            raise RequestError("invalid", cleaned(done.problem))

    async def _open(self, key: Key) -> ModelChannel:
        name, version = key
        try:
            await self.find(name, version)
            self._make_room()
            answer, fd = await self._supervisor.ask_socket(lambda number: OpenModel(number, name, version))
            if fd is None:
                assert isinstance(answer, Opened | NotFound)
                cause: Cause = "busy" if isinstance(answer, Opened) else "unknown"
                text = f'model "{name}" cannot be used now: {cleaned(answer.problem)}'
                self._refused[key] = _Refused(monotonic() + AGAIN, cause, text)
                raise RequestError(cause, text)
            channel = await attached(_socket(fd), self._memory_size, partial(self._forget, key))
            self._channels[key] = channel
            self._refused.pop(key, None)
        finally:
            del self._opening[key]
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(IDLE, self._close_idle)
        return channel

    def _make_room(self) -> None:
        if len(self._channels) + len(self._opening) <= MOST_CHANNELS:
            return
        idle = [channel for channel in self._channels.values() if channel.idle]
        if not idle:
            raise RequestError("busy", f"{MOST_CHANNELS} models are in use already; try again")
        min(idle, key=lambda channel: channel.last_used).close("another model needs its room")

    def _close_idle(self) -> None:
        now = monotonic()
        for channel in list(self._channels.values()):
            if channel.idle and channel.last_used <= now - IDLE:
                channel.close("no request used it")
            elif channel.is_stuck(now):
                channel.close("its process does not answer")
        self._timer = None
        if self._channels:
            self._timer = asyncio.get_running_loop().call_later(IDLE, self._close_idle)

    def _forget(self, key: Key, channel: ModelChannel) -> None:
        if self._channels.get(key) is channel:
            del self._channels[key]

    def _memory_size(self, serving: Serving) -> int:
        one = request_size(serving)
        largest = min(LARGEST_MEMORY, 4 * self._request_bytes)
        return min(max(min(one * MOST_WAITING, largest), one), LARGEST_MEMORY)


def request_size(serving: Serving) -> int:
    """Return the bytes that the tensors of the largest request take."""
    rows = serving.batch if serving.batch > 1 else 0
    return sum(largest(facts, rows) for facts in (*serving.inputs, *serving.outputs))


def largest(facts: TensorFacts, rows: int) -> int:
    """Return the bytes that a tensor takes at most, with its alignment. ``rows``: windows, 0 without a batch."""
    size = max(item_size(facts.dtype), item_size(REAL) if facts.scale else 0)
    shape = [rows, *facts.shape[1:]] if rows else facts.shape
    for dimension in shape:
        if dimension < 0:
            return UNKNOWN_OUTPUT
        size *= dimension
    return aligned(size) + ALIGN


def _retrieve(task: asyncio.Task[ModelChannel]) -> None:
    """Take the task's error, which those who wait for it have: a client may be gone meanwhile."""
    if not task.cancelled():
        task.exception()


def _socket(fd: int) -> socket.socket:
    try:
        return socket.socket(fileno=fd)
    except OSError:
        os.close(fd)
        raise

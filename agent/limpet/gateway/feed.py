"""What happens on the device, as it happens: one subscription to the supervisor, for all clients of the gateway.

There is no subscription without a client. It ends a few seconds after the last client has left.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, NamedTuple

import msgspec
from msgspec import Meta

from limpet.errors import LimpetError, UnreadableError
from limpet.gateway.link import BusyError
from limpet.untrusted import reading
from limpet.wire.gateway_records import Watch, Watching

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from limpet.gateway.link import SupervisorLink

log = logging.getLogger(__name__)

LARGEST_LINE = 1 << 21
LINGER = 5.0
"""Seconds for which the subscription goes on without a client."""
RETRY = 0.5
"""Seconds between two attempts to subscribe."""
MOST_WAITING, MOST_BYTES = 2000, 1 << 19
"""Messages, and their bytes, that may wait for one client. What comes after that is missed."""
MOST_EVENTS, MOST_LINES = 50, 200
"""Events, and lines of the log, that are kept for clients that come later."""
_FORGOTTEN = frozenset({"health", "model"})
"""Kinds whose last message is forgotten if the pipeline is gone."""


class Item(NamedTuple):
    """A message.

    ``line``: a JSON object without a line break, ``{"topic": ..., "message": ...}`` or ``{"missed": n}``.
    ``kind`` is ``status``, ``result``, ``event``, ``health``, ``model``, ``input``, ``log`` or ``missed``.
    ``pipelines``: those that it is about. It is empty for the whole device. ``missed``: how many messages this one
    stands for.
    """

    kind: str
    topic: str
    line: bytes
    pipelines: tuple[str, ...] = ()
    missed: int = 0


class _Message(msgspec.Struct):
    """What is read of a message: of which pipelines it is. Health of the device lists all of them."""

    pipelines: dict[str, str] | list[str] = []


class _Line(msgspec.Struct):
    """A line of the supervisor, see ``limpet.delivery.monitor_socket``."""

    topic: str = ""
    message: msgspec.Raw = msgspec.Raw(b"null")
    missed: Annotated[int, Meta(ge=0, le=1 << 53)] = 0


_line = msgspec.json.Decoder(_Line)
_message = msgspec.json.Decoder(_Message)


def parse(line: bytes) -> Item:
    """Return the message of a line. ``UnreadableError``."""
    with reading("a line of the daemon"):
        found = _line.decode(line)
        if not found.topic:
            if not found.missed:
                raise UnreadableError("a line of the daemon says nothing")
            return missed_item(found.missed)
        kind, *names = found.topic.split("/")
        pipelines = tuple(_message.decode(found.message).pipelines) if kind == "input" else tuple(names[:1])
    return Item(kind, found.topic, line.rstrip(b"\n"), pipelines)


def missed_item(count: int) -> Item:
    """Return the message that a client missed so many messages."""
    return Item("missed", "", b'{"missed":%d}' % count, missed=count)


class _State:
    """What a client needs to begin: the last message of each state, the last events, the last lines of the log."""

    def __init__(self) -> None:
        self._last: dict[str, Item] = {}
        self._events: deque[Item] = deque(maxlen=MOST_EVENTS)
        self._lines: deque[Item] = deque(maxlen=MOST_LINES)

    def clear(self) -> None:
        for kept in (self._last, self._events, self._lines):
            kept.clear()

    def take(self, item: Item) -> None:
        if item.kind == "event":
            self._events.append(item)
        elif item.kind == "log":
            self._lines.append(item)
        elif item.kind not in {"result", "missed"}:
            self._last[item.topic] = item
            if item.topic == "health":
                self._keep(item)

    def _keep(self, health: Item) -> None:
        """Forget pipelines that the device does not have any more."""
        with reading("health of the device"):
            there = set(_message.decode(_line.decode(health.line).message).pipelines)
        self._last = {
            topic: item
            for topic, item in self._last.items()
            if item.kind not in _FORGOTTEN or there.issuperset(item.pipelines)
        }

    def last(self) -> list[Item]:
        return list(self._last.values())

    def all(self) -> list[Item]:
        return [*self._last.values(), *self._events, *self._lines]


class Subscription:
    """What one client wants to see. ``read`` it in time."""

    def __init__(self, wants: Callable[[Item], bool], state: _State) -> None:
        self._wants = wants
        self._state = state
        self._waiting: deque[Item] = deque()
        self._bytes = 0
        self._missed = 0
        self._news = asyncio.Event()
        self._extend([item for item in state.all() if wants(item)])

    def put(self, item: Item) -> None:
        """Add a message if the client wants it, or count it as missed."""
        if not item.missed and not self._wants(item):
            return
        if len(self._waiting) >= MOST_WAITING or self._bytes >= MOST_BYTES:
            self._missed += item.missed or 1
        else:
            self._extend([item])

    def _extend(self, items: list[Item]) -> None:
        self._waiting.extend(items)
        self._bytes += sum(len(item.line) for item in items)
        if items:
            self._news.set()

    async def read(self) -> list[Item]:
        """Return at least one message, oldest first, as soon as there is one.

        Its first messages are the state of everything. After missed messages the state comes again.
        """
        await self._news.wait()
        self._news.clear()
        items = list(self._waiting)
        self._waiting.clear()
        self._bytes = 0
        if self._missed:
            items.append(missed_item(self._missed))
            items += [item for item in self._state.last() if self._wants(item)]
            self._missed = 0
        return items


class Feed:
    """Passes on what the supervisor sends, to all clients. ``linger``: seconds without one until it ends."""

    def __init__(self, supervisor: SupervisorLink, linger: float = LINGER) -> None:
        self._supervisor = supervisor
        self._linger = linger
        self._subscriptions: set[Subscription] = set()
        self._state = _State()
        self._task: asyncio.Task[None] | None = None

    @contextmanager
    def subscribe(self, wants: Callable[[Item], bool] = lambda _item: True) -> Iterator[Subscription]:
        """Have messages that ``wants`` accepts passed on, until the ``with`` block ends. The state comes first."""
        subscription = Subscription(wants, self._state)
        self._subscriptions.add(subscription)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)

    async def _run(self) -> None:
        try:
            while self._subscriptions:
                await self._turn()
        except Exception:
            log.exception("a bug in the stream of the daemon")
        finally:
            self._state.clear()
            self._task = None

    async def _turn(self) -> None:
        """Pass on what the supervisor sends on one connection."""
        try:
            ended = await self._read_all(await self._connect())
        except (OSError, LimpetError) as error:
            log.warning("the stream of the daemon broke: %s", error)
            ended = True
        if ended and self._subscriptions:
            await asyncio.sleep(RETRY)
            self._put(missed_item(1))  # At least one. The state comes again.

    async def _connect(self) -> socket.socket:
        answer, fd = await self._supervisor.ask_socket(Watch)
        if not isinstance(answer, Watching) or fd is None:
            raise BusyError(answer.problem or "the daemon sends no stream now")
        return socket.socket(fileno=fd)

    async def _read_all(self, connection: socket.socket) -> bool:
        """Pass lines on. Return whether the supervisor ended them.

        Otherwise no client was there for a while.
        """
        reader, writer = await asyncio.open_unix_connection(sock=connection, limit=LARGEST_LINE)
        watchdog = asyncio.get_running_loop().create_task(self._wait_until_unused(writer))
        self._state.clear()
        try:
            while line := await reader.readline():
                self._put(parse(line))
        except ValueError as error:
            raise UnreadableError(f"a line of the daemon is longer than {LARGEST_LINE} bytes") from error
        finally:
            unused = watchdog.done()
            watchdog.cancel()
            writer.close()
        return not unused

    async def _wait_until_unused(self, writer: asyncio.StreamWriter) -> None:
        """End the connection once no client has been there at two looks in a row."""
        unused = False
        while not (unused and not self._subscriptions):
            unused = not self._subscriptions
            await asyncio.sleep(self._linger)
        writer.close()

    def _put(self, item: Item) -> None:
        self._state.take(item)
        for subscription in self._subscriptions:
            subscription.put(item)

"""What a person who watches the device sees: all that the bus carries, and figures that are newer than its health.

Each watcher has its own cursor. Without a watcher nothing here costs anything.
"""

from __future__ import annotations

from collections import deque
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import msgspec

from limpet.contracts.messages import (
    EventMessage,
    InputMessage,
    LogMessage,
    PipelineHealth,
    PipelineRemoved,
    ResultMessage,
    SnapshotMessage,
)
from limpet.delivery.mqtt.topics import subtopic

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from limpet.contracts.messages import DeviceHealth, Message, ModelReported
    from limpet.delivery.bus import Bus, Cursor

Shown: TypeAlias = (
    "ResultMessage | EventMessage | PipelineHealth | DeviceHealth | ModelReported | InputMessage | LogMessage"
)

MOST_EVENTS, MOST_LINES = 50, 200
"""Events, and lines of the log, that are remembered for those who watch later."""
AT_ONCE = 20_000
"""Messages that are read of the bus at once, which is all that it can hold."""


class _Newest(msgspec.Struct):
    """The newest message of a topic, and its number."""

    number: int
    message: Shown


class Monitor:
    """Any thread may watch. ``show`` and ``keep`` are the supervisor's to call."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._lock = Lock()
        self._newest: dict[str, _Newest] = {}
        self._count = 0
        self._events: deque[EventMessage] = deque(maxlen=MOST_EVENTS)
        self._lines: deque[LogMessage] = deque(maxlen=MOST_LINES)
        self._lines_shown = 0
        self._watches: list[Watch] = []

    @property
    def watched(self) -> bool:
        """Whether anyone watches."""
        return bool(self._watches)

    def append(self, event: EventMessage) -> None:
        """Put an event on the bus, and remember it for those who come later."""
        self._events.append(event)
        self._bus.append(event)

    def show(self, message: InputMessage | PipelineHealth) -> None:
        """Show watchers a message that does not go on the bus, in place of the one before of its topic."""
        with self._lock:
            self._count += 1
            self._newest[topic_of(message)] = _Newest(self._count, message)

    def log(self, line: LogMessage) -> None:
        """Show watchers a line of the log, and remember it for those who come later."""
        with self._lock:
            self._lines.append(line)
            self._lines_shown += 1

    def keep(self, sources: Collection[str], pipelines: Collection[str]) -> None:
        """Forget what was shown of sources and pipelines that are gone."""
        topics = {*(f"input/{name}" for name in sources), *(f"health/{name}" for name in pipelines)}
        with self._lock:
            self._newest = {topic: one for topic, one in self._newest.items() if topic in topics}

    def watch(self) -> Watch:
        """Begin to watch, with the state of everything."""
        before = list(self._events)
        watch = Watch(
            self._bus, self._bus.subscribe(), before, _Beside(self._shown_since, self._lines_since), self._end
        )
        self._watches.append(watch)
        return watch

    def _end(self, watch: Watch) -> None:
        self._watches.remove(watch)

    def _shown_since(self, number: int) -> tuple[int, list[Shown]]:
        with self._lock:
            return self._count, [one.message for one in self._newest.values() if one.number > number]

    def _lines_since(self, number: int) -> tuple[int, list[LogMessage]]:
        with self._lock:
            new = min(self._lines_shown - number, len(self._lines))
            return self._lines_shown, list(self._lines)[len(self._lines) - new :]


class _Beside(NamedTuple):
    """What is shown beside the bus. Each takes the number that it returned before, and returns what came since."""

    state: Callable[[int], tuple[int, list[Shown]]]
    lines: Callable[[int], tuple[int, list[LogMessage]]]


class Watch:
    """One watcher's place. One thread uses it; ``wake`` is for any thread."""

    def __init__(
        self,
        bus: Bus,
        cursor: Cursor,
        before: list[EventMessage],
        beside: _Beside,
        end: Callable[[Watch], None],
    ) -> None:
        self._bus = bus
        self._cursor = cursor
        self._before: list[Shown] = list(before)
        self._beside = beside
        self._end = end
        self._shown = self._lines = 0
        self._missed = 0

    def read(self) -> list[Shown]:
        """Return what is new, without waiting. The bus keeps none of it for this watcher any longer."""
        messages, self._before = [*self._before, *_visible(self._cursor.read(AT_ONCE))], []
        self._cursor.commit()
        self._shown, shown = self._beside.state(self._shown)
        self._lines, lines = self._beside.lines(self._lines)
        return [*messages, *shown, *lines]

    def state(self) -> list[Shown]:
        """Return the state of everything again, for a watcher that missed messages."""
        self._shown, shown = self._beside.state(0)
        return [*_visible(self._bus.snapshot()), *shown]

    def newly_missed(self) -> int:
        """Return how many messages were dropped since the last call, before they were read."""
        before, self._missed = self._missed, self._cursor.missed
        return self._missed - before

    def wait(self, seconds: float) -> None:
        """Wait until there is something new on the bus, ``wake`` is called, or so many seconds are over."""
        self._cursor.wait(seconds)

    def wake(self) -> None:
        """End the wait, or the next one."""
        self._cursor.wake()

    def close(self) -> None:
        """Watch no longer."""
        self._bus.close(self._cursor)
        self._end(self)


def _visible(messages: Iterable[Message]) -> list[Shown]:
    """Return what is shown: that a pipeline was removed is an event, too. Pictures are not for the monitor."""
    return [message for message in messages if not isinstance(message, PipelineRemoved | SnapshotMessage)]


def topic_of(message: Shown) -> str:
    """Return what would follow ``limpet/DEVICE/`` in the topic of a message."""
    if isinstance(message, LogMessage):
        return "log"
    return f"input/{message.source}" if isinstance(message, InputMessage) else subtopic(message)


def is_result(message: Shown) -> bool:
    """Whether a message is one of many of its kind, of which some may be left out."""
    return isinstance(message, ResultMessage)

"""The bus: a bounded, append-only log of messages, with a cursor for each consumer and a snapshot of the state.

The log holds what some consumer has not committed. If it is full, the oldest messages go; each cursor counts what
it missed. Nothing here waits for a consumer, so that a slow one holds up neither the daemon nor the others.

Pictures are not in the log: of each pipeline the newest replaces the one before, and a slow consumer misses those
in between. So they never push results out.

The snapshot is what a late consumer needs to begin: the last message of each kind of state. A cursor hands it over
before all else, and again after it missed messages, as a change of state may have been among them.
"""

from __future__ import annotations

from collections import deque
from threading import Event, Lock
from typing import TYPE_CHECKING

import msgspec

from limpet.contracts.messages import (
    DeviceHealth,
    ModelReported,
    PipelineHealth,
    PipelineRemoved,
    ResultMessage,
    SnapshotMessage,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from limpet.contracts.messages import Message

MOST_MESSAGES = 20_000
"""Messages that may wait for the slowest consumer."""
MOST_BYTES = 32 << 20
"""Bytes in those: outputs of results, and all of other messages. What else a result has is small."""
MEMORY_PER_BYTE = 10
"""Bytes of memory for each byte of JSON of a message that is no result: a histogram is many small objects."""
UNKNOWN = 1 << 16
"""Bytes that are counted for a message that cannot be written as JSON."""
_JSON = msgspec.json.Encoder()


class Bus:
    """Any thread may append and read. Positions count messages from the first one that was ever appended."""

    def __init__(self, most_messages: int = MOST_MESSAGES, most_bytes: int = MOST_BYTES) -> None:
        self._most_messages, self._most_bytes = most_messages, most_bytes
        self._lock = Lock()
        self._log: deque[Message] = deque()
        self._first = 0
        """Position of the log's first message."""
        self._bytes = 0
        self._sizes: dict[int, int] = {}
        """Bytes of the messages that are no results, by their positions."""
        self._state: dict[tuple[type[Message], str], Message] = {}
        self._pictures: dict[str, tuple[int, SnapshotMessage]] = {}
        """The newest picture of each pipeline, and its number."""
        self._pictured = 0
        """How many pictures there have been."""
        self._cursors: list[Cursor] = []

    def append(self, message: Message) -> None:
        """Add a message. Waits for no consumer."""
        self.extend((message,))

    def extend(self, messages: Iterable[Message]) -> None:
        """Add messages, oldest first. Waits for no consumer."""
        with self._lock:
            for message in messages:
                if isinstance(message, SnapshotMessage):
                    self._pictured += 1
                    self._pictures[message.pipeline] = self._pictured, message
                    continue
                self._log.append(message)
                if isinstance(message, ResultMessage):
                    self._bytes += _output_bytes(message)
                else:
                    self._append_other(message)
            while len(self._log) > self._most_messages or self._bytes > self._most_bytes:
                self._drop_first()
            for cursor in self._cursors:
                if cursor.asleep:
                    cursor.wake()
            if not self._cursors:
                self._trim()

    def snapshot(self) -> list[Message]:
        """Return the last message of each kind of state."""
        with self._lock:
            return self._whole_state()

    def subscribe(self) -> Cursor:
        """Return a cursor that reads the snapshot and all messages from now on."""
        with self._lock:
            cursor = Cursor(self, self._end, self._whole_state())
            cursor.pictured = self._pictured
            self._cursors.append(cursor)
        return cursor

    def reopen(self, before: Cursor) -> Cursor:
        """Return a cursor that reads the snapshot and what ``before`` did not commit. ``before`` reads no more."""
        with self._lock:
            cursor = Cursor(self, before.committed, self._whole_state(), before.missed_at_commit)
            cursor.pictured = self._pictured
            self._cursors[self._cursors.index(before)] = cursor
            before.closed = True
        before.wake()
        return cursor

    def close(self, cursor: Cursor) -> int:
        """End a cursor. Return how many messages there were that it did not commit."""
        with self._lock:
            uncommitted = self._end - max(cursor.committed, self._first)
            self._cursors.remove(cursor)
            cursor.closed = True
            self._trim()
        cursor.wake()
        return uncommitted

    # --- for cursors

    def read(self, cursor: Cursor, most: int) -> list[Message]:
        """Return the snapshot if it is due, and the next messages; move the cursor behind them."""
        with self._lock:
            if cursor.closed:
                return []
            if cursor.position < self._first:
                cursor.missed_since_commit += self._first - cursor.position
                cursor.position = self._first
                cursor.snapshot, cursor.pictured = self._whole_state(), self._pictured
            state, cursor.snapshot = cursor.snapshot, []
            pictures = self._pictures_since(cursor.pictured)
            cursor.pictured = self._pictured
            begin = cursor.position - self._first
            end = min(begin + most, len(self._log))
            cursor.position = self._first + end
            return state + self._slice(begin, end) + pictures

    def commit(self, cursor: Cursor) -> None:
        """Take note that a cursor is done with all that it has read."""
        with self._lock:
            if not cursor.closed:
                cursor.committed = cursor.position
                cursor.missed_at_commit += cursor.missed_since_commit
                cursor.missed_since_commit = 0
                self._trim()

    def waiting(self, cursor: Cursor, position: int) -> int:
        """Return how many messages are behind a position, for a cursor that is open."""
        with self._lock:
            return 0 if cursor.closed else self._end - max(position, self._first)

    def has_picture(self, cursor: Cursor) -> bool:
        """Whether there is a picture that a cursor has not read."""
        return cursor.pictured < self._pictured and not cursor.closed

    def missed(self, cursor: Cursor) -> int:
        """Return how many messages were dropped before a cursor read them."""
        with self._lock:
            unseen = max(self._first - cursor.position, 0)
            return cursor.missed_at_commit + cursor.missed_since_commit + unseen

    # --- under the lock

    @property
    def _end(self) -> int:
        return self._first + len(self._log)

    def _whole_state(self) -> list[Message]:
        return [*self._state.values(), *(picture for _, picture in self._pictures.values())]

    def _pictures_since(self, number: int) -> list[Message]:
        if number == self._pictured:
            return []
        return [picture for at, picture in self._pictures.values() if at > number]

    def _slice(self, begin: int, end: int) -> list[Message]:
        log = self._log
        return list(log) if begin == 0 and end == len(log) else [log[index] for index in range(begin, end)]

    def _append_other(self, message: Message) -> None:
        """Count a message that is no result, the last one of the log, and remember it if it is a state."""
        self._sizes[self._end - 1] = size = _size(message)
        self._bytes += size
        if (key := _state_key(message)) is not None:
            if isinstance(message, PipelineRemoved):
                for kind in (PipelineHealth, ModelReported):
                    self._state.pop((kind, message.pipeline), None)
            else:
                self._state.pop((PipelineRemoved, key[1]), None)
            self._state[key] = message

    def _drop_first(self) -> None:
        message = self._log.popleft()
        self._bytes -= (
            _output_bytes(message) if isinstance(message, ResultMessage) else self._sizes.pop(self._first)
        )
        self._first += 1

    def _trim(self) -> None:
        """Forget what every consumer has committed."""
        needed = min([cursor.committed for cursor in self._cursors], default=self._end)
        if needed == self._end:  # the usual case, and the quickest
            self._log.clear()
            self._sizes.clear()
            self._first, self._bytes = needed, 0
        while self._first < needed:
            self._drop_first()


class Cursor:
    """A consumer's place on the bus; a ``limpet.contracts.reporter.Feed``. Its fields are the bus's to change."""

    def __init__(self, bus: Bus, position: int, snapshot: list[Message], missed: int = 0) -> None:
        self.position = self.committed = position
        self.snapshot = snapshot
        self.missed_at_commit, self.missed_since_commit = missed, 0
        self.asleep = self.closed = False
        self.pictured = 0
        self._bus = bus
        self._awake = Event()

    @property
    def waiting(self) -> int:
        """How many messages are not read yet."""
        return self._bus.waiting(self, self.position)

    @property
    def uncommitted(self) -> int:
        """How many messages are not committed yet."""
        return self._bus.waiting(self, self.committed)

    @property
    def missed(self) -> int:
        """How many messages were dropped before they were read."""
        return self._bus.missed(self)

    def read(self, most: int = 1000) -> list[Message]:
        """Return the snapshot if it is due, and at most ``most`` messages, oldest first. Does not wait."""
        return self._bus.read(self, most)

    def commit(self) -> None:
        """Declare that all that was read is kept or sent."""
        self._bus.commit(self)

    def wait(self, seconds: float | None = None) -> None:
        """Wait until there is a message to read, ``wake`` is called, or so many seconds are over."""
        self.asleep = True
        news = self.snapshot or self.waiting or self._bus.has_picture(self)
        if not news:  # looked at after ``asleep`` is set: no message comes unnoticed
            self._awake.wait(seconds)
        self.asleep = False
        self._awake.clear()

    def wake(self) -> None:
        """End the wait, or the next one. From any thread."""
        self._awake.set()


def _output_bytes(result: ResultMessage) -> int:
    """Return the bytes of an output that came from a worker."""
    output = result.output
    return len(output) if isinstance(output, msgspec.Raw) else 0


def _size(message: Message) -> int:
    """Return about how many bytes of memory a message takes that is no result."""
    try:
        return MEMORY_PER_BYTE * len(_JSON.encode(message))
    except (TypeError, ValueError, OverflowError, RecursionError):  # the reporters say that it is lost
        return UNKNOWN


def _state_key(message: Message) -> tuple[type[Message], str] | None:
    """Return what a message is the state of. ``None`` for results and events, of which each one counts."""
    if isinstance(message, (PipelineHealth, ModelReported, PipelineRemoved)):
        return type(message), message.pipeline
    return (DeviceHealth, "") if isinstance(message, DeviceHealth) else None

"""The outbox's thread: takes messages from its feed, encodes, batches and keeps them, and has them sent."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import Counter, deque
from contextlib import suppress
from datetime import datetime, timezone
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from limpet.contracts.messages import EventMessage, Message, ResultMessage, SnapshotMessage
from limpet.delivery.mqtt.batch import Batch, Batcher
from limpet.delivery.mqtt.scheduler import Scheduler
from limpet.delivery.mqtt.topics import subtopic
from limpet.delivery.outbox import Entry
from limpet.delivery.outbox.log_records import Item
from limpet.delivery.outbox.queue import Outbox
from limpet.delivery.outbox.write_ahead_log import WriteAheadLog
from limpet.device import clock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from limpet.contracts.reporter import ReporterContext
    from limpet.delivery.mqtt.sender import Sender
    from limpet.delivery.mqtt.settings import Config

log = logging.getLogger(__name__)

MOST_NOTES = 1000
"""Its own events that may wait for this thread. Beyond, the oldest are shed."""

MOST_READ = 5000
"""Messages that are read from the feed at once."""

TICK = 0.005
"""Seconds between two looks at the feed while messages keep coming: fewer wake-ups, hardly any delay."""

IDLE = 1.0
"""Seconds between two looks at the disk while nothing happens."""

AFTER_BUG = 1.0
"""Seconds of pause after an unexpected exception."""

DRAIN = 3.0
"""Seconds to send what is left when the program stops."""


class OutboxFigures(NamedTuple):
    """The outbox at the end of the last turn. ``oldest`` is a ``time.monotonic``."""

    depth: int
    size: int
    oldest: float | None
    shed: dict[str, int]
    held_back: int
    accepted: int


class OutboxThread:
    """Owns the outbox, and reads the reporter's feed into it."""

    def __init__(self, config: Config, context: ReporterContext, root: str, sender: Sender) -> None:
        self.figures = OutboxFigures(0, 0, None, {}, 0, 0)
        self._origin = context.origin
        self._feed = context.feed
        self._root = root
        self._sender = sender
        rules = {"event": config.outbox.events, "result": config.outbox.results}
        self._persistent = {kind for kind, each in rules.items() if each.keep != "memory"}
        persists = bool(self._persistent)
        self._outbox = Outbox(config.outbox, context.state if persists else None)
        self._wal = WriteAheadLog(context.runtime) if persists else None
        batch = (config.batch_count, config.batch_bytes)
        self._scheduler = Scheduler(self._outbox, root, config.replay, batch, config.bytes_per_hour)
        self._batcher = Batcher(config.batch_count, config.batch_age, config.batch_bytes)
        self._notes: deque[Message] = deque()
        self._encode = msgspec.json.Encoder().encode
        self._shed: Counter[str] = Counter()
        self._accepted = 0
        self._stop_by: float | None = None
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wake(self) -> None:
        """Have the thread look at what the sender has done."""
        self._feed.wake()

    def stop(self) -> None:
        """Send what can be sent within a few seconds, then end the sender and this thread."""
        self._stop_by = time.monotonic() + DRAIN
        self._feed.wake()
        self._thread.join(3 * DRAIN)

    # --- on the thread

    def _run(self) -> None:
        self._safely(self._begin)
        while not self._done(time.monotonic()):
            busy = self._safely(self._turn)
            if busy and self._stop_by is None:
                time.sleep(TICK)
            else:
                self._wait()
        self._sender.stop(DRAIN / 2)
        self._safely(self._close)

    def _safely(self, step: Callable[[float], bool | None]) -> bool:
        """Do a step. An exception in it does not end the thread: without it nothing would be sent any more."""
        try:
            return bool(step(time.monotonic()))
        except Exception:
            log.exception("a bug in the outbox; going on")
            time.sleep(AFTER_BUG)
            return False

    def _begin(self, now: float) -> None:
        self._outbox.open(now)
        if self._wal:
            self._outbox.restore(self._wal.read(now))
            self._report_damage(self._wal)

    def _done(self, now: float) -> bool:
        if self._stop_by is None:
            return False
        waiting = bool(self._feed.waiting or self._notes) or self._batcher.since() < math.inf
        sent = not self._outbox.depth or not self._sender.connected
        return (not waiting and (sent or now > self._stop_by)) or now > self._stop_by + DRAIN

    def _close(self, now: float) -> None:
        self._take_acknowledgements(now)
        self._outbox.close()
        if self._wal:
            self._wal.close(now, self._outbox.unsafe_since())
        if depth := self._outbox.depth:
            fate = "are kept" if self._outbox.unsafe_since() == math.inf else "may be lost"
            log.warning("%d messages had not been acknowledged when the program stopped; they %s", depth, fate)

    def _turn(self, now: float) -> bool:
        """Do what there is to do; return whether messages had come in."""
        self._take_acknowledgements(now)
        busy = self._take_in(now)
        for batch in self._batcher.due(now) if self._stop_by is None else self._batcher.flush(now):
            self._keep_results(batch)
        if self._sender.connected and self._scheduler.hand_over(self._sender.publisher.state_bytes, now):
            self._sender.wake()
        self._outbox.maintain(now, away=not self._sender.connected)
        if self._wal:
            self._wal.advance(now, self._safe(now))
        self._report_notices()
        self._count()
        return busy

    def _wait(self) -> None:
        now = time.monotonic()
        due = [now + IDLE, self._outbox.next_due(), self._batcher.next_due()]
        if self._sender.connected:
            due.append(self._scheduler.next_due())
        timeout = 0.05 if self._stop_by else min(due) - now
        if timeout > 0:
            self._feed.wait(timeout)

    def _take_acknowledgements(self, now: float) -> None:
        """Forget what has arrived. On a new connection, begin again with all that has not."""
        # ``ready`` is read first: what the connection before has acknowledged is then in ``acked``.
        ready, acked = self._sender.publisher.ready, self._sender.publisher.acked
        self._outbox.ack([acked.popleft() for _ in range(len(acked))])
        if ready is not self._scheduler.ready:
            self._scheduler.start_connection(ready, now)

    def _take_in(self, now: float) -> bool:
        messages = self._feed.read(MOST_READ)
        messages += [self._notes.popleft() for _ in range(len(self._notes))]
        if not messages:
            return False
        try:
            self._keep(messages, now)
        except Exception:
            self._shed["lost to a bug"] += len(messages)
            raise
        finally:
            self._feed.commit()
        return True

    def _keep(self, messages: Iterable[Message], now: float) -> None:
        """Keep results and events in the write-ahead log and the outbox, so that the feed needs them no more."""
        items = [item for message in messages if (item := self._item(message))]
        kept = [item for item in items if item.kind in self._persistent]
        if self._wal and kept:
            self._wal.append(kept, now, self._safe(now))
        self._accepted += len(items)
        for item in items:
            if item.kind == "event":
                self._outbox.put(Entry("event", item.pipeline, (item.payload,), now))
            else:
                for batch in self._batcher.add(item.pipeline, item.payload, now):
                    self._keep_results(batch)

    def _item(self, message: Message) -> Item | None:
        """Encode a message that is to be kept. This is the only place where results and events are encoded.

        State goes on to the sender, and so does a picture: the newest wins, so no disk keeps it.
        """
        if isinstance(message, SnapshotMessage):
            self._sender.set_picture(f"{self._root}/{subtopic(message)}", message)
            return None
        try:
            payload = self._encode(message)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            if not self._shed["not encodable"]:
                log.error("a %s cannot be written as JSON and is dropped: %s", type(message).__name__, error)  # noqa: TRY400 - the text is enough
            self._shed["not encodable"] += 1
            return None
        if isinstance(message, ResultMessage):
            return Item("result", message.pipeline, payload)
        if isinstance(message, EventMessage):
            return Item("event", message.pipeline, payload)
        self._sender.set_state(f"{self._root}/{subtopic(message)}", payload, message)
        return None

    def _keep_results(self, batch: Batch) -> None:
        self._outbox.put(Entry("result", batch.key, batch.items, batch.since))

    def _safe(self, now: float) -> float:
        """Return the time before which all that was accepted is acknowledged or on the disk."""
        return min(self._outbox.unsafe_since(), self._batcher.since(), now)

    def _report_notices(self) -> None:
        for event, reason in self._outbox.notices():
            log.warning("%s: %s", event, reason)
            self.note(event, reason)

    def _report_damage(self, wal: WriteAheadLog) -> None:
        for reason in wal.problems:
            log.warning("%s", reason)
            self.note("state_damaged", reason)
        if wal.damaged:
            self._outbox.counts["unknown numbers of messages, write-ahead log damaged"] += wal.damaged
        if wal.refused:
            self._outbox.counts["messages, no pipeline has that name"] += wal.refused

    def note(self, event: str, reason: str) -> None:
        """Report an event of the whole device through this outbox alone. From any thread."""
        now = datetime.now(timezone.utc)
        self._notes.append(
            EventMessage(
                device=self._origin.device,
                boot=self._origin.boot,
                time=now,
                event=event,
                reason=reason,
                clock=clock.mark(now),
            )
        )
        if len(self._notes) > MOST_NOTES:
            with suppress(IndexError):  # the thread may have emptied it meanwhile
                self._notes.popleft()
                self._shed["notes"] += 1
        self._feed.wake()

    def _count(self) -> None:
        self.figures = OutboxFigures(
            self._outbox.depth,
            self._outbox.size,
            self._outbox.oldest(),
            {**self._shed, **self._outbox.counts},
            self._scheduler.held_back,
            self._accepted,
        )

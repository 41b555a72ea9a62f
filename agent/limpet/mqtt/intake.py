"""The outbox thread: takes messages in, encodes, batches and keeps them, and hands them to the sender."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from limpet.messages import DeviceHealth, EventMessage, Message, ModelReported, PipelineHealth, ResultMessage
from limpet.mqtt import batch
from limpet.mqtt.link import WINDOW
from limpet.outbox import Entry

if TYPE_CHECKING:
    from limpet.mqtt.sender import Sender
    from limpet.outbox import Outbox

log = logging.getLogger(__name__)

INBOX = 20_000
"""Messages that may wait for this thread; beyond, the oldest are shed."""

TICK = 0.005
"""Seconds between two looks into the inbox while messages keep coming: fewer wake-ups, hardly any delay."""

DRAIN = 3.0
"""Seconds to send what is left when the program stops."""


class Intake:
    """Owns the outbox. ``add`` is called from another thread, and is all that happens there.

    ``oldest`` is the ``time.monotonic`` of the oldest message that is not acknowledged.
    """

    def __init__(self, root: str, qos: int, batcher: batch.Batcher, outbox: Outbox) -> None:
        self.shed: Counter[str] = Counter()
        self.oldest: float | None = None
        self.sender: Sender
        self.outbox = outbox
        self._root = root
        self._qos = qos
        self._batcher = batcher
        self._inbox: deque[Message] = deque()
        self._encode = msgspec.json.Encoder().encode
        self._asleep = False
        self._awake = threading.Event()
        self._stop_by: float | None = None
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)

    def start(self) -> None:
        """Start the thread; ``sender`` must be there."""
        self._thread.start()

    def add(self, message: Message) -> None:
        """Take a message in. Never blocks, never raises."""
        self._inbox.append(message)
        if len(self._inbox) > INBOX:
            with suppress(IndexError):  # the thread may have emptied it meanwhile
                self._inbox.popleft()
                self.shed["inbox full"] += 1
        if self._asleep:
            self._awake.set()

    def wake(self) -> None:
        """Have the thread look at what the sender has done."""
        self._awake.set()

    def stop(self) -> None:
        """Send what can be sent within a few seconds, then end the sender and this thread."""
        self._stop_by = time.monotonic() + DRAIN
        self._awake.set()
        self._thread.join(2 * DRAIN)

    def _run(self) -> None:
        while not self._done(time.monotonic()):
            busy = self._turn(time.monotonic())
            if busy and self._stop_by is None:
                time.sleep(TICK)
            else:
                self._wait()
        self.sender.stop(DRAIN / 2)
        self._note_acks()
        if self.outbox.depth:
            log.warning("%d messages had not been acknowledged when the program stopped", self.outbox.depth)

    def _done(self, now: float) -> bool:
        if self._stop_by is None:
            return False
        return not self._inbox and (not self.outbox.depth or not self.sender.connected or now > self._stop_by)

    def _turn(self, now: float) -> bool:
        """Do what there is to do; return whether messages had come in."""
        count = len(self._inbox)
        for _ in range(count):
            self._accept(self._inbox.popleft(), now)
        due = self._batcher.due(now) if self._stop_by is None else self._batcher.flush(now)
        for pipeline, items in due:
            self._keep_results(pipeline, items, now)
        self._note_acks()
        self._hand_over()
        self.oldest = self.outbox.oldest()
        return bool(count)

    def _wait(self) -> None:
        self._asleep = True
        due = self._batcher.next_due()
        timeout = 0.05 if self._stop_by else None if due is None else due - time.monotonic()
        if not self._inbox and (timeout is None or timeout > 0):
            self._awake.wait(timeout)
        self._asleep = False
        self._awake.clear()

    def _accept(self, message: Message, now: float) -> None:
        try:
            payload = self._encode(message)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            if not self.shed["not encodable"]:
                log.error("a %s cannot be written as JSON and is dropped: %s", type(message).__name__, error)  # noqa: TRY400 - the text is enough
            self.shed["not encodable"] += 1
            return
        if isinstance(message, ResultMessage):
            for items in self._batcher.add(message.pipeline, payload, now):
                self._keep_results(message.pipeline, items, now)
        elif isinstance(message, EventMessage):
            topic = f"{self._root}/event/{message.pipeline}" if message.pipeline else f"{self._root}/event"
            self.outbox.put(Entry("event", topic, payload, self._qos, 1, now))
        else:
            self.sender.set_state(f"{self._root}/{_state_topic(message)}", payload)

    def _keep_results(self, pipeline: str, items: list[bytes], now: float) -> None:
        topic = f"{self._root}/result/{pipeline}"
        self.outbox.put(Entry("result", topic, batch.join(items), self._qos, len(items), now))

    def _note_acks(self) -> None:
        acked = self.sender.acked
        self.outbox.ack([acked.popleft() for _ in range(len(acked))])

    def _hand_over(self) -> None:
        """Keep up to two windows ready with the sender while it is connected."""
        room = 2 * WINDOW - len(self.sender.ready)
        if self.sender.connected and room > 0 and (parcels := self.outbox.take(room)):
            self.sender.ready.extend(parcels)
            self.sender.wake()


def _state_topic(message: PipelineHealth | DeviceHealth | ModelReported) -> str:
    if isinstance(message, DeviceHealth):
        return "health"
    if isinstance(message, PipelineHealth):
        return f"health/{message.pipeline}"
    return f"model/{message.pipeline}/reported"

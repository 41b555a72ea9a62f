"""What ``limpet run`` shows a person: a line about the pipelines on a terminal, or each result as a line of JSON.

Each is a separate thread in the supervisor, with its own place on the bus.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from threading import Event, Thread
from time import monotonic
from typing import TYPE_CHECKING

import msgspec

from limpet.contracts.messages import ResultMessage
from limpet.device.logs import ERASE
from limpet.errors import UnreadableError
from limpet.watch import plain
from limpet.watch.state import Watched, name_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from typing_extensions import Self

    from limpet.delivery.monitor import Monitor, Shown

log = logging.getLogger(__name__)

EVERY = 1.0
"""Seconds between two lines."""
LEAVING = 5.0
"""Seconds that the reader of results has to take the last ones."""


class StatusLine:
    """Writes one line about all pipelines every second, over the one before. The log goes on above it.

    At the end there is a line for each pipeline.
    """

    def __init__(self, monitor: Monitor, descriptor: int) -> None:
        self._watch = monitor.watch()
        self._descriptor = descriptor
        self._watched = Watched()
        self._ended = Event()
        self._thread = Thread(target=self._run, name="status", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(EVERY)
        self._watch.close()

    def _run(self) -> None:
        turn = 0
        with suppress(OSError):  # the terminal is gone
            while not self._ended.wait(EVERY):
                self._take(self._watch.read())
                width = os.get_terminal_size(self._descriptor).columns - 1
                line = plain.status_line(list(self._watched.devices.values()), monotonic(), width, turn)
                # The cursor stays at the begin: a log line of any process is written over this one.
                os.write(self._descriptor, f"{ERASE}{line}\r".encode())
                turn += 1
            self._take(self._watch.read())
            lines = [f"{line}\n" for line in plain.pipeline_lines(self._watched.devices.values(), monotonic())]
            os.write(self._descriptor, f"{ERASE}{''.join(lines)}".encode())

    def _take(self, messages: Iterable[Shown]) -> None:
        now = monotonic()
        for message in messages:
            with suppress(UnreadableError):  # more pipelines than are shown
                self._watched.take_message(message.device, name_of(message), message, now)


class ResultPrinter:
    """Writes each result as a line of JSON. ``stop`` is called once the reader of the output has ended."""

    def __init__(self, monitor: Monitor, descriptor: int, stop: Callable[[], None]) -> None:
        self._watch = monitor.watch()
        self._descriptor = descriptor
        self._stop = stop
        self._encode = msgspec.json.Encoder().encode
        self._ended = Event()
        self._missed = 0
        self.error: OSError | None = None
        """Why nothing can be written any more: the reader has ended, or a disk is full."""
        self._thread = Thread(target=self._run, name="print", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._watch.wake()
        self._thread.join(LEAVING)
        self._watch.close()
        if self._missed:
            log.error("%d messages were not printed: the reader of standard output is too slow", self._missed)

    def _run(self) -> None:
        try:
            while not self._ended.is_set():
                self._print(self._watch.read())
                self._watch.wait(EVERY)
            self._print(self._watch.read())
        except OSError as error:
            if not isinstance(error, BrokenPipeError):
                log.error("results cannot be printed: %s", error.strerror)  # noqa: TRY400 - the text is enough
            self.error = error
            self._stop()

    def _print(self, messages: Iterable[Shown]) -> None:
        if missed := self._watch.newly_missed():
            log.warning("%d messages are missing before the next result that is printed", missed)
            self._missed += missed
        lines = b"".join(self._line(message) for message in messages if isinstance(message, ResultMessage))
        left = memoryview(lines)
        while left:
            left = left[os.write(self._descriptor, left) :]

    def _line(self, result: ResultMessage) -> bytes:
        try:
            return self._encode(result) + b"\n"
        except (TypeError, ValueError, OverflowError, RecursionError):  # the reporters say that it is lost
            return b""

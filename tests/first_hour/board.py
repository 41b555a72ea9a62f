"""A sensor board at 100 lines a second, whose motion the maker changes."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
from typing import TYPE_CHECKING

from support.ptys import Board

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

RATE = 100.0


class MovingBoard:
    """Sends lines again and again, until it gets others. What no program reads is lost, as on a real board."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._changed = threading.Condition()
        self._lines: Iterator[str] = iter(())
        self._ended = True
        self._closed = False
        os.set_blocking(board.fileno(), False)
        self._thread = threading.Thread(target=self._send)
        self._thread.start()

    def move(self, lines: Sequence[str]) -> None:
        """Send these lines from now on, again and again."""
        self._set(itertools.cycle(lines))

    def rest(self) -> None:
        """Send nothing from now on."""
        self._set(iter(()))

    def move_once(self, lines: Sequence[str], timeout: float) -> None:
        """Wait until a program has opened the port, and send these lines to it once.

        Before them comes an empty line: a program cannot know that the first line which it reads is whole.
        """
        self.rest()
        self._board.wait_opened(timeout)
        time.sleep(1)  # opening goes on for a while: settings, then the flush
        self._set(iter(["", *lines]))
        with self._changed:
            assert self._changed.wait_for(lambda: self._ended, len(lines) / RATE * 3 + 10), (
                "the board stands still"
            )

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _set(self, lines: Iterator[str]) -> None:
        with self._changed:
            self._lines, self._ended = lines, False
            self._changed.notify_all()

    def _send(self) -> None:
        due = time.monotonic()
        while True:
            with self._changed:
                line = next(self._lines, None)
                while line is None and not self._closed:
                    self._ended = True
                    self._changed.notify_all()
                    self._changed.wait()
                    due = time.monotonic()
                    line = next(self._lines, None)
                if self._closed:
                    return
            with contextlib.suppress(BlockingIOError):
                os.write(self._board.fileno(), f"{line}\r\n".encode())
            due += 1 / RATE
            time.sleep(max(0.0, due - time.monotonic()))


@contextlib.contextmanager
def board(path: Path) -> Iterator[MovingBoard]:
    """Plug a board in. It sends nothing yet."""
    with Board(path) as plugged:
        moving = MovingBoard(plugged)
        try:
            yield moving
        finally:
            moving.close()

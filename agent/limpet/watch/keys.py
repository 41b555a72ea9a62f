"""Keys of a terminal, read one by one. The terminal is as it was when the ``with`` block ends."""

from __future__ import annotations

import os
import select
import sys
import termios
import time
import tty
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_NAMES = {
    b"\x1b[A": "up", b"\x1bOA": "up", b"\x1b[B": "down", b"\x1bOB": "down", b"\t": "tab",
    b"\x03": "q", b"\x04": "q",
}  # fmt: skip


@contextmanager
def keys() -> Iterator[Callable[[float], list[str]]]:
    """Yield a function that waits so many seconds for keys and returns their names, if there is a terminal."""
    if not sys.stdin or not sys.stdin.isatty():
        yield _wait
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        yield lambda seconds: _read(descriptor, seconds)
    finally:
        termios.tcsetattr(descriptor, termios.TCSAFLUSH, before)


def _wait(seconds: float) -> list[str]:
    time.sleep(seconds)
    return []


def _read(descriptor: int, seconds: float) -> list[str]:
    if not select.select([descriptor], [], [], seconds)[0]:
        return []
    data = os.read(descriptor, 64)
    if not data:  # the terminal is gone
        return ["q"]
    return [_NAMES[data]] if data in _NAMES else [chr(byte) for byte in data if 0x20 <= byte < 0x7F]

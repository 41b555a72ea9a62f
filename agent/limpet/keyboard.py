"""Keys of a terminal, one by one. Whatever happens, the terminal gets its own mode back."""

from __future__ import annotations

import atexit
import codecs
import os
import re
import select
import signal
import sys
import termios
import tty
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType

    from typing_extensions import Self

_SEQUENCES = {
    "[A": "up",
    "[B": "down",
    "[C": "right",
    "[D": "left",
    "[H": "home",
    "[F": "end",
    "[1~": "home",
    "[4~": "end",
    "[7~": "home",
    "[8~": "end",
    "[5~": "page up",
    "[6~": "page down",
    "[3~": "delete",
    "[1;2C": "shift right",
    "[1;2D": "shift left",
    "OA": "up",
    "OB": "down",
    "OC": "right",
    "OD": "left",
    "OH": "home",
    "OF": "end",
}
_SEQUENCE = re.compile(r"\x1b(\[[0-9;?]*[ -/]*[@-~]|O[@-~])")
_NAMES = {"\r": "enter", "\n": "enter", "\x7f": "backspace", "\b": "backspace", "\x1b": "escape", "\t": "tab"}
_LARGEST = 4096
_ENTER, _LEAVE = b"\x1b[?1049h\x1b[?25l", b"\x1b[?25h\x1b[?1049l"
"""To and from the terminal's other screen, without its cursor."""


def parse(text: str) -> tuple[list[str], str]:
    """Return the keys in a text, and what may be the begin of a sequence.

    A key is its character, or a name such as ``left``. Unknown sequences are left out.
    """
    keys: list[str] = []
    at = 0
    while at < len(text):
        if match := _SEQUENCE.match(text, at):
            if name := _SEQUENCES.get(match[1]):
                keys.append(name)
            at = match.end()
            continue
        if text[at] == "\x1b" and re.fullmatch(r"\x1b(\[[0-9;?]*|O)", text[at:]):
            return keys, text[at:]
        keys.append(_NAMES.get(text[at], text[at]))
        at += 1
    return keys, ""


def _leave(number: int, _frame: FrameType | None) -> None:
    """End by an exception, so that the terminal gets its mode back."""
    sys.exit(128 + number)


class Keyboard:
    """Standard input as keys while its ``with`` block lasts, without echo. Ctrl-C is a signal as ever.

    If standard input is no terminal, there are no keys, and ``read`` waits for its whole time. ``present`` becomes
    false when the terminal is gone. Ctrl-Z gives the terminal back until ``fg``. ``screen``: the program draws on
    the terminal's other screen; at Ctrl-Z that one is left too.
    """

    def __init__(self, *, screen: bool = False) -> None:
        self.present = bool(sys.stdin) and sys.stdin.isatty()
        self._screen = screen
        self._descriptor = sys.stdin.fileno() if self.present else -1
        self._mode: list[Any] = []
        self._decoder = codecs.getincrementaldecoder("utf-8")("ignore")
        self._rest = ""
        self._resumed = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if self.present:
            self._mode = termios.tcgetattr(self._descriptor)
            atexit.register(self._restore)
            handlers = {
                signal.SIGTSTP: self._stop,
                signal.SIGCONT: self._again,
                signal.SIGTERM: _leave,
                signal.SIGHUP: _leave,
            }
            self._before = {
                number: signal.signal(number, handler)
                for number, handler in handlers.items()
                if signal.getsignal(number) != signal.SIG_IGN  # nohup, or a shell without jobs
            }
            tty.setcbreak(self._descriptor, termios.TCSADRAIN)
        return self

    def __exit__(self, *_: object) -> None:
        if self.present:
            for number, handler in self._before.items():
                signal.signal(number, handler)
            atexit.unregister(self._restore)
            self._restore()

    def _restore(self) -> None:
        termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._mode)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        """Give the terminal back, and stop as Ctrl-Z does, until the shell's `fg`."""
        self._restore()
        self._write(_LEAVE)
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, self._stop)
        self._again(0, None)

    def _again(self, _number: int, _frame: FrameType | None) -> None:
        """Take the terminal again after Ctrl-Z and `fg`: the shell has set its own mode."""
        tty.setcbreak(self._descriptor, termios.TCSADRAIN)
        self._write(_ENTER)
        self._resumed = True

    def _write(self, codes: bytes) -> None:
        if self._screen:
            os.write(sys.stdout.fileno(), codes)  # a handler must not touch the buffer

    def resumed(self) -> bool:
        """Return whether the program was stopped since the last call: what was drawn is gone."""
        found, self._resumed = self._resumed, False
        return found

    def descriptors(self) -> list[int]:
        """Return what to ``select`` on: the descriptor of the terminal, if there is one."""
        return [self._descriptor] if self.present else []

    def read(self, timeout: float = 0.0) -> list[str]:
        """Return the keys that were pressed, after waiting up to ``timeout`` seconds for the first one."""
        if not select.select(self.descriptors(), [], [], timeout)[0]:
            keys = ["escape"] if self._rest == "\x1b" else []
            self._rest = "" if keys else self._rest
            return keys
        data = b""
        with suppress(OSError):
            data = os.read(self._descriptor, _LARGEST)
        if not data:  # the terminal is gone
            self.present = False
            return []
        keys, self._rest = parse(self._rest + self._decoder.decode(data))
        return keys

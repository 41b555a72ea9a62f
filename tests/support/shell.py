"""A person's terminal window: bash on a pseudo-terminal, which is typed into and read."""

from __future__ import annotations

import contextlib
import re
import time
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from support.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typing_extensions import Self

_PROMPT = re.compile("\x1e(\\d+)\x1e")
_PIECES = re.compile(r"([\r\n])|\x1b\[[?]?([0-9;]*)([a-zA-Z])|\x1b[()=>].?|([^\r\n\x1b]+)")
"""What a program writes: ends of lines, movements of the cursor, text."""
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Done(NamedTuple):
    """What stands on the screen when a command has ended, and its exit status."""

    text: str
    status: int


class Shell:
    """A window with bash. Each command runs in the folder and the variables that the ones before it left."""

    def __init__(self, folder: Path, environment: Mapping[str, str], columns: int = 140) -> None:
        # bash says that a command has ended: the prompt is its exit status between two separators.
        variables = {
            **environment,
            "TERM": "xterm-256color",
            "PS1": "",
            "PS2": "",
            "PROMPT_COMMAND": r"printf '\036%d\036' $?",
        }
        bash = ["env", "-i", *(f"{name}={value}" for name, value in variables.items())]
        self._terminal = Terminal(
            [*bash, "bash", "--noprofile", "--norc", "--noediting", "-i"], 40, columns, cwd=folder
        )
        self._read = 0
        self._busy = False
        self._wait(30)
        self.run("stty -echo")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(AssertionError):  # it is killed then
            if self._busy:
                self.interrupt(20)
            self.type("exit\n")
        self._terminal.__exit__(*error)

    @property
    def output(self) -> str:
        """All that the running command has written so far, without colours."""
        return _ESCAPE.sub("", self._terminal.raw[self._read :])

    @property
    def folder(self) -> Path:
        """The folder in which the next command runs."""
        return Path(f"/proc/{self._terminal.process.pid}/cwd").readlink()

    def run(self, command: str, timeout: float = 120.0, answers: Mapping[str, str] = MappingProxyType({})) -> Done:
        """Type a command, and wait for its end. ``answers``: what is typed, by question (regular expression)."""
        self._enter(command)
        return self._wait(timeout, answers)

    def start(self, command: str, text: str, timeout: float = 60.0) -> str:
        """Type a command that goes on, and wait until it has written a text, a regular expression."""
        self._enter(command)
        return self.wait_output(text, timeout)

    def wait_output(self, text: str, timeout: float = 60.0) -> str:
        """Wait until the running command has written a text. ``AssertionError`` if it ends before."""
        deadline = time.monotonic() + timeout
        while not re.search(text, self.output):
            if _PROMPT.search(self._terminal.raw, self._read):
                raise AssertionError(f"ended without {text!r}:\n{self._wait(1).text}")
            assert time.monotonic() < deadline, f"no {text!r} in {timeout:g} s:\n{self.output}"
            time.sleep(0.05)
        return self.output

    def type(self, keys: str) -> None:
        """Press keys."""
        self._terminal.press(keys)

    def interrupt(self, timeout: float = 60.0) -> Done:
        """Press Ctrl-C, and wait for the end of the running command."""
        self.type("\x03")
        return self._wait(timeout)

    def wait_end(self, timeout: float = 120.0) -> Done:
        """Wait for the end of the running command."""
        return self._wait(timeout)

    def _enter(self, command: str) -> None:
        self._busy = True
        self.type(command + "\n")

    def _wait(self, timeout: float, answers: Mapping[str, str] = MappingProxyType({})) -> Done:
        deadline = time.monotonic() + timeout
        left = dict(answers)
        while not (prompt := _PROMPT.search(raw := self._terminal.raw, self._read)):
            assert time.monotonic() < deadline, f"still runs after {timeout:g} s:\n{self.output}"
            if question := next((sign for sign in left if re.search(sign, self.output)), None):
                self.type(left.pop(question) + "\n")
            time.sleep(0.02)
        done = Done(screen(raw[self._read : prompt.start()]), int(prompt[1]))
        self._read, self._busy = prompt.end(), False
        return done


def screen(written: str) -> str:
    """Return the lines that stand on the screen in the end, without colours."""
    lines, row, column = [""], 0, 0
    for control, moved, letter, text in _PIECES.findall(written):
        if control == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif letter in {"A", "F"}:
            row = max(0, row - int(moved or 1))
        elif letter == "K":
            lines[row] = lines[row][:column] if moved != "2" else ""
        elif letter == "J":
            del lines[row + 1 :]
            lines[row] = lines[row][:column]
        column = 0 if control or letter == "F" else column
        lines[row] = (lines[row][:column].ljust(column) + text + lines[row][column + len(text) :]).rstrip("\x03")
        column += len(text)
    return "\n".join(line.rstrip() for line in lines)

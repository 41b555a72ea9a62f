"""A maker at a terminal: what is typed is counted, and printed with what came back."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from support.shell import Shell

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.shell import Done

_SHOWN = 14
"""Lines of an output that are printed."""


class Maker:
    """Types commands in windows, in a home that has nothing from before. ``commands``: how many were typed."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.commands = 0
        self._began = time.monotonic()
        self._variables = environment(home)

    def chapter(self, title: str) -> None:
        """Print the heading of what comes next."""
        print(
            f"\n\033[1m{title}\033[0m" if sys.stdout.isatty() else f"\n{title}",
            f"({self.seconds:.0f} s)",
            flush=True,
        )

    def note(self, text: str) -> None:
        """Print what the maker does beside the terminal."""
        print(f"  ({text})", flush=True)

    @property
    def seconds(self) -> float:
        """Return how long the maker has been at work."""
        return time.monotonic() - self._began

    @contextlib.contextmanager
    def window(self) -> Iterator[Window]:
        """Open another terminal window."""
        with Shell(self.home, self._variables) as shell:
            yield Window(self, shell)


class Window:
    """One terminal window of the maker."""

    def __init__(self, maker: Maker, shell: Shell) -> None:
        self._maker = maker
        self._shell = shell

    def run(self, command: str, *, status: int = 0, timeout: float = 300.0, shown: bool = True) -> str:
        """Type a command, wait for its end, and return what it wrote. Its exit status must be ``status``."""
        self._type(command)
        return self._finish(self._shell.run(command, timeout), status, shown=shown)

    def start(self, command: str, text: str, timeout: float = 60.0) -> str:
        """Type a command that goes on, and wait until it has written a text, a regular expression."""
        self._type(command)
        return self._shell.start(command, text, timeout)

    def wait_output(self, text: str, timeout: float = 60.0) -> str:
        """Wait until the running command has written a text."""
        return self._shell.wait_output(text, timeout)

    def press(self, keys: str) -> None:
        """Press keys while a command runs."""
        self._shell.type(keys)

    def interrupt(self, status: int) -> str:
        """Press Ctrl-C, and return what the command wrote in all."""
        return self._finish(self._shell.interrupt(), status)

    def wait_end(self, timeout: float = 60.0) -> str:
        """Wait until the running command has ended by itself, and return what it wrote."""
        return self._finish(self._shell.wait_end(timeout), 0)

    def _type(self, command: str) -> None:
        self._maker.commands += 1
        print(f"  $ {command}", flush=True)

    def _finish(self, done: Done, status: int, *, shown: bool = True) -> str:
        lines = [line for line in done.text.splitlines() if line.strip() and shown]
        left_out = [f"... {len(lines) - _SHOWN} more lines ..."] if len(lines) > _SHOWN else []
        half = _SHOWN // 2
        part = [*lines[:half], *left_out, *lines[-half:]] if left_out else lines
        print("".join(f"  {line[:200]}\n" for line in part), end="", flush=True)
        if done.status != status:
            raise SystemExit(f"exit status {done.status}, not {status}; all of the output:\n{done.text}")
        return done.text


def environment(home: Path) -> dict[str, str]:
    """Return the variables of a person whose home is empty. pip keeps its settings and its cache."""
    pip = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    command = [sys.executable, "-m", "pip", "cache", "dir"]
    cache = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    folders = {"XDG_CONFIG_HOME": ".config", "XDG_CACHE_HOME": ".cache", "XDG_DATA_HOME": ".local/share"}
    return {
        "HOME": str(home),
        "USER": "maker",
        "LANG": "C.UTF-8",
        "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        **{name: str(home / folder) for name, folder in folders.items()},
        **{name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")},
        "PIP_CACHE_DIR": cache,
        **pip,
    }

"""A sign of life in a file, for a container's health check.

Whenever systemd's watchdog would be fed, a file in the runtime directory is written again.
"""

from __future__ import annotations

import os
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING

from limpet.device import state_files
from limpet.errors import LimpetError, UnreadableError
from limpet.untrusted import read_file, reading

if TYPE_CHECKING:
    from pathlib import Path

NAME = "alive"
_LARGEST = 100
"""Bytes of it, more than it takes."""


def beat(directory: Path, *, ready: bool) -> None:
    """Write a sign of life. If that fails, the health check notices that it is missing."""
    path = directory / NAME
    # Monotonic: setting the wall clock must not look like a silence.
    with suppress(OSError):
        temporary = path.with_suffix(".new")
        text = f"{monotonic():.3f} {'ready' if ready else 'starting'}\n"
        with os.fdopen(state_files.create(temporary), "wb") as file:
            file.write(text.encode())
        if not state_files.is_regular(path):
            state_files.remove(path)
        temporary.replace(path)


def look(directory: Path, within: float, *, ready: bool) -> str:
    """Return the last sign of life in words. ``LimpetError`` if it is older than ``within`` seconds or missing.

    With ``ready`` it is an error, too, if pipelines are still being loaded.
    """
    path = directory / NAME
    try:
        data = read_file(path, _LARGEST)
        with reading(str(path)):
            when, state = data.decode().split()
            age = monotonic() - float(when)
    except FileNotFoundError as error:
        raise LimpetError(f"there is no {path}: no daemon has started with this directory") from error
    except OSError as error:
        raise LimpetError(f"{path}: {error.strerror}") from error
    except UnreadableError as error:
        raise LimpetError(f"{path}: not what a daemon writes: {error}") from error
    if not 0 <= age <= within:
        raise LimpetError(f"no sign of life for {age:.1f} s" if age > 0 else f"{path} is of an earlier boot")
    if ready and state != "ready":
        raise LimpetError("pipelines are being loaded")
    return f"{state}, {age:.1f} s ago"

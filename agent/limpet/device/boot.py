"""The state directory: one supervisor at a time, and a name for each of its runs that never repeats."""

from __future__ import annotations

import fcntl
import logging
import os
from typing import TYPE_CHECKING

import msgspec

from limpet.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path
    from typing import IO

log = logging.getLogger(__name__)


class _Boot(msgspec.Struct):
    """``count`` of runs so far; ``installation`` tells this state directory from one that was lost."""

    count: int
    installation: str


def lock(state: Path) -> IO[bytes] | None:
    """Make the state directory and claim it for this process, for as long as the returned file is open.

    ``ConfigError`` if another process has it. ``None``, with a warning, where nothing can be written: then
    Limpet runs without what survives a reboot.
    """
    try:
        state.mkdir(parents=True, exist_ok=True)
        file = (state / "lock").open("ab")
    except OSError as error:
        log.warning("device.state: %s: %s; going on in memory", state, error.strerror)
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise ConfigError([f"device.state: another limpet runs with {state}"]) from error
    return file


def next_boot(state: Path) -> str:
    """Return ``COUNT-INSTALLATION``, one more than the run before, recorded durably before it is used.

    Where it cannot be recorded it is ``0-RANDOM``: still unique, but no longer in order.
    """
    path = state / "boot.json"
    boot = _read(path)
    boot.count += 1
    try:
        replace(path, msgspec.json.encode(boot))
    except OSError as error:
        log.warning("%s: %s; this run's name is random", path, error.strerror)
        return f"0-{os.urandom(6).hex()}"
    return f"{boot.count}-{boot.installation}"


def renew(state: Path) -> None:
    """Make the runs from now on those of another installation.

    The count goes on: names with the earlier mark could otherwise, however unlikely, come again.
    """
    path = state / "boot.json"
    replace(path, msgspec.json.encode(_Boot(_read(path).count, _mark())))


def _read(path: Path) -> _Boot:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Boot)
    except (OSError, msgspec.DecodeError):
        return _Boot(0, _mark())


def _mark() -> str:
    return os.urandom(3).hex()


def replace(path: Path, data: bytes) -> None:
    """Write a file so that after a power cut it is either the old one or the new one, whole."""
    temporary = path.with_suffix(".new")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)

"""The state directory: one supervisor at a time, and a name for each of its runs that never repeats."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from limpet.device import state_files
from limpet.errors import ConfigError, UnreadableError
from limpet.untrusted import read_file, reading

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import IO

log = logging.getLogger(__name__)

_LARGEST = 4096
"""Bytes of boot.json, far more than it takes."""

_OPEN_LOCK = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class _Boot(msgspec.Struct):
    """``count`` of runs so far; ``installation`` distinguishes this state directory from one that was lost.

    Both become part of the ids of results, so no other text is taken for them. ``crc`` is of both: with a damaged
    count, ids would come again.
    """

    count: Annotated[int, Meta(ge=0, le=1 << 53)]
    installation: Annotated[str, Meta(pattern=r"^[0-9a-f]{6}\Z")]
    crc: int

    def __post_init__(self) -> None:
        if self.crc != _crc(self.count, self.installation):
            raise ValueError("its checksum is wrong")


def _crc(count: int, installation: str) -> int:
    return zlib.crc32(f"{count}-{installation}".encode())


def _bytes(count: int, installation: str) -> bytes:
    return msgspec.json.encode(_Boot(count, installation, _crc(count, installation)))


def warn(problem: str) -> None:
    """Log a damaged file of the state directory."""
    log.warning("%s", problem)


def lock(state: Path, damaged: Callable[[str], object] = warn) -> IO[bytes] | None:
    """Make the state directory and claim it for this process, for as long as the returned file is open.

    ``ConfigError`` if another process has it. ``None``, with a warning, where nothing can be written: then
    Limpet runs without what survives a reboot. What is no regular file in the place of the lock is set aside, and
    ``damaged`` is called with the reason.
    """
    path = state / "lock"
    try:
        state.mkdir(parents=True, exist_ok=True)
        if state_files.is_irregular(path):
            _set_aside(path, f"{path} is {state_files.kind(path)}; a regular file is expected", damaged)
        elif state_files.shared(path):
            _set_aside(path, f"{path} has another name elsewhere", damaged)
        file = os.fdopen(os.open(path, _OPEN_LOCK, 0o600), "r+b", buffering=0)
    except OSError as error:
        log.warning("device.state: %s: %s; going on in memory", state, error.strerror)
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in {errno.EWOULDBLOCK, errno.EACCES}:
            file.close()
            raise ConfigError([f"device.state: another limpet runs with {state}"]) from error
        log.warning("%s: %s; another limpet with this directory would not be noticed", path, error.strerror)
    return file


def holder(state: Path) -> int | None:
    """Return the process that has claimed a state directory, ``None`` if there is none or it cannot be known.

    The owner of the directory says which file is the lock, so this may be any process that has locked a file of
    that user. A process of another user must not be sent a signal for it.
    """
    path = state / "lock"
    if not state_files.is_regular(path):
        return None
    try:
        status = path.lstat()
        locks = Path("/proc/locks").read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return None
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
    found: dict[str, int] = {}
    for line in locks.splitlines():
        fields = line.split()
        if fields[1:2] == ["FLOCK"] and fields[5].endswith(f":{status.st_ino}") and int(fields[4]) > 0:
            found[fields[5].rpartition(":")[0]] = int(fields[4])
    # Some file systems have another device number there. Numbers of files repeat on other file systems.
    return found.get(device, next(iter(found.values()), None))


def next_boot(state: Path, damaged: Callable[[str], object] = warn) -> str:
    """Return a name for this run, recorded durably before it is used.

    It is ``COUNT-INSTALLATION`` and six random digits; the count is one more than that of the run before.

    Where it cannot be recorded it is ``0-RANDOM``: still unique, but no longer in order. A damaged record is set
    aside and another installation begins; ``damaged`` is called with the reason.
    """
    path = state / "boot.json"
    try:
        count, installation = _read(path, damaged)
        count += 1
        state_files.replace(path, _bytes(count, installation))
    except OSError as error:
        log.warning("%s: %s; this run's name is random", path, error.strerror)
        return f"0-{os.urandom(6).hex()}"
    # A record that was restored from a backup, or copied to another card, must not repeat ids.
    return f"{count}-{installation}{os.urandom(3).hex()}"


def renew(state: Path) -> None:
    """Make the runs from now on those of another installation.

    The count goes on: names with the earlier mark could otherwise, however unlikely, come again.
    """
    path = state / "boot.json"
    count, _ = _read(path, warn)
    state_files.replace(path, _bytes(count, _mark()))


def _read(path: Path, damaged: Callable[[str], object]) -> tuple[int, str]:
    try:
        data = read_file(path, _LARGEST)
        with reading(str(path)):
            boot = msgspec.json.decode(data, type=_Boot)
    except FileNotFoundError:
        pass
    except (OSError, UnreadableError) as error:
        _set_aside(path, str(error), damaged)
    else:
        return boot.count, boot.installation
    return 0, _mark()


def _set_aside(path: Path, reason: str, damaged: Callable[[str], object]) -> None:
    aside = state_files.set_aside(path)
    damaged(f"{reason}; it was set aside as {aside.name}, and a new one begins")


def _mark() -> str:
    return os.urandom(3).hex()

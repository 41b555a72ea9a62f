"""System shared memory that clients register, so that their tensors need not go through a socket.

A client may register what its own user owns. The memory is read and written, never mapped. A client can shrink
the file at any time, which would kill a process that has it mapped.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from limpet.gateway.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.gateway.open_inference.messages import Region

FOLDER = Path("/dev/shm")  # noqa: S108 - where POSIX shared memory is
NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,254}\Z")
"""Keys of shared memory, and the names that clients register them under."""
MOST_OF_A_USER = 64
"""Regions that the programs of one user may register."""
MOST = 128
"""Regions that all users may register."""


class Registered(NamedTuple):
    """A registered region: ``byte_size`` bytes from ``offset`` of the shared memory ``key``."""

    name: str
    key: str
    offset: int
    byte_size: int
    fd: int


class SharedMemory:
    """Regions by user and name. Users neither see nor use the regions of others.

    ``uid``: of the client, as the kernel says. ``None`` if that is not known: the client then has no regions.
    """

    def __init__(self) -> None:
        self._regions: dict[tuple[int, str], Registered] = {}

    def register(self, uid: int | None, name: str, key: str, offset: int, byte_size: int) -> None:
        """Open shared memory of this client. ``RequestError`` says why that is not possible."""
        owner = known(uid)
        if not NAME.match(name):
            raise RequestError(
                "invalid", 'the name of a region has letters, digits, "_", "-" and ".", at most 255'
            )
        if (owner, name) in self._regions:
            raise RequestError("invalid", f'the region "{name}" is registered already; unregister it first')
        own = sum(1 for uid_, _ in self._regions if uid_ == owner)
        if own >= MOST_OF_A_USER or len(self._regions) >= MOST:
            raise RequestError("busy", f"{own} regions are registered by this user; unregister one first")
        if offset < 0 or byte_size <= 0:
            raise RequestError("invalid", "offset must be 0 or more, and byte_size 1 or more")
        fd = _open(owner, key.lstrip("/"), offset + byte_size)
        self._regions[owner, name] = Registered(name, key, offset, byte_size, fd)

    def unregister(self, uid: int | None, name: str = "") -> None:
        """Give up a region, or all of this client's user. ``RequestError`` if there is no such region."""
        owner = known(uid)
        if name:
            self._find(owner, name)
        for found in [key for key in self._regions if key[0] == owner and name in ("", key[1])]:
            os.close(self._regions.pop(found).fd)

    def registered(self, uid: int | None, name: str = "") -> Sequence[Registered]:
        """Return the region of this name, or all of this client's user."""
        owner = known(uid)
        if name:
            return [self._find(owner, name)]
        return [region for (uid_, _), region in self._regions.items() if uid_ == owner]

    def read(self, uid: int | None, region: Region, target: memoryview) -> None:
        """Copy a part of a region to ``target``, which has its size. ``RequestError`` if it is not there."""
        found = self._part(uid, region)
        begin = 0
        while begin < region.size:
            count = os.preadv(found.fd, [target[begin:]], found.offset + region.offset + begin)
            if not count:
                raise RequestError("invalid", f'the shared memory of region "{region.name}" ends too early')
            begin += count

    def write(self, uid: int | None, region: Region, content: memoryview) -> None:
        """Copy ``content`` to a region. ``RequestError`` if there is no room for it."""
        found = self._part(uid, region)
        if len(content) > region.size:
            raise RequestError(
                "invalid", f'region "{region.name}": {region.size} bytes; {len(content)} are needed'
            )
        begin = found.offset + region.offset
        if os.fstat(found.fd).st_size < begin + len(content):
            raise RequestError("invalid", f'the shared memory of region "{region.name}" ends too early')
        try:
            while content:
                count = os.pwrite(found.fd, content, begin)
                content, begin = content[count:], begin + count
        except OSError as error:
            raise RequestError(
                "invalid", f'region "{region.name}" cannot be written to: {error.strerror}'
            ) from error

    def _part(self, uid: int | None, region: Region) -> Registered:
        found = self._find(known(uid), region.name)
        if region.offset < 0 or region.size < 0 or region.offset + region.size > found.byte_size:
            raise RequestError(
                "invalid", f'region "{region.name}" has {found.byte_size} bytes; the tensor is outside of it'
            )
        return found

    def _find(self, owner: int, name: str) -> Registered:
        try:
            return self._regions[owner, name]
        except KeyError:
            raise RequestError("unknown", f'this user registered no region "{name[:255]}"') from None


def known(uid: int | None) -> int:
    """Return the user id of a client. ``RequestError`` if it is not known."""
    if uid is None:
        raise RequestError("denied", "shared memory is for programs on this device alone")
    return uid


def _open(owner: int, key: str, size: int) -> int:
    """Open shared memory that a user owns and that has so many bytes."""
    if not NAME.match(key):
        raise RequestError(
            "invalid", 'the key of shared memory has letters, digits, "_", "-" and ".", no other "/"'
        )
    try:
        fd = os.open(FOLDER / key, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError as error:
        raise RequestError(
            "denied",
            f'the daemon may not open the shared memory "{key}". '
            f"Give its group access, as in: chgrp limpet /dev/shm/{key}; chmod 660 /dev/shm/{key}",
        ) from error
    except FileNotFoundError as error:
        raise RequestError("unknown", f'there is no shared memory "{key}"') from error
    except OSError as error:
        raise RequestError("invalid", f'the shared memory "{key}" cannot be opened: {error.strerror}') from error
    try:
        _check(os.fstat(fd), owner, key, size)
    except RequestError:
        os.close(fd)
        raise
    return fd


def _check(status: os.stat_result, owner: int, key: str, size: int) -> None:
    if not stat.S_ISREG(status.st_mode) or status.st_dev != FOLDER.stat().st_dev:
        raise RequestError("invalid", f'"{key}" is not shared memory')
    if status.st_uid != owner:
        raise RequestError("denied", f'the shared memory "{key}" belongs to another user')
    if status.st_size < size:
        raise RequestError("invalid", f'the shared memory "{key}" has {status.st_size} bytes; {size} are needed')

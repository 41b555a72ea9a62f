"""Landlock through ctypes: the kernel's sandbox that a process puts itself into, landlock(7).

No package in Debian or with wheels for Arm speaks to it, and the interface is three system calls.
"""

from __future__ import annotations

import ctypes
import os
import stat
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

# Of include/uapi/linux/landlock.h; the system calls have these numbers on every architecture.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION = 1
_PATH_BENEATH, _NET_PORT = 1, 2
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = (1 << bit for bit in range(4))
_REMOVE_DIR, _REMOVE_FILE, _MAKE_DIR, _MAKE_REG = 1 << 4, 1 << 5, 1 << 7, 1 << 8
_TRUNCATE, _IOCTL_DEV = 1 << 14, 1 << 15
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_BIND_TCP, _CONNECT_TCP = 1, 2
TCP = 4
"""The version from which on TCP connections can be limited."""
_SCOPES = 3
"""Abstract Unix sockets and signals."""
_RIGHTS_OF_ABI = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}

READ = _READ_FILE | _READ_DIR
"""Read files and list directories. Libraries can be loaded so; programs cannot be executed."""
LIST = _READ_DIR
"""List directories."""
WRITE = _READ_FILE | _WRITE_FILE
"""Read and write files that are there."""
USE = READ | _WRITE_FILE | _IOCTL_DEV
"""Use what is there, devices most of all; make nothing new."""
CHANGE = READ | _WRITE_FILE | _TRUNCATE | _MAKE_REG | _REMOVE_FILE | _MAKE_DIR | _REMOVE_DIR
"""Make, write and delete plain files and folders, and rename them where they are."""
MOVE = CHANGE | 1 << 13
"""As ``CHANGE``, and rename from one folder to another beneath. Kernels before 5.19 never allow that."""


_libc = ctypes.CDLL(None, use_errno=True)


class _Ruleset(ctypes.Structure):
    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _NetPort(ctypes.Structure):
    _fields_ = (("allowed", ctypes.c_uint64), ("port", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def abi() -> int:
    """Return the version of Landlock in this kernel. ``OSError`` if it has none, or may not be used."""
    if sys.platform != "linux":
        raise OSError(0, "this is not Linux")
    return _call(_CREATE_RULESET, None, 0, _VERSION)


def restrict(
    allowed: Mapping[Path, int], ports: Iterable[int], *, network: bool, listens: Iterable[int] = ()
) -> int:
    """Allow this thread, and all that it will start, only these rights below these paths. It cannot be undone.

    A path that is not there is left out: what appears there later stays out of reach, unless it is beneath
    another path. From version ``TCP`` on, it can listen at the TCP ports ``listens`` alone. It can connect to
    ``ports`` alone, or with ``network`` to all. Needs ``no_new_privs``. Returns the version in force;
    ``OSError`` if the kernel refuses: then none is.
    """
    version = abi()
    handled = _RIGHTS_OF_ABI[max(known for known in _RIGHTS_OF_ABI if known <= version)]
    tcp = 0 if version < TCP else _BIND_TCP if network else _BIND_TCP | _CONNECT_TCP
    attributes = _Ruleset(handled, tcp, _SCOPES if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= TCP else 8
    ruleset = _call(_CREATE_RULESET, ctypes.byref(attributes), size, 0)
    try:
        for path, rights in allowed.items():
            _allow(ruleset, path, rights & handled)
        for port in ports if tcp & _CONNECT_TCP else ():
            _call(_ADD_RULE, ruleset, _NET_PORT, ctypes.byref(_NetPort(_CONNECT_TCP, port)), 0)
        for port in listens if tcp else ():
            _call(_ADD_RULE, ruleset, _NET_PORT, ctypes.byref(_NetPort(_BIND_TCP, port)), 0)
        _call(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    return version


def _allow(ruleset: int, path: Path, rights: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            rights &= _OF_FILES
        _call(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(_PathBeneath(rights, fd)), 0)
    finally:
        os.close(fd)


def _call(number: int, *arguments: object) -> int:
    """Make a system call, as glibc has no functions for these."""
    result: int = _libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result

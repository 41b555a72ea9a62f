"""What the kernel counts or decides for all processes of a user, the supervisor among them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from attacker_attempts import Attempts
from attacker_escapes import HARMLESS, _all
from attacker_records import own

if TYPE_CHECKING:
    from attacker_border import Border

ATTEMPTS = Attempts()
_libc = ctypes.CDLL(None, use_errno=True)


def _c(name: str, *arguments: object) -> int:
    """Call a function of the C library. ``OSError`` if it fails."""
    result: int = _libc[name](*arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), name)
    return result


@ATTEMPTS.named("lower the priority of every process of the user")
def _(border: Border) -> str:
    del border
    return _all(
        lambda: _c("setpriority", os.PRIO_USER, 0, 19) or "that of the user",
        lambda: _c("setpriority", os.PRIO_PGRP, 0, 19) or "that of the group",
    )


@ATTEMPTS.named("outlive the supervisor")
def _(border: Border) -> str:
    del border
    return _all(lambda: _c("prctl", 1, 0, 0, 0, 0) or "no signal at its end")


@ATTEMPTS.named("empty files by their paths")
def _(border: Border) -> str:
    outbox = border.target / "state" / "reporters" / "mqtt" / "outbox.db"
    return _all(
        lambda: os.truncate(outbox, 0) or "truncated",
        lambda: os.open(outbox, os.O_ACCMODE | os.O_TRUNC),
        lambda: os.open(border.target / "evil.tflite", os.O_RDONLY | os.O_TRUNC),
    )


@ATTEMPTS.named("leave shared memory behind")
def _(border: Border) -> str:
    del border
    key, size, mode = 0, ctypes.c_size_t(1 << 20), 0o1600
    return _all(
        lambda: f"memory {_c('shmget', key, size, mode)}",
        lambda: f"semaphores {_c('semget', key, 1, mode)}",
        lambda: f"a queue {_c('msgget', key, mode)}",
    )


@ATTEMPTS.named("write to sockets of others from a pair of its own")
def _(border: Border) -> str:
    del border
    return _all(
        lambda: [end.close() for end in socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)],
        lambda: [end.close() for end in socket.socketpair(socket.AF_UNIX, socket.SOCK_RAW)],
    )


@ATTEMPTS.named("read the working directory of the supervisor")
def _(border: Border) -> str:
    del border
    return _all(lambda: os.listdir(Path.cwd()))


@ATTEMPTS.named("nest folders without end in its cache")
def _(border: Border) -> str:
    """Housekeeping and ``limpet reset`` have to get rid of them."""
    cache = border.target / "state" / "cache" / "models" / own()
    home = Path.cwd()
    try:
        with contextlib.suppress(OSError):
            os.chdir(cache)
            for _ in range(2000):
                os.mkdir("d")
                os.chdir("d")
    finally:
        os.chdir(home)
    return HARMLESS

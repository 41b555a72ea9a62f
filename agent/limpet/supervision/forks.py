"""The supervisor's end of the fork server: asks for processes, each under its own number."""

from __future__ import annotations

import logging
from contextlib import suppress
from itertools import count
from time import monotonic
from typing import TYPE_CHECKING

from limpet.fork.launch import ForkServerProcess
from limpet.supervision.rests import REST_AFTER, Rests
from limpet.wire.channel import Channel
from limpet.wire.fork_records import Fork, FromForkServer, Preload, Rest

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from limpet.wire.fork_records import Task

log = logging.getLogger(__name__)

FORK_SERVER_GONE = "its fork server is gone"
"""Why a process ended that the fork server took with it."""
AGAIN = 1.0
"""Seconds between two attempts to start a fork server."""


class Forks:
    """The fork server. ``channel`` is ``None`` while there is none, as the kernel refuses to start one."""

    def __init__(self, launched: ForkServerProcess, rest_after: float = REST_AFTER) -> None:
        self._launched: ForkServerProcess | None = launched
        self._numbers = count(1)
        self._modules: list[str] = []
        self._next_attempt = 0.0
        self._rest_after = rest_after
        self._rests = Rests(monotonic(), rest_after)
        self.channel: Channel[FromForkServer] | None = Channel(launched.socket, FromForkServer)

    @property
    def pid(self) -> int | None:
        """Its process id."""
        return self._launched.pid if self._launched else None

    def preload(self, modules: Sequence[str]) -> None:
        """Have it import modules, now and whenever it is replaced."""
        if self._modules == list(modules):
            return
        self._modules = list(modules)
        self._rests.use(monotonic())
        self._notify(Preload(self._modules))

    def fork(self, name: str, task: Task, end: socket.socket) -> int:
        """Ask for a process and return its number. ``OSError`` if the fork server is gone."""
        if self.channel is None:
            raise BrokenPipeError("there is no fork server")
        number = next(self._numbers)
        self._rests.use(monotonic())
        self.channel.send(Fork(number, name, task), (end.fileno(),))
        return number

    def rest(self, next_use: float | None) -> None:
        """Have it rest if it has had nothing to do for a while.

        ``next_use``: when a process is to be started next, ``None`` if none is.
        """
        if self.channel is not None and self._rests.due(monotonic(), next_use):
            self._notify(Rest())

    def wake(self) -> None:
        """Have it get ready if it rests: a process will be requested soon."""
        if self.channel is not None and self._rests.resting:
            self._rests.use(monotonic())
            self._notify(Preload(self._modules))

    def replace(self) -> bool:
        """Start another fork server if it is time for an attempt. Return whether there is one."""
        if self.channel is not None or monotonic() < self._next_attempt:
            return False
        self._next_attempt = monotonic() + AGAIN
        try:
            self._launched = ForkServerProcess()
        except OSError as error:
            log.error("the fork server cannot be started: %s; next try in %.0f s", error.strerror, AGAIN)  # noqa: TRY400
            return False
        self._rests = Rests(monotonic(), self._rest_after)
        self.channel = Channel(self._launched.socket, FromForkServer)
        self._notify(Preload(self._modules))
        return True

    def _notify(self, record: Preload | Rest) -> None:
        """Send what needs no answer. If the fork server is gone, that is read in a moment."""
        if self.channel is not None:
            with suppress(OSError):
                self.channel.send(record)

    def close(self) -> None:
        """End the fork server, and with it every process that it forked."""
        if self._launched is not None:
            self._launched.close()
        self._launched = self.channel = None

"""The processes of guests: each has one model that no pipeline runs, for clients of the gateway.

A guest runs a model that clients feed, so it may have been taken over. It says once that its model is loaded, or
why not. Whatever else it sends ends it alone.
"""

from __future__ import annotations

import logging
import selectors
import socket
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from limpet.errors import UnreadableError
from limpet.isolation.child import describe, kill
from limpet.wire.border import cleaned
from limpet.wire.channel import Channel
from limpet.wire.guest_records import LARGEST, Connect, FromGuestProcess, Loaded, NotLoaded

if TYPE_CHECKING:
    from collections.abc import Callable

    from limpet.supervision.forks import Forks
    from limpet.wire.fork_records import OpenGuest

log = logging.getLogger(__name__)

OPENING = 120.0
"""Seconds that a model may take to load. A GPU's first compilation takes most of a minute."""


class Heard(NamedTuple):
    """Who hears of a guest: that its model is loaded, and once its end: why, and whether another try may help."""

    loaded: Callable[[], None]
    ended: Callable[[str, bool], None]


@dataclass(slots=True, eq=False)
class GuestProcess:
    """``channel`` is ``None`` until the fork server has the order. ``number`` is that of the fork."""

    task: OpenGuest
    heard: Heard
    until: float
    number: int = 0
    pid: int | None = None
    channel: Channel[FromGuestProcess] | None = None
    ready: bool = False


class GuestProcesses:
    """The guests at work, and those that were stopped and may still be there."""

    def __init__(self, selector: selectors.BaseSelector, forks: Forks) -> None:
        self._selector = selector
        self._forks = forks
        self._active: list[GuestProcess] = []
        self._stopped: list[GuestProcess] = []

    def start(self, task: OpenGuest, heard: Heard) -> GuestProcess:
        """Start a guest."""
        guest = GuestProcess(task, heard, monotonic() + OPENING)
        self._active.append(guest)
        self._fork(guest)
        return guest

    def stop(self, guest: GuestProcess) -> None:
        """End a guest. Nothing more is heard of it."""
        if guest in self._active:
            self._active.remove(guest)
            self._ignore(guest)
            self._kill(guest)
            self._stopped.append(guest)

    def connect(self, guest: GuestProcess, end: socket.socket) -> None:
        """Hand a client's socket to a guest that is ready. It does nothing for one that is gone."""
        if guest.channel is None or not guest.ready:
            return
        try:
            guest.channel.send(Connect(), (end.fileno(),))
        except BlockingIOError:
            self._lose(guest, "it does not read what it is sent")
        except OSError:
            pass  # It is gone. The fork server reports that in a moment.

    def pids(self) -> dict[str, int]:
        """Return the process ids by model."""
        return {each.task.pipeline: each.pid for each in self._active if each.pid is not None}

    # --- what the fork server reports

    def forked(self, number: int, pid: int) -> None:
        """Take note of a process. It is killed at once if it was stopped meanwhile."""
        for guest in (*self._active, *self._stopped):
            if guest.number == number:
                guest.pid = pid
                if guest in self._stopped:
                    kill(pid)

    def not_forked(self, number: int, reason: str) -> None:
        """Take note that the kernel refused a process."""
        self._stopped = [guest for guest in self._stopped if guest.number != number]
        for guest in [one for one in self._active if one.number == number]:
            self._lose(guest, f"it could not be started: {reason}")

    def exited(self, pid: int, status: int) -> None:
        """Take note that a process is gone. What it has sent counts."""
        self._stopped = [guest for guest in self._stopped if guest.pid != pid]
        for guest in [one for one in self._active if one.pid == pid]:
            guest.pid = None  # Another process may get it.
            self._read(guest)
            self._lose(guest, describe(status))

    def fork_server_gone(self) -> None:
        """Take note that all processes are gone."""
        self._stopped.clear()
        for guest in list(self._active):
            guest.pid = None
            self._lose(guest, "its fork server is gone")
        self._stopped.clear()

    # --- time

    def next_due(self) -> float | None:
        """Return when the next guest is late, on the monotonic clock."""
        return min((guest.until for guest in self._active if not guest.ready), default=None)

    def tend(self, now: float) -> None:
        """Kill those that take too long, and start those that could not be started."""
        for guest in list(self._active):
            if not guest.ready and guest.until <= now:
                self._lose(guest, "it took too long to load")
            elif guest.channel is None:
                self._fork(guest)

    def close(self) -> None:
        """Listen to no guest any more. The end of the fork server ends them."""
        for guest in self._active:
            self._ignore(guest)
        self._active.clear()

    # --- one guest

    def _fork(self, guest: GuestProcess) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                guest.number = self._forks.fork(guest.task.pipeline, guest.task, theirs)
            except OSError:
                ours.close()
                return  # There will be another fork server.
        ours.setblocking(False)
        guest.channel = Channel(ours, FromGuestProcess, largest=LARGEST)
        self._selector.register(guest.channel, selectors.EVENT_READ, lambda: self._read(guest))

    def _read(self, guest: GuestProcess) -> None:
        if guest.channel is None or guest not in self._active:
            return
        try:
            for record in guest.channel.receive():
                if isinstance(record, NotLoaded):
                    self._lose(guest, cleaned(record.problem) or "it gives no reason", again=False)
                    return
                self._take(guest, record)
        except EOFError:
            with suppress(KeyError):
                self._selector.unregister(guest.channel)  # The fork server reports how it ended.
        except UnreadableError as error:
            self._lose(guest, cleaned(str(error)))

    def _take(self, guest: GuestProcess, _loaded: Loaded) -> None:
        if guest.ready:
            raise UnreadableError("it sent twice that its model is loaded")
        guest.ready = True
        guest.heard.loaded()

    def _lose(self, guest: GuestProcess, reason: str, *, again: bool = True) -> None:
        if guest in self._active:
            self.stop(guest)
            guest.heard.ended(reason, again)

    def _kill(self, guest: GuestProcess) -> None:
        if guest.pid is not None:
            kill(guest.pid)

    def _ignore(self, guest: GuestProcess) -> None:
        if guest.channel is not None:
            with suppress(KeyError):
                self._selector.unregister(guest.channel)
            guest.channel.close()
            guest.channel = None

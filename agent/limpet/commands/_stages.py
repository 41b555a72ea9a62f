"""Shows the stages of an update as they come: one line that changes on a terminal, else a line for each."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, NamedTuple

from limpet.audit import file as journal_file
from limpet.audit.entry import decode
from limpet.device import boot
from limpet.errors import LimpetError, UnreadableError
from limpet.models import deployed
from limpet.terminal import can_draw
from limpet.untrusted import printable
from limpet.updates.state import NAME

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from limpet.updates.state import Update, Updates

LOOK = 0.05
"""Seconds between two looks at a file."""
_REFUSED = "refused: "
_CLEAR = "\r\x1b[K"


class Line:
    """A line of output that is replaced by the next one, if that is possible."""

    def __init__(self) -> None:
        self._draws, self._last, self._open = can_draw(sys.stdout), "", False

    def show(self, text: str) -> None:
        """Show a text, unless it is shown already."""
        text = printable(" ".join(text.split()))
        if text == self._last:
            return
        self._last = text
        if self._draws:
            self._open = True
            print(f"{_CLEAR}{text}", end="", flush=True)
        else:
            print(text, flush=True)

    def end(self) -> None:
        """Leave the line as it is. What follows is below it."""
        if self._open:
            self._open = False
            print(flush=True)


class KnownUpdates:
    """What the daemon has written of updates, read again if that changed."""

    def __init__(self, state: Path) -> None:
        self._state, self._mark = state, (0, 0)
        self._updates = deployed.read(state)

    def now(self) -> Updates:
        """Return what is known now. ``OSError``."""
        try:
            status = (self._state / NAME).lstat()
        except FileNotFoundError:
            return self._updates
        mark = status.st_ino, status.st_mtime_ns
        if mark != self._mark:
            self._updates, self._mark = deployed.read(self._state), mark
        return self._updates


class Followed(NamedTuple):
    """A request that the daemon was called for. ``order``: its file. ``seq``: the journal's last line before."""

    state: Path
    pipeline: str
    order: Path
    seq: int


def wait(followed: Followed, is_over: Callable[[Updates, bool], bool], patience: float | None = None) -> None:
    """Wait until it is over. ``LimpetError`` if the daemon ends, or after ``patience`` seconds.

    ``is_over`` takes what is known, and whether the daemon has taken the order before that was read.
    """
    known, until = KnownUpdates(followed.state), None if patience is None else time.monotonic() + patience
    while True:
        taken = not followed.order.exists()
        if is_over(known.now(), taken):
            return
        if boot.holder(followed.state) is None:
            raise LimpetError("the daemon has ended. It goes on with this when it starts")
        if until is not None and time.monotonic() > until:
            raise LimpetError(f"nothing came of it in {patience:.0f} s. Run: journalctl -u limpet")
        time.sleep(LOOK)


def last_seq(state: Path) -> int:
    """Return the number of the audit journal's last line, 0 if there is none."""
    try:
        head = journal_file.read(state / journal_file.NAME).chain.head
    except (OSError, UnreadableError):
        return 0
    return head.seq if head else 0


def refusal_since(followed: Followed) -> str:
    """Return why the daemon did not do what was ordered, as the audit journal has it."""
    reason = "the daemon did not do it. The log says why. Run: journalctl -u limpet"
    try:
        for line in journal_file.lines(followed.state / journal_file.NAME):
            entry = decode(line.removesuffix(b"\n"))
            if entry.seq <= followed.seq or entry.pipeline != followed.pipeline:
                continue
            if entry.event == "update_refused" or entry.what.reason.startswith(_REFUSED):
                reason = entry.what.reason.removeprefix(_REFUSED)
    except (OSError, UnreadableError):
        pass
    return reason


def stage_line(update: Update, name: str) -> str:
    """Return a line about where an update is."""
    after = f". {update.reason}" if update.reason else ""
    return f"{update.pipeline}: {name}: {update.stage.replace('_', ' ')}{after}"

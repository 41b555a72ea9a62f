"""The loop of ``limpet record``, and what it shows meanwhile."""

from __future__ import annotations

import contextlib
import select
import shutil
import signal
import sys
from collections import deque
from time import monotonic, monotonic_ns
from typing import TYPE_CHECKING

from limpet import terminal
from limpet.errors import SourceError
from limpet.recorder import screen
from limpet.untrusted import printable
from limpet.wording import IN_USE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from limpet.keyboard import Keyboard
    from limpet.recorder.mqtt_labels import MqttLabels
    from limpet.recorder.session import Session, Wanted
    from limpet.recorder.source_process import SourceProcess

_FRAMES = 0.2
"""Seconds from one frame of the live view to the next."""
_LINES = 5.0
"""Seconds from one line to the next where there is no terminal."""
_SILENCE = 60.0
"""Seconds without any sample after which there will be none."""
_STOP = "sudo systemctl stop limpet"


class Run:
    """The loop of one run: what comes from the source, keys and MQTT goes to the session, and shows."""

    def __init__(
        self,
        session: Session,
        process: SourceProcess,
        wanted: Wanted,
        keyboard: Keyboard,
        labels: MqttLabels | None,
    ) -> None:
        self._session = session
        self._process = process
        self._wanted = wanted
        self._keyboard = keyboard
        self._labels = labels
        self._view = _View(session, wanted)

    def run(self) -> None:
        """Run until the session has ended. ``LimpetError`` if nothing could be recorded."""
        session, begin = self._session, monotonic()
        try:
            while not session.ended:
                self._step()
                self._refuse_silence(monotonic() - begin)
            for record in self._process.stop():
                session.receive(record)
        except SourceError as error:
            if not session.started:
                raise
            session.end(f"{error}.", trouble=True)
        finally:
            self._view.clear()

    def _refuse_silence(self, waited: float) -> None:
        """Raise ``SourceError`` if no sample will ever come."""
        away = self._session.away or ""
        if self._session.started:
            return
        if away.endswith(IN_USE):
            raise SourceError(f"{away}. If the Limpet daemon reads it, stop the daemon. Run: {_STOP}")
        if waited > _SILENCE:
            raise SourceError(f"no sample in {_SILENCE:.0f} s: {away or 'the source sends nothing'}")

    def _step(self) -> None:
        session, process = self._session, self._process.fileno()
        ready = select.select([process, *self._keyboard.descriptors()], [], [], 0.05)[0]
        for label, at in self._labels.take() if self._labels else ():
            session.set_label(label, at)
        for key in self._keyboard.read():
            self._press(key)
        if process in ready:
            for record in self._process.receive():
                session.receive(record)
        session.tick()
        if self._keyboard.resumed():
            self._view.forget()
        self._view.show()

    def _press(self, key: str) -> None:
        labels = self._wanted.labels
        if key == "q":
            self._session.end("Ended with q.")
        elif key in {"0", " "}:
            self._session.set_label("", monotonic_ns())
        elif key.isascii() and key.isdecimal() and int(key) <= len(labels):
            self._session.set_label(labels[int(key) - 1], monotonic_ns())


class _View:
    """Shows the session: a live view on a terminal, else a line now and then."""

    def __init__(self, session: Session, wanted: Wanted) -> None:
        self._session = session
        self._wanted = wanted
        self._live = terminal.can_draw(sys.stdout)
        self._next = monotonic() + (0.0 if self._live else _LINES)
        self._lines = 0
        self._away: str | None = None
        if not self._live:
            print(f"Recording {wanted.source} to {wanted.folder}. Ctrl-C ends it.", flush=True)
        self._counts = deque([(monotonic(), 0)], maxlen=26)

    def show(self) -> None:
        """Draw, if it is time to."""
        if not self._live and self._session.away != self._away:
            self._away = self._session.away
            self._next = monotonic()  # a change is news
        if monotonic() < self._next:
            return
        self._next = monotonic() + (_FRAMES if self._live else _LINES)
        self._counts.append((monotonic(), self._session.samples))
        if not self._live:
            print(screen.line(self._session, self._rate()), flush=True)
            return
        size = shutil.get_terminal_size()
        where = self._session.file.path if self._session.file else self._wanted.folder
        lines = screen.frame(
            self._session,
            f"Recording {self._wanted.source} to {where}",
            self._rate(),
            self._wanted.labels,
            (size.columns, size.lines),
        )
        self.clear()
        for note in self._session.notes:
            print(printable(note))
        self._session.notes.clear()
        colour = terminal.takes_colour(sys.stdout)
        styles: dict[int, terminal.Style] = {0: "bold", 3: "green", len(lines) - 1: "dim"}
        for number, line in enumerate(lines):
            style = styles.get(number)
            print(terminal.styled(line, style, colour=colour) if style else line)
        sys.stdout.flush()
        self._lines = len(lines)

    def forget(self) -> None:
        """Draw from the next line on: others have written to the terminal."""
        self._lines = 0

    def clear(self) -> None:
        """Take the live view away."""
        if self._lines:
            sys.stdout.write(f"\x1b[{self._lines}F\x1b[J")
            self._lines = 0

    def _rate(self) -> float:
        (begin, before), (end, now) = self._counts[0], self._counts[-1]
        return (now - before) / (end - begin) if end > begin else 0.0


@contextlib.contextmanager
def ending_in_order(session: Session) -> Iterator[None]:
    """Have Ctrl-C, SIGTERM and SIGHUP end the session in order. A second Ctrl-C ends it at once.

    A signal that is ignored, as SIGHUP below nohup, stays ignored.
    """

    def end(number: int, _frame: object) -> None:
        if session.ended and number == signal.SIGINT:
            raise KeyboardInterrupt
        session.end("Ended with Ctrl-C." if number == signal.SIGINT else "Ended by a signal.")

    wanted = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    numbers = [number for number in wanted if signal.getsignal(number) != signal.SIG_IGN]
    before = [signal.signal(number, end) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)

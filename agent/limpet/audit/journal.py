"""Writes the audit journal. One process does so: the one that has claimed the state directory.

Whatever goes wrong with the file, the daemon goes on. What could not be written is counted, and the next line that
can be written says so.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from time import monotonic
from typing import TYPE_CHECKING, TypeAlias

from limpet.audit import file as journal_file
from limpet.audit.chain import Chain
from limpet.audit.entry import (
    MOST_COUNTS,
    NO_DETAILS,
    NOT_KNOWN,
    NOTHING,
    Entry,
    Head,
    What,
    Who,
    decode,
    encode,
    hash_of,
)
from limpet.bucket import Bucket
from limpet.device import clock, state_files
from limpet.errors import UnreadableError
from limpet.untrusted import open_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BURST, PER_SECOND = 60.0, 1 / 60
"""Lines about commands and other requests from outside: so many at once, and on average."""
OWN_BURST, OWN_PER_SECOND = 300.0, 1 / 20
"""Lines about what the device itself did."""
SUMMARY = 3600.0
"""Seconds between two lines that count what has no line of its own."""
_OF_REQUESTS = ("update_wanted", "update_refused", "update_withdrawn", "update_failed")
FROM_OUTSIDE = frozenset({"command", "config_refused", "root_refused", *_OF_REQUESTS})
"""Events that others cause, as often as they like."""
_Line: TypeAlias = "tuple[str, str, Who | None, What | None]"
_APPEND = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Journal:
    """Appends to ``audit.jsonl`` in a state directory. ``boot`` names this run of the daemon, if it is one."""

    def __init__(self, state: Path, boot: str = "") -> None:
        self._state, self._boot = state, boot
        self._path = state / journal_file.NAME
        self.head = Head(0, NOTHING)
        self.lost = 0
        """Lines that could not be written since the start."""
        self._unwritten = 0
        """Those of them that no line speaks of yet."""
        self._why = ""
        self._because = ""
        """Why the journal begins again, as long as no line says so."""
        self._size = 0
        self._last = 0
        """Bytes of the last line, without its newline."""
        self._unsynced = False
        self._outside, self._own = Bucket(PER_SECOND, BURST), Bucket(OWN_PER_SECOND, OWN_BURST)
        self._counts: Counter[str] = Counter()
        self._summary_due = 0.0
        self._news: list[tuple[str, str]] = []
        self._published = journal_file.published(state)
        self._open()

    # --- what happens

    def record(
        self,
        event: str,
        what: What | None = None,
        *,
        pipeline: str = "",
        who: Who | None = None,
        durable: bool = False,
    ) -> None:
        """Append a line. ``event`` has lower-case letters and "_".

        ``durable``: the line is on the disk when this returns. Otherwise it is after ``tend``. If too many come,
        they are counted. Never raises.
        """
        bucket = self._outside if event in FROM_OUTSIDE else self._own
        if bucket.level(monotonic()) < 1:
            self.count(event)
            return
        bucket.spend(1)
        self._append(event, pipeline, who, what)
        if durable:
            self._sync()

    def count(self, event: str) -> None:
        """Count what gets no line of its own. A line once an hour has the counts."""
        if not self._counts:
            self._summary_due = monotonic() + SUMMARY
        known = event in self._counts or len(self._counts) < MOST_COUNTS - 1
        self._counts[event if known else "other"] += 1

    def published(self) -> None:
        """Take note that health has published the head. It is kept: a lost end of the journal is then noticed."""
        if self.head.seq and self.head != self._published:
            with suppress(OSError):
                journal_file.publish(self._state, self.head)
                self._published = self.head

    def tend(self) -> list[tuple[str, str]]:
        """Write what is due. Return events that are to be reported, each with its reason."""
        if self._counts and monotonic() >= self._summary_due:
            self._summarise()
        self._sync()
        news, self._news = self._news, []
        return news

    def close(self) -> None:
        """Write what was counted."""
        if self._counts:
            self._summarise()
        self._sync()

    def begin_again(self, reason: str) -> None:
        """Delete all lines. The first new one has the head of the old ones. Never raises."""
        try:
            state_files.remove(self._path)
            self._begin(reason)
        except OSError as error:
            self._fail(error)

    # --- the file

    def _summarise(self) -> None:
        counts, self._counts = dict(self._counts), Counter()
        self._append("summary", what=What(counts=counts))

    def _open(self) -> None:
        """Find out where the journal ends, and begin it again if it is damaged."""
        try:
            problem = self._read()
        except FileNotFoundError:
            problem = "it is missing" if self._published else ""
        except OSError as error:
            problem = error.strerror or "it cannot be read"
        if problem:
            self.head = self._published or self.head
            try:
                self._begin_after_damage(problem)
            except OSError as error:
                self._fail(error)

    def _read(self) -> str:
        """Follow the chain. Return what is wrong with it, empty if nothing is. ``OSError``."""
        found = journal_file.read(self._path, [self._published] if self._published else [])
        if found.problem:
            return found.problem
        if state_files.shared(self._path):
            return "it has another name elsewhere"
        self.head, self._size, self._last = found.chain.head or self.head, found.sound, found.chain.last
        if found.torn:
            self._set_torn_aside(found)
        return ""

    def _set_torn_aside(self, found: journal_file.Found) -> None:
        """Keep in another file what a power cut left behind the last whole line. ``OSError``."""
        with suppress(OSError):
            state_files.replace(self._path.with_name(f"{journal_file.NAME}.torn"), found.torn, 0o600)
        descriptor = os.open(self._path, _APPEND)
        try:
            os.ftruncate(descriptor, found.sound)
        finally:
            os.close(descriptor)
        what = What(count=len(found.torn), reason="the last line was not written whole, as after a power cut")
        self._append("torn", what=what)

    def _begin_after_damage(self, problem: str) -> None:
        """Begin again in place of a file that is not the journal any more. ``OSError``."""
        there = os.path.lexists(self._path)
        kept = f"; it was set aside as {state_files.set_aside(self._path).name}" if there else ""
        self._news.append(("state_damaged", f"{self._path}: {problem}{kept}; the audit journal begins again"))
        self._begin(problem)

    def _begin(self, reason: str) -> None:
        """Write a first line that has the head of what was there before, if that is known. ``OSError``."""
        self._size, self._because = 0, reason
        self._write([])

    def _append(self, event: str, pipeline: str = "", who: Who | None = None, what: What | None = None) -> None:
        """Write a line, and before it one that says what could not be written."""
        lines: list[_Line] = [(event, pipeline, who, what)]
        if self._unwritten:
            lines.insert(0, ("gap", "", None, What(count=self._unwritten, reason=self._why)))
        try:
            if self._size and (problem := self._changed()):
                self._begin_after_damage(problem)
            self._write(lines)
        except OSError as error:
            self._fail(error)
        else:
            self._unwritten = 0

    def _changed(self) -> str:
        """Return what another process has done to the file since the last line, empty if nothing. ``OSError``."""
        try:
            with open_file(self._path) as file:
                file.seek(self._size - self._last - 1)
                end = file.read(self._last + 2)
        except FileNotFoundError:
            return "it was deleted"
        except UnreadableError as error:
            return str(error)
        if state_files.shared(self._path):
            return "it has another name elsewhere"
        as_before = end.endswith(b"\n") and len(end) == self._last + 1 and hash_of(end[:-1]) == self.head.sha256
        return "" if as_before else "it does not end with the line that was written last"

    def _write(self, lines: list[_Line]) -> None:
        """Append lines, all or none. ``OSError``."""
        if self._because:
            lines = [("begun", "", None, What(reason=self._because)), *lines]
        head, data, encoded = self.head, b"", b""
        for line in lines:
            encoded = self._encoded(head, *line)
            head = Head(head.seq + 1, hash_of(encoded))
            data += encoded + b"\n"
        if self._size + len(data) > journal_file.LARGEST:
            self._make_room()
            self._write(lines)
            return
        with self._opened() as descriptor:
            try:
                written = os.write(descriptor, data)
                if written < len(data):
                    os.write(descriptor, data[written:])  # says why, as the disk is full
            except OSError:
                os.ftruncate(descriptor, self._size)
                raise
        self.head, self._size, self._last = head, self._size + len(data), len(encoded)
        self._unsynced, self._because = True, ""

    def _encoded(self, head: Head, event: str, pipeline: str, who: Who | None, what: What | None) -> bytes:
        time = datetime.now(timezone.utc)
        return encode(
            Entry(
                seq=head.seq + 1,
                prev=head.sha256,
                time=time,
                event=event,
                clock=clock.mark(time),
                boot=self._boot,
                pipeline=pipeline,
                who=who or NOT_KNOWN,
                what=what or NO_DETAILS,
            )
        )

    @contextmanager
    def _opened(self) -> Iterator[int]:
        """Open the file for a line, and make it if the journal begins."""
        if self._size:
            descriptor = os.open(self._path, _APPEND)
        else:
            descriptor = state_files.create(self._path)
            state_files.sync(self._state)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _make_room(self) -> None:
        """Cut the journal, or begin it again if what is there is not what was written. ``OSError``."""
        try:
            self._cut()
        except UnreadableError as error:
            self._begin_after_damage(str(error))

    def _cut(self) -> None:
        """Remove the older half, and write the line that says so in the same step. ``OSError``."""
        chain, all_lines = Chain(), list(journal_file.lines(self._path))
        for line in all_lines:
            chain.take(line.removesuffix(b"\n"))
        if chain.head != self.head:
            raise UnreadableError("it does not end with the line that was written last")
        kept, size = deque[bytes](), 0
        while size < journal_file.LARGEST // 2:
            kept.appendleft(all_lines.pop())
            size += len(kept[0])
        first = decode(kept[0].removesuffix(b"\n"))
        what = What(first=first.seq, cut=first.prev, reason=f"the file had {self._size} bytes")
        line = self._encoded(self.head, "cut", "", None, what)
        data = b"".join(kept) + line + b"\n"
        state_files.replace(self._path, data, 0o600)
        self.head, self._size, self._last = Head(self.head.seq + 1, hash_of(line)), len(data), len(line)

    def _sync(self) -> None:
        """Have the disk keep what was written."""
        if not self._unsynced:
            return
        self._unsynced = False
        try:
            descriptor = os.open(self._path, _APPEND)
            try:
                os.fdatasync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        """Count a line that could not be written. The first has an event."""
        if not self._unwritten:
            why = error.strerror or "it cannot be written"
            self._why = why
            self._news.append(
                ("audit_gap", f"{self._path}: {why}; lines of the audit journal are lost until then")
            )
        self.lost += 1
        self._unwritten += 1

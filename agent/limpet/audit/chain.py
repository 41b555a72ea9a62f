"""Whether lines are one unbroken chain. Decides, without I/O.

The first line of a journal has number 1. It has another number only if one of these says so:

* The line is ``begun``: the journal was begun again, and ``prev`` is the head that it had before.
* The last line ``cut`` names it: older lines were removed, and ``cut`` has the hash of the last of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from limpet.audit.entry import NOTHING, Head, decode, hash_of
from limpet.errors import UnreadableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.audit.entry import Entry


class Chain:
    """Follows the lines of a journal. ``watched``: heads that must be in it, as health published them."""

    def __init__(self, watched: Sequence[Head] = ()) -> None:
        self.head: Head | None = None
        self.last = 0
        """Bytes of the last line, without its newline."""
        self.first: Entry | None = None
        self.last_cut: Entry | None = None
        self.lost = 0
        """Lines that could not be written, as the chain says."""
        self._watched = watched
        self._found: dict[int, str] = {}
        """By number, the hashes of the lines that are watched."""

    def take(self, line: bytes) -> Entry:
        """Take the next line, without its newline. ``UnreadableError`` says what is wrong with it."""
        entry = decode(line)
        if self.head is None:
            self.first = entry
            self._note(Head(entry.seq - 1, entry.prev))
        elif entry.seq != self.head.seq + 1:
            raise UnreadableError(f"its number is {entry.seq}, and {self.head.seq + 1} is expected")
        elif entry.prev != self.head.sha256:
            raise UnreadableError(f"it does not have the hash of line {self.head.seq}: one of the two was changed")
        elif entry.event == "begun":
            raise UnreadableError("the journal begins again in its middle")
        if entry.event == "cut":
            self.last_cut = entry
        elif entry.event == "gap":
            self.lost += entry.what.count
        self.head, self.last = Head(entry.seq, hash_of(line)), len(line)
        self._note(self.head)
        return entry

    def _note(self, head: Head) -> None:
        if any(head.seq == watched.seq for watched in self._watched):
            self._found[head.seq] = head.sha256

    def problem(self) -> str:
        """Return what is wrong with the lines as a whole, empty if nothing is."""
        return self._start() or next(filter(None, map(self._compared, self._watched)), "")

    def _start(self) -> str:
        first, cut = self.first, self.last_cut
        if first is None:
            return ""
        if cut is not None:
            if (cut.what.first, cut.what.cut) == (first.seq, first.prev):
                return ""
            return (
                f"it begins at number {first.seq}; line {cut.seq} says that number {cut.what.first} is the first"
            )
        if first.event == "begun" or (first.seq, first.prev) == (1, NOTHING):
            return ""
        return f"it begins at number {first.seq}, and no line says that older ones were cut"

    def _compared(self, watched: Head) -> str:
        """Return what is wrong in view of a head that is known from elsewhere."""
        last = self.head.seq if self.head else 0
        if watched.seq > last:
            return (
                f"it ends at number {last}, and number {watched.seq} was published: the newest lines are missing"
            )
        found = self._found.get(watched.seq)
        if found is not None and found != watched.sha256:
            return f"line {watched.seq} is not the one that was published"
        return ""

    def has(self, watched: Head) -> bool:
        """Whether a watched head is in the chain. It is not if its line was cut since."""
        return self._found.get(watched.seq) == watched.sha256

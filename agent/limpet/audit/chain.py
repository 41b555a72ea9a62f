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
    from limpet.audit.entry import Entry


class Chain:
    """Follows the lines of a journal. ``watched``: a head that must be in it, as health published it."""

    def __init__(self, watched: Head | None = None) -> None:
        self.head: Head | None = None
        self.first: Entry | None = None
        self.last_cut: Entry | None = None
        self._watched = watched
        self._found: str | None = None
        """Hash of the line with the watched number."""

    def take(self, line: bytes) -> Entry:
        """Take the next line, without its newline. ``UnreadableError`` says what is wrong with it."""
        entry = decode(line)
        if self.head is None:
            self.first = entry
            if self._watched and self._watched.seq == entry.seq - 1:
                self._found = entry.prev
        elif entry.seq != self.head.seq + 1:
            raise UnreadableError(f"its number is {entry.seq}, and {self.head.seq + 1} is expected")
        elif entry.prev != self.head.sha256:
            raise UnreadableError(f"it does not have the hash of line {self.head.seq}: one of the two was changed")
        elif entry.event == "begun":
            raise UnreadableError("the journal begins again in its middle")
        if entry.event == "cut":
            self.last_cut = entry
        self.head = Head(entry.seq, hash_of(line))
        if self._watched and self._watched.seq == entry.seq:
            self._found = self.head.sha256
        return entry

    def problem(self) -> str:
        """Return what is wrong with the lines as a whole, empty if nothing is."""
        return self._start() or self._watched_head()

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

    def _watched_head(self) -> str:
        """Compare the head that is known from elsewhere."""
        watched = self._watched
        if watched is None or not watched.seq:
            return ""
        last = self.head.seq if self.head else 0
        if watched.seq > last:
            return (
                f"it ends at number {last}, and number {watched.seq} was published: the newest lines are missing"
            )
        if self._found is not None and self._found != watched.sha256:
            return f"line {watched.seq} is not the one that was published"
        return ""

    @property
    def confirmed(self) -> bool:
        """Whether the watched head is in the chain. It is not if its line was cut since."""
        return self._watched is not None and self._found == self._watched.sha256

"""For consumers: recognises redelivered results by their ids.

Results are delivered at least once. An id is ``device/pipeline/boot/sequence``, and a sequence never repeats
within its boot. So the seen ids of a pipeline are a few ranges of numbers::

    seen = Dedupe()
    for result in batch:
        if seen.add(result["id"]):
            handle(result)
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict

LONGEST = 300
"""Characters of an id, at most: four names and the slashes between them."""

RUNS = 10_000
"""Runs that are kept of a stream. If it has more holes, the lowest runs are forgotten."""


class Runs:
    """A set of whole numbers, kept as runs without a hole: ``starts`` and ``ends`` (inclusive) in order."""

    def __init__(self) -> None:
        self.starts: list[int] = []
        self.ends: list[int] = []

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self.starts, number) - 1
        return at >= 0 and number <= self.ends[at]

    def add(self, number: int) -> bool:
        """Add a number; return whether it is new."""
        at = bisect_right(self.starts, number)
        if at and number <= self.ends[at - 1]:
            return False
        after = at > 0 and self.ends[at - 1] == number - 1
        before = at < len(self.starts) and self.starts[at] == number + 1
        if after and before:
            self.ends[at - 1] = self.ends.pop(at)
            del self.starts[at]
        elif after:
            self.ends[at - 1] = number
        elif before:
            self.starts[at] = number
        else:
            self.starts.insert(at, number)
            self.ends.insert(at, number)
            if len(self.starts) > RUNS:
                del self.starts[0], self.ends[0]
        return True


class Dedupe:
    """Remembers ids. Beyond so many ``streams``, one for each pipeline and boot, it forgets the idlest."""

    def __init__(self, streams: int = 10_000) -> None:
        self._limit = streams
        self._streams: OrderedDict[str, Runs] = OrderedDict()

    def add(self, identifier: str) -> bool:
        """Note an id; return whether it is new. ``ValueError`` if it is none."""
        stream, _, sequence = identifier.rpartition("/")
        numbered = sequence.isascii() and sequence.isdigit()
        if stream.count("/") != 2 or not numbered or len(identifier) > LONGEST:
            raise ValueError(f"{identifier[:LONGEST]!r} is no result's id: expected device/pipeline/boot/sequence")
        runs = self._streams.setdefault(stream, Runs())
        self._streams.move_to_end(stream)
        if len(self._streams) > self._limit:
            self._streams.popitem(last=False)
        return runs.add(int(sequence))

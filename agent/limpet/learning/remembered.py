"""The last results of each pipeline: feedback names them by their id."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from limpet.learning.answered import Short, short

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from datetime import datetime

    from limpet.contracts.messages import ResultMessage

MOST = 4096
"""Results of a pipeline that are remembered."""
MOST_BYTES = 1 << 20
"""Bytes of their outputs."""


class Known(NamedTuple):
    """A result that feedback is about. ``chosen``: its window was kept for a reason, see ``AccuracyHealth``."""

    model: str
    version: int
    time: datetime
    short: Short
    chosen: bool = False


class _Kept(NamedTuple):
    model: str
    version: int
    time: datetime
    output: bytes


class _Results:
    """The results of one pipeline by their number, oldest first."""

    def __init__(self) -> None:
        self.results: OrderedDict[int, _Kept] = OrderedDict()
        self._bytes = 0

    def add(self, number: int, kept: _Kept) -> None:
        self.results[number] = kept
        self._bytes += len(kept.output)
        while len(self.results) > 1 and (len(self.results) > MOST or self._bytes > MOST_BYTES):
            _, oldest = self.results.popitem(last=False)
            self._bytes -= len(oldest.output)


class Remembered:
    """Outputs are read when there is feedback for them, and not before: most never get any."""

    def __init__(self) -> None:
        self._results: dict[str, _Results] = {}

    def use(self, pipelines: Collection[str]) -> None:
        """Forget the results of other pipelines."""
        self._results = {name: kept for name, kept in self._results.items() if name in pipelines}

    def take(self, results: Iterable[ResultMessage]) -> None:
        """Remember results."""
        for one in results:
            output = bytes(one.output) if isinstance(one.output, msgspec.Raw) else msgspec.json.encode(one.output)
            if one.pipeline not in self._results:
                self._results[one.pipeline] = _Results()
            self._results[one.pipeline].add(one.sequence, _Kept(one.model, one.version, one.time, output))

    def find(self, pipeline: str, number: int) -> Known | str:
        """Return a result by its number, or a sentence that says why it is not known."""
        results = self._results.get(pipeline)
        kept = results.results.get(number) if results is not None else None
        if kept is None:
            return f"the result is not among the last {MOST} of {pipeline!r}, nor captured"
        found = short(kept.output)
        if found is None:
            return "such an output has no answer that a truth could be compared with"
        return Known(kept.model, kept.version, kept.time, found)

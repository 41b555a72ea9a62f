"""Which assignments a pipeline was given, which one is proven, and which one failed. Decides, without I/O.

A changed assignment is a new revision. It is proven once it has given results, or once its worker reports that it
has taken over from the one before. If it fails or crashes its worker, the proven one goes on or is started again.
The failed one is not tried again until the assignment changes.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import msgspec

from limpet.contracts.assignment import Assignment
from limpet.wire.records import Incident, SwapReport

if TYPE_CHECKING:
    from collections.abc import Iterator

    from limpet.contracts.assignment import PipelineAssignment

MOST_OFFERED = 8
"""Revisions that are remembered because a process was given them, besides those that it runs or is to run."""
_numbers = count(1)


class Revision(msgspec.Struct, frozen=True):
    """What one pipeline runs: the assignment of its cell, with this pipeline alone."""

    number: int
    assignment: Assignment

    @property
    def pipeline(self) -> PipelineAssignment:
        """What the pipeline runs."""
        (one,) = self.assignment.pipelines.values()
        return one

    def same(self, assignment: Assignment) -> bool:
        """Whether a pipeline would run just so with another assignment of it alone."""
        return (self.pipeline, self.assignment.folders, _delegates(self.assignment)) == (
            *assignment.pipelines.values(),
            assignment.folders,
            _delegates(assignment),
        )


def _delegates(assignment: Assignment) -> dict[str, object]:
    """Return the tables of the delegates that a pipeline names."""
    (pipeline,) = assignment.pipelines.values()
    return {name: table for name, table in assignment.delegates.items() if name in pipeline.options.delegates}


class Revisions:
    """The revisions of one pipeline. ``refused`` says why the wanted one is not tried again, if it is not."""

    def __init__(self, assignment: Assignment) -> None:
        self.wanted = Revision(next(_numbers), assignment)
        self.proven: Revision | None = None
        self.refused = ""
        self._offered = {self.wanted.number: self.wanted}
        self._at_work = 0
        self._swapping = 0
        self._begun: set[int] = set()

    @property
    def chosen(self) -> Revision:
        """What a worker is to run."""
        return self.proven if self.refused and self.proven is not None else self.wanted

    @property
    def unproven(self) -> Revision | None:
        """The wanted revision, if it may fail and there is another one to go back to."""
        fresh = not self.refused and self.proven is not None and self.proven.number != self.wanted.number
        return self.wanted if fresh else None

    @property
    def swapping(self) -> bool:
        """Whether the worker is opening a successor, and the old pipeline runs."""
        return bool(self._swapping)

    def find(self, number: int) -> Revision | None:
        """Return a revision that this process was given."""
        return self._offered.get(number)

    def want(self, assignment: Assignment) -> bool:
        """Take an assignment of this pipeline alone. Return whether it is another one."""
        if self.wanted.same(assignment):
            return False
        back = self.proven is not None and self.proven.same(assignment)
        self.wanted = self.proven if back and self.proven else Revision(next(_numbers), assignment)
        self._offered[self.wanted.number] = self.wanted
        self._forget()
        self.refused = ""
        return True

    def _forget(self) -> None:
        """Forget the oldest revisions: a governor may go up and down its ladder for years."""
        kept = {self.wanted.number, self._at_work, self._swapping, self.proven.number if self.proven else 0}
        for number in [number for number in self._offered if number not in kept][:-MOST_OFFERED]:
            del self._offered[number]
        self._begun &= self._offered.keys()

    def retry(self) -> None:
        """Forget that the wanted revision failed."""
        self.refused = ""

    def started(self) -> None:
        """Take note of a new process. It will run the chosen revision."""
        self._offered = {one.number: one for one in (self.wanted, self.proven) if one is not None}
        self._at_work, self._swapping = self.chosen.number, 0
        self._begun.clear()

    def runs(self, number: int) -> None:
        """Take note that the worker loads or runs a revision."""
        if number in self._offered:
            self._at_work = number

    def gave_results(self) -> None:
        """Take note that what the worker runs works."""
        self.proven = self._offered.get(self._at_work, self.proven)

    def not_opened(self, number: int, reason: str) -> bool:
        """Take note that a revision does not run. Return whether the proven one is to be run instead."""
        return self._refuse(number, reason)

    def swap(self, report: SwapReport) -> Iterator[Incident]:
        """Take note of a swap. Yield the event that it is: one for each revision, whatever a worker reports."""
        revision = self._offered.get(report.revision)
        if revision is None:
            return
        if report.step == "begun":
            if revision.number in self._begun:
                return
            self._begun.add(revision.number)
            self._swapping = revision.number
            self.proven = self.proven or self._offered.get(self._at_work)
        elif revision.number == self._swapping:
            if report.step == "done":
                self.proven, self._at_work = revision, revision.number
                yield Incident(report.pipeline, "swapped", f"{report.reason} took over")
            else:
                yield self._failed(revision, report.reason)
                self._refuse(revision.number, report.reason)
            self._swapping = 0

    def crashed(self, reason: str) -> Incident | None:
        """Take note of a crash. If the wanted revision is to blame, return the event that it is: it is refused."""
        wanted = self.wanted
        return self._failed(wanted, reason) if self._refuse(wanted.number, reason) else None

    def failure(self, reason: str) -> Incident:
        """Return the event that the wanted revision failed."""
        return self._failed(self.wanted, reason)

    def _refuse(self, number: int, reason: str) -> bool:
        """Refuse the wanted revision, if it has this number, was being tried, and there is a proven one."""
        unproven = self.unproven
        if unproven is None or unproven.number != number or number not in (self._swapping, self._at_work):
            return False
        self.refused = reason
        return True

    def _failed(self, revision: Revision, reason: str) -> Incident:
        old, new = _named(self.proven or revision), _named(revision)
        what = f"{new} is not used" if new != old else "its new options are not used"
        text = f"{what}, {old} goes on: {reason}"
        sha256 = revision.pipeline.model.sha256
        if self.proven is None or sha256 == self.proven.pipeline.model.sha256:
            return Incident(revision.pipeline.name, "swap_failed", text)
        return Incident(revision.pipeline.name, "swap_failed", text, sha256, reason)


def _named(revision: Revision) -> str:
    model = revision.pipeline.model
    return model.path.name if model.path.suffix == ".tflite" else f"{model.name} {model.version}"

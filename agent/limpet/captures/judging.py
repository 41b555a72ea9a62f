"""Which windows of a pipeline are worth keeping, and which may not be kept. Decides, without I/O."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec

from limpet.captures import rules
from limpet.contracts.captures import LONGEST_DETAIL, Reason
from limpet.contracts.outputs import Classification, Labels, Regression

if TYPE_CHECKING:
    from collections.abc import Callable

    from limpet.contracts.captures import KeepOptions
    from limpet.updates.answers import Answer

ENOUGH = 500
"""Results before a label can be rare."""
MOST_COUNTED = 100_000
"""Results after which all counts are halved, so that they follow the present."""
MOST_LABELS = 1000
"""Labels that are counted."""


class Verdict(msgspec.Struct):
    """Why a window is worth keeping: the reasons, and in words. Without reasons it is not.

    ``earlier``: the windows before it are, too. ``refused``: it may not be kept, whatever the reasons.
    """

    reasons: list[Reason]
    detail: str = ""
    earlier: bool = False
    refused: bool = False


class Judge:
    """Judges the windows of one pipeline in their order. ``chance`` returns random numbers from 0 to 1."""

    def __init__(self, options: KeepOptions, chance: Callable[[], float] = random.random) -> None:
        self._options = options
        self._chance = chance
        self._never = frozenset(options.never)
        self._wanted = frozenset(options.labels)
        self._counts: Counter[str] = Counter()
        self._results = 0
        self._commanded = 0
        self._drifted = 0
        self._drift = ""
        self._after = 0
        self._disagreed = ""

    def command(self, windows: int) -> None:
        """Keep the next windows, as a command requests."""
        self._commanded = windows

    @property
    def commanded(self) -> int:
        """How many windows a command still waits for."""
        return self._commanded

    def drift(self, detail: str) -> None:
        """Keep the next windows, as a monitor has raised an alarm."""
        self._drifted, self._drift = self._options.drifted, detail

    def disagreed(self, detail: str) -> None:
        """Keep the next window, as a shadow gave another answer to one that is gone."""
        self._disagreed = detail

    def see(self, output: Any, answer: Answer, *, event: bool) -> Verdict:
        """Judge the next window. ``answer``: its output in short. ``event``: a stage found an event in it."""
        found: dict[Reason, str] = {}
        if self._commanded:
            found["command"] = ""
        self._look_at_event(found, event=event)
        self._look_at_others(found)
        labels = labels_of(answer)
        self._look_at_labels(labels, found)
        if detail := unsure(output, answer, self._options):
            found["unsure"] = detail
        if not found and self._options.audit and self._chance() * self._options.audit < 1:
            found["audit"] = f"1 in {self._options.audit:,}"
        if not found:
            return Verdict([])
        refused = not self._never.isdisjoint(labels)
        if not refused:
            self._commanded -= "command" in found
        detail = "; ".join(filter(None, found.values()))[:LONGEST_DETAIL]
        earlier = event and self._options.events and self._options.before > 0
        return Verdict(rules.ordered(found), detail, earlier, refused)

    def may_keep(self, answer: Answer) -> bool:
        """Whether a window with this answer may be kept."""
        return self._never.isdisjoint(labels_of(answer))

    def _look_at_event(self, found: dict[Reason, str], *, event: bool) -> None:
        if not self._options.events:
            return
        if event:
            self._after = self._options.after
            found["event"] = ""
        elif self._after:
            self._after -= 1
            found["event"] = "after an event"

    def _look_at_others(self, found: dict[Reason, str]) -> None:
        if self._drifted:
            self._drifted -= 1
            found["drifted"] = self._drift
        if self._disagreed:
            found["disagreement"], self._disagreed = self._disagreed, ""

    def _look_at_labels(self, labels: list[str], found: dict[Reason, str]) -> None:
        for label in labels:
            if label in self._wanted:
                found["rare"] = label
            elif self._results >= ENOUGH and self._counts[label] < self._options.rare * self._results:
                found["rare"] = f"{label}: {self._counts[label]} of {self._results:,} windows"
        self._count(labels)

    def _count(self, labels: list[str]) -> None:
        self._results += 1
        for label in labels:
            if label in self._counts or len(self._counts) < MOST_LABELS:
                self._counts[label] += 1
        if self._results >= MOST_COUNTED:
            self._results //= 2
            self._counts = Counter({label: count // 2 for label, count in self._counts.items() if count > 1})


def labels_of(answer: Answer) -> list[str]:
    """Return the labels of an answer, each once."""
    value = answer.value
    if isinstance(value, str):
        return [value]
    return list(dict.fromkeys(value)) if isinstance(value, list) else []


def unsure(output: Any, answer: Answer, options: KeepOptions) -> str:
    """Return in words why the model is not sure of an output, empty if it is.

    An output without scores, sets and abstention is never unsure.
    """
    if options.abstained and isinstance(output, Classification | Labels | Regression) and output.abstained:
        return "the model abstained"
    if isinstance(output, Classification) and (why := _unsure_class(output, options)):
        return why
    if answer.score is not None and answer.score < options.score:
        return f"score {answer.score:.3g}"
    return ""


def _unsure_class(output: Classification, options: KeepOptions) -> str:
    labels = output.set
    if options.set_size and labels is not None and not 0 < len(labels) < options.set_size:
        return f"a set of {len(labels)} labels"
    scores = [one.score for one in output.top[:2]]
    if len(scores) == 2 and scores[0] is not None and scores[1] is not None:
        margin = scores[0] - scores[1]
        if margin < options.margin:
            return f"margin {margin:.3g}"
    return ""

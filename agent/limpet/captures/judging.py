"""Which windows of a pipeline are worth keeping, and which may not be kept. Decides, without I/O."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import msgspec

from limpet.captures import rules
from limpet.contracts.captures import LONGEST_DETAIL, Reason
from limpet.contracts.outputs import Classification, Labels, Regression

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from limpet.contracts.captures import KeepOptions
    from limpet.updates.answers import Answer

ENOUGH = 500
"""Results before a label can be rare."""
MOST_COUNTED = 100_000
"""Results after which all counts are halved, so that they follow the present."""
_ABSTAINING = (Classification, Labels, Regression)
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


NOTHING = Verdict([])


class Judge:
    """Judges the windows of one pipeline in their order. ``chance`` returns random numbers from 0 to 1."""

    def __init__(self, options: KeepOptions, chance: Callable[[], float] = random.random) -> None:
        self._options = options
        self._chance = chance
        self._never = frozenset(options.never)
        self._wanted = frozenset(options.labels)
        self._counts: dict[str, int] = {}
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

    def see(self, output: Any, answer: Answer, *, event: bool, scores: Sequence[float] | None = None) -> Verdict:
        """Judge the next window. ``answer``: its output in short. ``event``: a stage found an event in it.

        ``scores``: the probability of each class, if they are known.
        """
        labels = labels_of(answer)
        found: dict[Reason, str] = {}
        if event or self._commanded or self._after or self._drifted or self._disagreed:
            self._look_at_requests(found, event=event)
        self._look_at_labels(labels, found)
        if detail := unsure(output, answer, self._options, scores):
            found["unsure"] = detail
        if found:
            return self._verdict(found, labels, event=event)
        if self._options.audit and self._chance() * self._options.audit < 1:
            return self._verdict({"audit": f"1 in {self._options.audit:,}"}, labels, event=event)
        return NOTHING

    def _verdict(self, found: dict[Reason, str], labels: Sequence[str], *, event: bool) -> Verdict:
        refused = not self._never.isdisjoint(labels)
        if not refused:
            self._commanded -= "command" in found
        detail = "; ".join(filter(None, found.values()))[:LONGEST_DETAIL]
        earlier = event and self._options.events and self._options.before > 0
        return Verdict(rules.ordered(found), detail, earlier, refused)

    def may_keep(self, answer: Answer) -> bool:
        """Whether a window with this answer may be kept."""
        return self._never.isdisjoint(labels_of(answer))

    def _look_at_requests(self, found: dict[Reason, str], *, event: bool) -> None:
        """Look at what is not in the window's own answer."""
        if self._commanded:
            found["command"] = ""
        if event and self._options.events:
            self._after = self._options.after
            found["event"] = ""
        elif self._after:
            self._after -= 1
            found["event"] = "after an event"
        if self._drifted:
            self._drifted -= 1
            found["drifted"] = self._drift
        if self._disagreed:
            found["disagreement"], self._disagreed = self._disagreed, ""

    def _look_at_labels(self, labels: Sequence[str], found: dict[Reason, str]) -> None:
        """Look whether a label is rare or wanted, and count it."""
        counts, results = self._counts, self._results
        for label in labels:
            count = counts.get(label, 0)
            if label in self._wanted:
                found["rare"] = label
            elif results >= ENOUGH and count < self._options.rare * results:
                found["rare"] = f"{label}: {count} of {results:,} windows"
            if count or len(counts) < MOST_LABELS:
                counts[label] = count + 1
        self._results = results + 1
        if results >= MOST_COUNTED:
            self._results //= 2
            self._counts = {label: count // 2 for label, count in counts.items() if count > 1}


def labels_of(answer: Answer) -> Sequence[str]:
    """Return the labels of an answer, each once."""
    value = answer.value
    if isinstance(value, str):
        return (value,)
    return tuple(dict.fromkeys(value)) if isinstance(value, list) else ()


def unsure(output: Any, answer: Answer, options: KeepOptions, scores: Sequence[float] | None = None) -> str:
    """Return in words why the model is not sure of an output, empty if it is.

    An output without scores, sets and abstention is never unsure. ``scores``: see ``Judge.see``.
    """
    if isinstance(output, _ABSTAINING) and output.abstained and options.abstained:
        return "the model abstained"
    if type(output) is Classification and (why := _unsure_class(output, options, scores)):
        return why
    if answer.score is not None and answer.score < options.score:
        return f"score {answer.score:.3g}"
    return ""


def _unsure_class(output: Classification, options: KeepOptions, scores: Sequence[float] | None) -> str:
    labels = output.set
    if labels is not None and options.set_size and not 0 < len(labels) < options.set_size:
        return f"a set of {len(labels)} labels"
    margin = _margin(output, scores) if options.margin else None
    return f"margin {margin:.3g}" if margin is not None and margin < options.margin else ""


def _margin(output: Classification, scores: Sequence[float] | None) -> float | None:
    """Return by how much the best class exceeds the second, ``None`` if only one is known.

    By default, a result names the best class alone: ``scores`` have the second one. A posterior goes first.
    """
    given: Sequence[float | None] = [one.score for one in output.top]
    if output.posterior:
        given = list(output.posterior.values())
    elif len(given) < 2 and scores is not None:
        given = sorted(scores, reverse=True)
    if len(given) < 2 or given[0] is None or given[1] is None:
        return None
    return given[0] - given[1]

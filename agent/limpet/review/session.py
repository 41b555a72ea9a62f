"""What a person does in a review: a queue of captures, and one answer for each. No I/O."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from limpet.errors import LimpetError
from limpet.recordings.folder import label_problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from limpet.captures.ring import Entry
    from limpet.contracts.captures import Answer

MOST_OFFERED = 9
"""Labels that are offered, of those that are no digits."""
DIGITS = frozenset("0123456789")
NOTHING = "0"
"""What a person types if nothing is there."""


class Said(NamedTuple):
    """What a person said about a capture. ``truth``: see ``Truth``; ``unsure``: the person cannot say."""

    truth: Answer = None
    unsure: bool = False


class Move(NamedTuple):
    """The person goes on or back without an answer, or ends the review."""

    to: str


Step: TypeAlias = Said | Move
SKIP, BACK, PLAY, END = Move("skip"), Move("back"), Move("play"), Move("end")
UNSURE = Said(unsure=True)
WORDS: dict[str, Step] = {"": SKIP, "s": SKIP, "b": BACK, "p": PLAY, "q": END, "u": UNSURE, "?": UNSURE}
"""Commands that a person types, or presses as keys."""


class Queue:
    """Captures in the order in which a person sees them. ``at``: the place of the one that is shown."""

    def __init__(self, entries: Sequence[Entry], labels: Iterable[str] = ()) -> None:
        """Take captures. ``labels`` are offered first, then those of the captures."""
        self.entries = list(entries)
        self.labels = offered(entries, labels)
        self.at = 0
        self.said: dict[int, Said] = {}

    @property
    def current(self) -> Entry | None:
        """The capture that is shown, ``None`` at the end."""
        return self.entries[self.at] if self.at < len(self.entries) else None

    def take(self, step: Step) -> None:
        """Take an answer and go on, or move. ``PLAY`` changes nothing."""
        if isinstance(step, Said):
            self.said[self.at] = step
        elif step == END:
            self.at = len(self.entries)
        elif step == BACK:
            self.at = max(self.at - 1, 0)
        if isinstance(step, Said) or step == SKIP:
            self.at += 1


def offered(entries: Sequence[Entry], labels: Iterable[str]) -> list[str]:
    """Return labels to choose from: those wanted first, then those of answers and truths, the commonest first.

    If some are digits, they come first, in their order.
    """
    seen: Counter[str] = Counter()
    for one in entries:
        truth = None if one.truth is None else one.truth.truth
        for answer in (truth, one.capture.answer):
            named = [answer] if isinstance(answer, str) else answer if isinstance(answer, list) else []
            seen.update(name for name in named if not label_problem(name))
    found = dict.fromkeys([*labels, *(name for name, _ in seen.most_common())])
    return [*sorted(DIGITS & found.keys()), *[name for name in found if name not in DIGITS][:MOST_OFFERED]]


def choices(labels: Sequence[str]) -> dict[str, str]:
    """Return what to press for labels that are offered. A digit that is a label itself stands for no other one."""
    digits = {name: name for name in labels if name in DIGITS}
    return digits or {str(number): name for number, name in enumerate(labels[:MOST_OFFERED], 1)}


def offers_nothing(labels: Sequence[str]) -> bool:
    """Whether 0 means that nothing is there. It does not if it could be a label."""
    return DIGITS.isdisjoint(labels)


def understood(text: str, answer: Answer, labels: Sequence[str]) -> Step:
    """Return what a typed line means for a capture with this answer. ``LimpetError`` says what is wrong with it.

    A digit is one of the labels, see ``choices``. If the model answered with a number, the text is a number.
    Several labels have commas between them. A label that is named like a command or a digit begins with ``=``.
    """
    text = text.strip()
    if text in WORDS:
        return WORDS[text]
    if isinstance(answer, float):
        return Said(number(text))
    if (chosen := choices(labels).get(text)) is not None:
        return labelled(chosen, answer)
    if text == NOTHING and offers_nothing(labels):
        return Said()
    if text in DIGITS:
        raise LimpetError(f"{text} stands for no label here; to type a label, begin with =")
    return labelled(text.removeprefix("="), answer)


def number(text: str) -> float:
    """Return a truth that is a number. ``LimpetError`` if the text is none."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not abs(value) <= 1e300:
        raise LimpetError(f"{text!r} is no number; the model's answer is one")
    return value


def labelled(text: str, answer: Answer) -> Said:
    """Return a truth that is a label, or several. ``LimpetError`` if one cannot be a label of a recording."""
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if problem := label_problem(name):
            raise LimpetError(problem)
    return Said(names if isinstance(answer, list) or len(names) > 1 else names[0])


def checked(said: Said, answer: Answer) -> Said:
    """Return an answer of a script. ``LimpetError`` if it does not suit what the model answered."""
    truth = said.truth
    if said.unsure:
        if truth is not None:
            raise LimpetError("unsure is true, so leave truth out")
        return said
    if isinstance(answer, float) and truth is not None and not isinstance(truth, float):
        raise LimpetError(f"the truth {truth!r} is no number; the model's answer is one")
    if isinstance(answer, str | list) and isinstance(truth, float):
        raise LimpetError(f"the truth {truth:g} is a number; the model's answer is a label")
    for name in [truth] if isinstance(truth, str) else truth if isinstance(truth, list) else []:
        if problem := label_problem(name):
            raise LimpetError(problem)
    return said

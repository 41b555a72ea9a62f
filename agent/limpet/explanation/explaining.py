"""Answers a question about one window: chooses parts and method, and asks the model about changed windows.

``explain`` is a generator: it yields a window and is sent what the decoder made of it. So the caller, who runs the
model, decides when. The same window and the same question give the same explanation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import numpy as np

from limpet.contracts.explanation import LONGEST_PART, MOST_PARTS, Explanation, Importance
from limpet.explanation import attribution, changes
from limpet.explanation.answers import read
from limpet.explanation.parts import divide, usual
from limpet.wording import suggest

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from numpy.typing import NDArray

    from limpet.contracts.data import Array
    from limpet.contracts.explanation import Baseline, Change, Method, Question
    from limpet.explanation.answers import Answer, Box, Decoded
    from limpet.explanation.parts import Parts

    T = TypeVar("T")
    Asking: TypeAlias = Generator[Array, Decoded, T]

_FOR_CHANGES = 4
"""One invoke in so many is kept for the smallest change."""
_NO_REFERENCE = "The bundle has no reference, so hidden parts are 0, which may be far from what is typical."
_SHAPLEY = 32
"""Parts from which on they are hidden one by one unless the question wants something else."""


@dataclass(frozen=True)
class Subject:
    """A window to explain, and what is known about it.

    ``values`` has shape ``(rows, *shape of one sample)``. ``rate``: rows a second. ``picture``: each row is a
    picture ``(height, width, colours)``. ``typical`` and ``spreads``: median and standard deviation of each
    channel in the reference, float64 ``(channels,)``. ``labels``: those of the model. ``cut``: which part of the
    source's picture the window shows.
    """

    values: Array
    channels: Sequence[str] = ()
    rate: float | None = None
    picture: bool = False
    typical: NDArray[np.float64] | None = None
    spreads: NDArray[np.float64] | None = None
    labels: Sequence[str] = ()
    cut: Box | None = None


def explain(subject: Subject, question: Question) -> Asking[Explanation]:
    """Explain the answer to a window. ``ValueError`` says why that is not possible, or what the question lacks."""
    if question.label and subject.labels and question.label not in subject.labels:
        raise ValueError(f"the model has no label {question.label!r}{suggest(question.label, subject.labels)}")
    asked = _Asked(subject)
    by = question.by or usual(asked.values, subject.rate, picture=subject.picture)
    baseline, base = _baseline(subject, asked.values, question.baseline)
    room = question.invokes - (question.invokes // _FOR_CHANGES if question.change else 0)
    parts = divide(
        asked.values,
        base,
        by,
        channels=subject.channels,
        rate=subject.rate,
        fine=question.method == "rise",
        most=max(1, min(MOST_PARTS, room - 2)),
    )
    whole = yield from asked.first()
    label = question.label or whole.best
    asked.near = whole.boxes.get(label)
    method = question.method or ("shapley" if len(parts.names) < _SHAPLEY else "occlusion")
    value = whole.number(label)
    hidden = (yield from asked.answer(parts.shown(np.zeros(len(parts.names))))).number(label)
    try:
        found = yield from _attributed(asked, parts, label, _method(method, parts, value, hidden, room))
    except attribution.TooFewError as error:
        raise ValueError(f"{error}; {room} of {question.invokes} are for that") from error
    changed = None
    if question.change and whole.classifies:
        changed = yield from _changed(asked, parts, found.values, whole.label, question.invokes - asked.invokes)
    return Explanation(
        answer=_short(whole.label),
        label=label[:LONGEST_PART],
        value=value,
        hidden=hidden,
        by=by,
        method=method,
        baseline=baseline,
        exact=found.exact,
        invokes=asked.invokes,
        shape=list(parts.shape),
        parts=_importances(parts, found),
        cut=subject.cut,
        changes=changed,
        notes=[_NO_REFERENCE] if baseline == "zero" and not question.baseline and by != "bands" else [],
    )


class _Asked:
    """Asks about windows of one subject, and counts them. ``near``: where the object is that is explained."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.values = subject.values if subject.picture else subject.values.reshape(len(subject.values), -1)
        self.invokes = 0
        self.near: Box | None = None

    def answer(self, values: Array) -> Asking[Answer]:
        """Return the answer to a window."""
        self.invokes += 1
        return read((yield values.reshape(self.subject.values.shape)), self.near)

    def first(self) -> Asking[Answer]:
        """Return the answer to the window as it is."""
        return self.answer(self.values)


def _method(method: Method, parts: Parts, value: float, hidden: float, room: int) -> attribution.Asking:
    """Return what asks for the importances. ``TooFewError`` if it needs more invokes than there are."""
    count = len(parts.names)
    if method == "shapley":
        return attribution.shapley(count, value, hidden, room)
    if method == "rise":
        return attribution.rise(parts.shape, room - 2, smooth=parts.by == "pixels")
    if count > room - 2:
        raise attribution.TooFewError(f"occlusion of {count} parts needs at least {count + 2} invokes")
    return attribution.occlusion(count, value)


def _attributed(
    asked: _Asked, parts: Parts, label: str, asking: attribution.Asking
) -> Asking[attribution.Attribution]:
    """Ask about windows with parts hidden until the importances are known."""
    try:
        share = next(asking)
        while True:
            answer = yield from asked.answer(parts.shown(share))
            share = asking.send(answer.number(label))
    except StopIteration as done:
        found: attribution.Attribution = done.value
        return found


def _changed(
    asked: _Asked, parts: Parts, importance: NDArray[np.float64], answer: str | None, left: int
) -> Asking[list[Change]]:
    """Ask for the smallest change of a channel. If there is none, or of other parts, hide few of them."""
    found: list[Change] = []
    if parts.by == "channels":
        values, subject = asked.values, asked.subject
        names = [_channel(subject.channels, number) for number in range(values.shape[1])]
        found = yield from _answered(asked, changes.of_channels(values, _spreads(asked), names, answer, left // 2))
        left = left // 2
    return found or (yield from _answered(asked, changes.of_parts(parts, importance, answer, left)))


def _answered(asked: _Asked, asking: changes.Asking) -> Asking[list[Change]]:
    try:
        values = next(asking)
        while True:
            values = asking.send((yield from asked.answer(values)).label)
    except StopIteration as done:
        found: list[Change] = done.value
        return found


def _baseline(subject: Subject, values: Array, wanted: Baseline | None) -> tuple[Baseline, Array]:
    """Return what replaces hidden parts, and its name. ``ValueError`` if the reference is wanted and missing."""
    usual: Baseline = "mean" if len(values) > 1 or subject.picture else "zero"
    chosen = wanted or ("typical" if subject.typical is not None else usual)
    if chosen == "zero":
        return chosen, np.zeros(values.shape[-1])
    if chosen == "mean":
        return chosen, values.mean(tuple(range(values.ndim - 1)), dtype=np.float64)
    if subject.typical is None:
        raise ValueError('there is no reference, so nothing says what is typical; use the baseline "mean"')
    return chosen, subject.typical


def _spreads(asked: _Asked) -> NDArray[np.float64]:
    """Return the standard deviation of each channel: the reference's, else the window's, else how large it is."""
    if asked.subject.spreads is not None:
        return asked.subject.spreads
    values = asked.values.astype(np.float64)
    return np.asarray(values.std(0) if len(values) > 1 else np.abs(values[0]))


def _importances(parts: Parts, found: attribution.Attribution) -> list[Importance]:
    errors = [None] * len(parts.names) if found.errors is None else found.errors.tolist()
    return [
        Importance(name=name, value=value, error=error)
        for name, value, error in zip(parts.names, found.values.tolist(), errors, strict=True)
    ]


def _channel(channels: Sequence[str], number: int) -> str:
    return (channels[number] if number < len(channels) else f"channel {number}")[:LONGEST_PART]


def _short(text: str | None) -> str | None:
    return None if text is None else text[:LONGEST_PART]

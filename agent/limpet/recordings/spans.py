"""Labels of a recording as spans of time. Pure functions: each returns a new list of spans, in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limpet.recordings.folder import Span

if TYPE_CHECKING:
    from collections.abc import Sequence


def label_of(spans: Sequence[Span], first: float, last: float) -> str:
    """Return the label of a window from its first sample to its last, in seconds.

    Empty if the window is not wholly in one span.
    """
    return next((span.label for span in spans if span.begin <= first and last < span.end), "")


def with_span(spans: Sequence[Span], label: str, begin: float, end: float) -> list[Span]:
    """Set the label from ``begin`` to ``end``, in place of any label there. ``ValueError`` for an empty span."""
    return _joined([*without(spans, begin, end), Span(label, begin, end)])


def without(spans: Sequence[Span], begin: float, end: float) -> list[Span]:
    """Remove all labels from ``begin`` to ``end``. A span that goes beyond keeps its rest."""
    rest: list[Span] = []
    for span in spans:
        if span.end <= begin or span.begin >= end:
            rest.append(span)
            continue
        if span.begin < begin:
            rest.append(Span(span.label, span.begin, begin))
        if span.end > end:
            rest.append(Span(span.label, end, span.end))
    return rest


def clipped(spans: Sequence[Span], end: float) -> list[Span]:
    """Cut the spans off at the end of the recording."""
    return [Span(s.label, s.begin, min(s.end, end)) for s in spans if s.begin < end]


def seconds_of(spans: Sequence[Span]) -> dict[str, float]:
    """Return how many seconds each label has, by label in alphabetical order."""
    totals: dict[str, float] = {}
    for span in spans:
        totals[span.label] = totals.get(span.label, 0.0) + span.end - span.begin
    return dict(sorted(totals.items()))


def _joined(spans: Sequence[Span]) -> list[Span]:
    """Sort the spans, and join those that touch and have the same label."""
    joined: list[Span] = []
    for span in sorted(spans, key=lambda one: one.begin):
        before = joined[-1] if joined else None
        if before is not None and before.label == span.label and before.end == span.begin:
            joined[-1] = Span(span.label, before.begin, span.end)
        else:
            joined.append(span)
    return joined

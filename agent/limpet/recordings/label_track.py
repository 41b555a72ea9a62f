"""The label while a recording runs: changes of it become spans. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limpet.recordings.folder import Span
from limpet.recordings.spans import clipped

if TYPE_CHECKING:
    from collections.abc import Sequence


class LabelTrack:
    """``label`` is the current label, empty for none."""

    def __init__(self, label: str = "") -> None:
        self.label = label
        self._closed: list[Span] = []
        self._since = 0.0

    def change(self, label: str, seconds: float) -> None:
        """Set the label from this time on. A time before the last change counts as the time of that change."""
        if label == self.label:
            return
        seconds = max(round(seconds, 6), self._since)
        if self.label and seconds > self._since:
            self._closed.append(Span(self.label, self._since, seconds))
        self.label, self._since = label, seconds

    @property
    def changes(self) -> int:
        """How many spans have ended."""
        return len(self._closed)

    def spans(self, end: float) -> list[Span]:
        """Return the spans of a recording that ends here. Later changes are left out."""
        spans = [*self._closed]
        if self.label and end > self._since:
            spans.append(Span(self.label, self._since, end))
        return clipped(spans, end)

    def counts(self, times: Sequence[float]) -> dict[str, int]:
        """Return how many samples at these times have each label, under the empty string those without one."""
        found: dict[str, int] = {}
        if times and times[0] >= self._since:
            return {self.label: len(times)}
        for time in times:
            found[self._label_at(time)] = found.get(self._label_at(time), 0) + 1
        return found

    def _label_at(self, time: float) -> str:
        if time >= self._since:
            return self.label
        return next((span.label for span in reversed(self._closed) if span.begin <= time < span.end), "")

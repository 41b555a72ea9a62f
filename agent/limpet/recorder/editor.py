"""Cutting and labelling one recording with keys. Decides, without I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from limpet.recordings.folder import label_problem
from limpet.recordings.spans import with_span, without

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from limpet.recordings.folder import Recording, Span

Action: TypeAlias = Literal["", "save", "quit", "next", "previous", "reload"]
"""What the caller is to do after a key."""
COLUMNS = 78
"""Columns of the plot: how far one press of an arrow moves."""
_MOST_UNDO = 1000
_LEAST = 1e-3
"""Seconds that are shown of a recording with less."""
_SHORTEST = 8
"""Samples that are in view at least."""


class Editor:
    """The labels of a recording, what is in view, and the cursor. All times are in seconds.

    ``begin`` and ``end``: the selected part, ``None`` if it is not set. ``typed``: a label while it is typed, else
    ``None``. ``channel``: the channel that is shown, -1 for all. ``labels``: those of the keys 1 to 9.
    """

    def __init__(self, recording: Recording, seconds: NDArray[np.float64], labels: Sequence[str]) -> None:
        self.recording = recording
        self.seconds = seconds
        self.spans: list[Span] = list(recording.spans)
        self.labels = list(dict.fromkeys([*labels, *(span.label for span in recording.spans)]))
        self._length = max(recording.seconds, _LEAST)
        self.view = (0.0, self._length)
        self.cursor = 0.0
        self.begin: float | None = None
        self.end: float | None = None
        self.typed: str | None = None
        self.channel = -1
        self.message = ""
        self._saved = list(recording.spans)
        self._undo: list[list[Span]] = []
        self._leaving = False

    @property
    def changed(self) -> bool:
        """Whether labels were changed and not saved."""
        return self.spans != self._saved

    @property
    def selected(self) -> tuple[float, float] | None:
        """The selected part: from ``begin`` to ``end``, or to the cursor."""
        if self.begin is None:
            return None
        other = self.cursor if self.end is None else self.end
        return (min(self.begin, other), max(self.begin, other)) if other != self.begin else None

    def at_cursor(self) -> Span | None:
        """Return the span that the cursor is in."""
        return next((span for span in self.spans if span.begin <= self.cursor < span.end), None)

    def saved(self) -> None:
        """Take in that the labels are on the disk now."""
        self._saved = list(self.spans)
        self.message = "Saved."

    def press(self, key: str) -> Action:
        """Take a key; return what the caller is to do."""
        self.message = ""
        if self.typed is not None:
            self._type(key)
            return ""
        if key == "q" and self.changed and not self._leaving:
            self._leaving = True
            self.message = "Not saved. s saves; q again leaves without saving."
            return ""
        self._leaving = False
        if key in {"n", "p"}:
            if self.changed:
                self.message = "Not saved. s saves, u undoes."
                return ""
            return "next" if key == "n" else "previous"
        actions: dict[str, Action] = {"q": "quit", "s": "save", "r": "reload"}
        if key in actions:
            return actions[key]
        if not self._move(key):
            self._edit(key)
        return ""

    def _move(self, key: str) -> bool:
        """Move the cursor or the view. Whether the key does that."""
        begin, end = self.view
        length = end - begin
        step = length / COLUMNS
        moves = {
            "left": -step,
            "right": step,
            "page up": -length / 2,
            "page down": length / 2,
            "home": -self.cursor,
            "end": self.recording.seconds,
        }
        if key in moves:
            self._go_to(self.cursor + moves[key])
        elif key in {",", "shift left"}:
            self._step(-1)
        elif key in {".", "shift right"}:
            self._step(1)
        elif key in {"+", "="}:
            self._zoom(0.5)
        elif key == "-":
            self._zoom(2.0)
        elif key == "a":
            self.view = (0.0, self._length)
        elif key in {"c", "tab"}:
            self.channel = (self.channel + 2) % (len(self.recording.channels) + 1) - 1
        else:
            return False
        return True

    def _edit(self, key: str) -> None:
        if key == "b":
            self.begin, self.end = self.cursor, None
        elif key == "e":
            self._set_end()
        elif key == "escape":
            self.begin = self.end = None
        elif key in {"l", "enter"}:
            if self._part() is not None:
                self.typed = ""
        elif key in {"d", "delete"}:
            self._delete()
        elif key == "u":
            self._take_back()
        elif key.isascii() and key.isdecimal() and 0 < int(key) <= len(self.labels):
            self._set(self.labels[int(key) - 1])
        else:
            self.message = "This key has no meaning here."

    def _set_end(self) -> None:
        if self.begin is None:
            self.begin = 0.0
        self.end = self.cursor

    def _part(self) -> tuple[float, float] | None:
        """Return what a label is for: the selected part, or the span at the cursor."""
        if self.selected is not None:
            begin, end = (round(time, 6) for time in self.selected)
            if begin < end:
                return begin, end
        if span := self.at_cursor():
            return span.begin, span.end
        self.message = "Select a part first: b sets its begin, e its end."
        return None

    def _set(self, label: str) -> None:
        if part := self._part():
            self._change(with_span(self.spans, label, *part))
            self.begin = self.end = None
            self.message = f"{label} from {part[0]:.3f} s to {part[1]:.3f} s."

    def _delete(self) -> None:
        if part := self._part():
            self._change(without(self.spans, *part))
            self.begin = self.end = None
            self.message = f"No label from {part[0]:.3f} s to {part[1]:.3f} s."

    def _change(self, spans: list[Span]) -> None:
        self._undo = [*self._undo[1 - _MOST_UNDO :], self.spans]
        self.spans = spans

    def _take_back(self) -> None:
        if self._undo:
            self.spans = self._undo.pop()
            self.message = "Undone."
        else:
            self.message = "There is nothing to undo."

    def _type(self, key: str) -> None:
        typed = self.typed or ""
        if key == "escape":
            self.typed = None
        elif key == "backspace":
            self.typed = typed[:-1]
        elif key == "enter":
            self.typed = None
            self._finish(typed)
        elif len(key) == 1 and key.isprintable() and len(typed) < 64:
            self.typed = typed + key

    def _finish(self, typed: str) -> None:
        if problem := label_problem(typed):
            self.message = f"{problem}."
            return
        self._set(typed)
        if typed not in self.labels:
            self.labels.append(typed)

    def _step(self, direction: int) -> None:
        """Go to the next or the previous sample."""
        side: Literal["left", "right"] = "left" if direction < 0 else "right"
        index = int(np.searchsorted(self.seconds, self.cursor, side))
        index += -1 if direction < 0 else 0
        if 0 <= index < len(self.seconds):
            self._go_to(float(self.seconds[index]))

    def _go_to(self, time: float) -> None:
        """Move the cursor, and the view with it if it leaves the view."""
        self.cursor = min(max(time, 0.0), self.recording.seconds)
        begin, end = self.view
        shift = min(self.cursor - begin, 0.0) + max(self.cursor - end, 0.0)
        if shift:
            self._look_at(begin + shift, end - begin)

    def _zoom(self, factor: float) -> None:
        """Zoom so that the cursor stays where it is on the screen."""
        begin, end = self.view
        shortest = self._length * _SHORTEST / max(len(self.seconds), _SHORTEST)
        length = min(max((end - begin) * factor, shortest), self._length)
        share = (self.cursor - begin) / (end - begin)
        self._look_at(self.cursor - share * length, length)

    def _look_at(self, begin: float, length: float) -> None:
        begin = min(max(begin, 0.0), max(0.0, self._length - length))
        self.view = (begin, begin + length)

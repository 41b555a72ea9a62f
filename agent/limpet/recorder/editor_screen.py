"""What `limpet label` shows. Pure functions from an editor to lines of text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from limpet.recorder.editor import COLUMNS
from limpet.recorder.plot import braille, scale
from limpet.untrusted import printable
from limpet.watch.words import fitted

if TYPE_CHECKING:
    from limpet.contracts.data import Array
    from limpet.recorder.editor import Editor

_HELP = (
    "arrows move  ,. one sample  +- zoom  a all  c channel  b begin  e end  esc off",
    "1-9 label  l type a label  d delete  u undo  s save  n/p recording  q leave",
)
_LEAST = 12
"""Lines without which nothing can be shown."""


def frame(editor: Editor, values: Array, where: str, height: int) -> list[str]:
    """Return the lines of the screen, each at most ``COLUMNS`` wide.

    ``values``: those of the recording, ``(n, channels)``. ``where``: which recording this is.
    """
    if height < _LEAST:
        return [f"This terminal needs {_LEAST} lines at least."]
    shown = values if editor.channel < 0 else values[:, [editor.channel]]
    lines = height - len(_HELP) - 7
    recording = editor.recording
    name = ", ".join(recording.channels) if editor.channel < 0 else recording.channels[editor.channel]
    first, last = np.searchsorted(editor.seconds, editor.view)
    low, high = scale(shown[first:last]) if last > first else (0.0, 0.0)
    state = "  (not saved)" if editor.changed else ""
    text = [
        f"{where}{state}",
        f"{name}   {low:.5g} to {high:.5g}",
        *braille(editor.seconds, shown, editor.view, (COLUMNS, max(1, lines))),
        _spans(editor),
        _marks(editor),
        _axis(editor),
        _labels(editor),
        editor.message if editor.typed is None else f"label: {editor.typed}_",
        *_HELP,
    ]
    return [fitted(printable(line), COLUMNS) for line in text]


def _column(editor: Editor, time: float) -> int:
    begin, end = editor.view
    return int((time - begin) / (end - begin) * COLUMNS + 1e-6)


def _spans(editor: Editor) -> str:
    """Draw the labels below the plot, such as ``|walk------|sit---``."""
    line = [" "] * COLUMNS
    for span in editor.spans:
        begin, end = _column(editor, span.begin), _column(editor, span.end)
        for at in range(max(0, begin), min(COLUMNS, max(end, begin + 1))):
            inside = at - max(0, begin)
            name = f"|{span.label}" if begin >= 0 else span.label
            line[at] = name[inside] if inside < len(name) else "-"
    return "".join(line)


def _marks(editor: Editor) -> str:
    """Draw the cursor, the selected part and the gaps."""
    line = [" "] * COLUMNS
    if part := editor.selected:
        begin, end = _column(editor, part[0]), _column(editor, part[1])
        for at in range(max(0, begin), min(COLUMNS, end + 1)):
            line[at] = "="
    for time, mark in (
        *((gap, "!") for gap in editor.recording.gaps),
        (editor.begin, "["),
        (editor.end, "]"),
        (editor.cursor, "^"),
    ):
        if time is not None and editor.view[0] <= time <= editor.view[1]:
            line[min(_column(editor, time), COLUMNS - 1)] = mark
    return "".join(line)


def _axis(editor: Editor) -> str:
    begin, end = (f"{time:.2f} s" for time in editor.view)
    gaps = "  ! gap" if editor.recording.gaps else ""
    middle = f"cursor {editor.cursor:.3f} s{gaps}"
    return f"{begin}{middle:^{COLUMNS - len(begin) - len(end)}}{end}"


def _labels(editor: Editor) -> str:
    known = "  ".join(f"{number} {label}" for number, label in enumerate(editor.labels[:9], 1))
    span = editor.at_cursor()
    here = f"here: {span.label} {span.begin:.3f} to {span.end:.3f} s" if span else "here: no label"
    return f"{here}   {known}"

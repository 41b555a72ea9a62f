"""Results whose windows were captured: feedback can name them long after, also after a restart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limpet.captures import form
from limpet.captures.ring import folder, path_of
from limpet.errors import UnreadableError
from limpet.learning.answered import Short
from limpet.learning.remembered import Known
from limpet.updates.answers import Answer, cut_label, cut_labels

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from limpet.contracts.captures import Capture

UNCHOSEN = frozenset({"audit", "command"})
"""Reasons for which a window is kept that say nothing about whether its result is right."""
_ABSTAINING = frozenset({"Classification"})
"""Outputs in which no answer means that the model had not decided."""


class CapturedResults:
    """Finds a capture by its result, and reads the header of that file alone.

    ``number_of`` returns the number of a capture by pipeline and result, ``None`` if there is none. It raises
    ``LookupError`` while the ring of the pipeline is not read.
    """

    def __init__(self, state: Path, number_of: Callable[[str, str], int | None]) -> None:
        self._root = folder(state)
        self._number_of = number_of

    def find(self, result: str) -> Known | str | None:
        """Return a result by its id ``device/pipeline/boot/sequence``, ``None`` if it was not captured.

        Or a sentence that says why it is not known whether it was.
        """
        pipeline = (*result.split("/"), "", "")[1]
        try:
            number = self._number_of(pipeline, result)
        except LookupError:
            return f"the captures of {pipeline!r} are not read yet; send it again in a moment"
        if number is None:
            return None
        try:
            capture, _ = form.read_header(path_of(self._root, pipeline, number))
        except (OSError, UnreadableError):
            return None
        return known_of(capture) if (capture.pipeline, capture.id) == (pipeline, result) else None


def known_of(capture: Capture) -> Known:
    """Return what feedback needs to know of a captured result."""
    answer = capture.answer
    if isinstance(answer, list):
        short = Short(Answer(cut_labels(answer)), "", capture.score)
    elif isinstance(answer, str):
        label = cut_label(answer)
        short = Short(Answer(label), label, capture.score)
    else:
        short = Short(Answer(answer), "", capture.score, answer is None and capture.output in _ABSTAINING)
    return Known(capture.model, capture.version, capture.time, short, not set(capture.reasons) <= UNCHOSEN)

"""Results whose windows were captured: feedback can name them long after, also after a restart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limpet.captures import form
from limpet.captures.ring import CAPTURE, folder
from limpet.errors import UnreadableError
from limpet.learning.answered import Short
from limpet.learning.remembered import Known
from limpet.updates.answers import Answer, cut_label, cut_labels

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from limpet.contracts.captures import Capture

MOST = 2048
"""Captures of a pipeline that are known here, the newest ones. Reading so many takes a third of a second, once."""
UNCHOSEN = frozenset({"audit", "command"})
"""Reasons for which a window is kept that say nothing about whether its result is right."""
_ABSTAINING = frozenset({"Classification"})
"""Outputs in which no answer means that the model had not decided."""


class CapturedResults:
    """Reads the headers of captures when it is first needed, and later those of new files alone."""

    def __init__(self, state: Path) -> None:
        self._root = folder(state)
        self._headers: dict[str, dict[str, Capture | None]] = {}
        """By pipeline and the name of the file; ``None`` for one that cannot be read."""

    def find(self, result: str) -> Known | None:
        """Return a result by its id ``device/pipeline/boot/sequence``, ``None`` if it was not captured."""
        pipeline = (*result.split("/"), "", "")[1]
        found = (one for one in self._read(pipeline).values() if one is not None and one.id == result)
        capture = next(found, None)
        return None if capture is None else known_of(capture)

    def _read(self, pipeline: str) -> Mapping[str, Capture | None]:
        """Return the headers of the newest captures of a pipeline, whose name is one of the configuration."""
        there = self._root / pipeline
        try:
            names = sorted(one.name for one in there.iterdir() if one.name.endswith(CAPTURE))[-MOST:]
        except OSError:
            names = []
        before = self._headers.get(pipeline, {})
        self._headers[pipeline] = {
            name: before[name] if name in before else _header(there / name, pipeline) for name in names
        }
        return self._headers[pipeline]


def _header(path: Path, pipeline: str) -> Capture | None:
    try:
        capture, _ = form.read_header(path)
    except (OSError, UnreadableError):
        return None
    return capture if capture.pipeline == pipeline else None


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

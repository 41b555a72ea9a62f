"""Pictures of results that clients of the local API look at. Workers draw them. They go to no reporter."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from limpet.wire.records import NIL, Ask, DrawPicture

if TYPE_CHECKING:
    from collections.abc import Callable

    from limpet.wire.records import RawAnswered

    Answer: TypeAlias = Callable[[bytes, str], None]
    """Takes the picture, a JPEG; or an empty one, and why there is none."""

FIRST_NUMBER = 1 << 32
"""Workers number their answers as the questions. Those of commands count from 1, and stay below this."""
PATIENCE = 10.0
"""Seconds that a worker may take. A pipeline without a result draws its first one."""
FRESH = 0.2
"""Seconds for which a picture is not drawn again."""
MOST_WAITING = 32
"""Clients that may wait for a picture of one pipeline."""
_jpeg = msgspec.json.Decoder(bytes)


class _Drawing(msgspec.Struct):
    """A picture that a worker draws. ``answers``: all who wait for it."""

    pipeline: str
    until: float
    answers: list[Answer]


class Pictures:
    """All who want a picture of a pipeline at the same time get the same one. ``ask`` asks a pipeline's worker."""

    def __init__(self, ask: Callable[[str, Ask], None]) -> None:
        self._ask = ask
        self._number = FIRST_NUMBER
        self._drawings: dict[int, _Drawing] = {}
        self._last: dict[str, tuple[float, bytes]] = {}

    def want(self, pipeline: str, answer: Answer) -> None:
        """Have the last result of a pipeline drawn. ``KeyError`` if no worker runs it."""
        at, jpeg = self._last.get(pipeline, (0.0, b""))
        if jpeg and monotonic() < at + FRESH:
            answer(jpeg, "")
            return
        drawing = next((one for one in self._drawings.values() if one.pipeline == pipeline), None)
        if drawing is None:
            self._number += 1
            self._ask(pipeline, Ask(self._number, DrawPicture(pipeline)))
            self._drawings[self._number] = _Drawing(pipeline, monotonic() + PATIENCE, [answer])
        elif len(drawing.answers) >= MOST_WAITING:
            answer(b"", f"{MOST_WAITING} clients wait for this picture already")
        else:
            drawing.answers.append(answer)

    def answered(self, record: RawAnswered) -> bool:
        """Take the answer of a worker, if it is a picture. Return whether it is."""
        if record.number < FIRST_NUMBER:
            return False
        drawing = self._drawings.pop(record.number, None)
        if drawing is None:
            return True  # It came too late.
        has_picture = not record.error and bytes(record.result) != NIL
        jpeg = _jpeg.decode(record.result) if has_picture else b""
        self._last = {name: last for name, last in self._last.items() if monotonic() < last[0] + FRESH}
        self._last[drawing.pipeline] = monotonic(), jpeg
        for answer in drawing.answers:
            answer(jpeg, "" if jpeg else record.error or "the worker sent no picture")
        return True

    def next_due(self) -> float | None:
        """Return when the next worker is late, on the monotonic clock."""
        return min((drawing.until for drawing in self._drawings.values()), default=None)

    def tend(self) -> None:
        """Answer those whose worker does not."""
        for number, drawing in list(self._drawings.items()):
            if drawing.until <= monotonic():
                del self._drawings[number]
                for answer in drawing.answers:
                    answer(b"", f"there was no picture within {PATIENCE:.0f} s")

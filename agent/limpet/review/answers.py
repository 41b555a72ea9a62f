"""Answers of a script: a JSON object a line, such as ``{"capture": "motion/42", "truth": "walking"}``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from limpet.contracts.captures import Answer
from limpet.review.session import Said
from limpet.untrusted import reading

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGEST = 16 << 20
"""Bytes of a file of answers."""


class ScriptedAnswer(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """One line. ``capture``: its name, ``PIPELINE/NUMBER``. ``device``: only needed if several have that name.

    ``truth`` is as in ``command/feedback``; it is required unless ``unsure`` is true.
    """

    capture: Annotated[str, Meta(max_length=80)]
    device: Annotated[str, Meta(max_length=64)] = ""
    truth: Answer | msgspec.UnsetType = msgspec.UNSET
    unsure: bool = False


def read(data: bytes, where: str) -> Iterator[tuple[str, ScriptedAnswer, Said]]:
    """Yield each answer with its place. ``UnreadableError`` names the line that is wrong."""
    for number, line in enumerate(data.splitlines(), 1):
        if not line.strip():
            continue
        place = f"{where}, line {number}"
        with reading(place):
            one = msgspec.json.decode(line, type=ScriptedAnswer)
            if isinstance(one.truth, msgspec.UnsetType) and not one.unsure:
                raise ValueError('it has neither "truth" nor "unsure": true')
        truth = None if isinstance(one.truth, msgspec.UnsetType) else one.truth
        yield place, one, Said(truth, one.unsure)

"""The wake word "Okay Nabu" of microWakeWord."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limpet_convert.recipes import _micro_wake_word

if TYPE_CHECKING:
    from collections.abc import Mapping

WORD = "Okay Nabu"
RECIPE = _micro_wake_word.recipe(WORD, "d89128c4d16a72de429119fb2254ce46649553c2a24f5dd840175c80d7b9d094", 0.85, 5)


def model(files: Mapping[str, bytes]) -> bytes:
    """Return the maker's file."""
    return files[_micro_wake_word.file(WORD)]

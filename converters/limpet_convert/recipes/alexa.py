"""The wake word "Alexa" of microWakeWord."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limpet_convert.recipes import _micro_wake_word

if TYPE_CHECKING:
    from collections.abc import Mapping

WORD = "Alexa"
RECIPE = _micro_wake_word.recipe(WORD, "9011a8155b04de858c48038529235cbc0e42e9fca05a55bf588cb80a653a723b", 0.9, 5)


def model(files: Mapping[str, bytes]) -> bytes:
    """Return the maker's file."""
    return files[_micro_wake_word.file(WORD)]

"""The wake word "Hey Jarvis" of microWakeWord."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limpet_convert.recipes import _micro_wake_word

if TYPE_CHECKING:
    from collections.abc import Mapping

WORD = "Hey Jarvis"
RECIPE = _micro_wake_word.recipe(WORD, "21a7976add39ee24ec96c63d96b7aaa18e24d1d9824b963e451da8feb4b78b77", 0.97, 5)


def model(files: Mapping[str, bytes]) -> bytes:
    """Return the maker's file."""
    return files[_micro_wake_word.file(WORD)]

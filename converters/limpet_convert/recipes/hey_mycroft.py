"""The wake word "Hey Mycroft" of microWakeWord."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limpet_convert.recipes import _micro_wake_word

if TYPE_CHECKING:
    from collections.abc import Mapping

WORD = "Hey Mycroft"
RECIPE = _micro_wake_word.recipe(WORD, "c2a9b6ed51182db72e014781d5a4ece1929dc232a40b5b4be384f0295f0e1571", 0.95, 5)


def model(files: Mapping[str, bytes]) -> bytes:
    """Return the maker's file."""
    return files[_micro_wake_word.file(WORD)]

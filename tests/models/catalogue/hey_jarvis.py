"""microWakeWord's "hey jarvis". The reference is the loop of pymicro-wakeword."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from models import wake_words

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from models.speech import Clip

WORD = "hey jarvis"
MODEL = wake_words.model(WORD)
prepare = wake_words.prepare
difference = wake_words.difference


def cases(folder: Path) -> list[Clip]:
    return wake_words.cases(folder, WORD, ["en-us+f3"])


def answers(model: str, sounds: Sequence[NDArray[np.int16]]) -> list[Any]:
    del model  # The package has its own copy, with the same hash: see the recipe.
    return wake_words.answers(MODEL.recipe, sounds)


def right(output: Any, case: Clip) -> bool:
    return wake_words.right(output, case, WORD)

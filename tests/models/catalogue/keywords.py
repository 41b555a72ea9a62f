"""The DS-CNN that ``converters/examples/keywords`` trains in PyTorch: ten words, in voices that it has not heard.

The reference is PyTorch on TensorFlow's log-mel. The bundle is int8 and the reference is float.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models.entry import Model

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from models.speech import Clip

BUILD = Path(__file__).parents[3] / "converters/examples/keywords/build"
WORDS = ["down", "go", "left", "no", "off", "on", "right", "stop", "up", "yes"]
VOICES = ["en-us+m4", "en-gb+f3"]
"""Of eSpeak NG, none of those in the training."""
RATE, SIZE, HOP = 16_000, 16_000, 4000
FRAME, STEP, FFT, BANDS, LOW, HIGH = 640, 320, 1024, 40, 60.0, 7600.0
MEAN, STD = -1.0, 3.0

MODEL = Model(
    name="keywords",
    project="keywords",
    maker="converters",
    tolerance=0.05,
    why="the mean probability of a word over two windows; int8 beside float",
    size=SIZE,
    hop=HOP,
)


def cases(folder: Path) -> list[Clip]:
    from models import speech
    from models.speech import Wanted

    wanted = [
        Wanted(word, f"espeak/{voice}", snr=25.0, by_microphone=(word, voice) == ("stop", VOICES[0]))
        for word in WORDS
        for voice in VOICES
    ]
    wanted += [Wanted("", f"noise {snr:.0f}", snr=snr) for snr in (10.0, 25.0)]
    return speech.clips(folder, wanted)


def prepare(sound: NDArray[np.int16]) -> Iterator[NDArray[np.float32]]:
    """Yield the features of each window, as TensorFlow makes them."""
    import tensorflow as tf

    mel = tf.signal.linear_to_mel_weight_matrix(BANDS, FFT // 2 + 1, RATE, LOW, HIGH)

    @tf.function(input_signature=[tf.TensorSpec((SIZE,), tf.float32)])  # type: ignore[untyped-decorator]
    def log_mel(samples: Any) -> Any:
        return tf.math.log(tf.matmul(tf.abs(tf.signal.stft(samples, FRAME, STEP, FFT)), mel) + 1e-6)

    for at in range(0, len(sound) - SIZE + 1, HOP):
        samples = sound[at : at + SIZE].astype(np.float32) / np.float32(32768)
        yield ((log_mel(samples).numpy() - MEAN) / STD)[None]


def answers(model: str, sounds: Sequence[NDArray[np.int16]]) -> list[Any]:
    """Return the mean score of each word over the last two windows, for each window of each sound."""
    import torch

    del model
    network = torch.export.load(BUILD / "model.pt2").module(check_guards=False)
    found = []
    for sound in sounds:
        with torch.no_grad():
            rows = [torch.softmax(network(torch.from_numpy(one)[:, None])[0], 0).numpy() for one in prepare(sound)]
        means = [None, *((one + other) / 2 for one, other in pairwise(rows))]
        words = [None if one is None else one[: len(WORDS)] for one in means]
        found.append([None if one is None else dict(zip(WORDS, one.tolist(), strict=True)) for one in words])
    return found


def difference(output: Any, answer: Any) -> float:
    """Return the largest difference of a word's score."""
    largest = 0.0
    if len(output["windows"]) != len(answer):
        return float("inf")
    for window, expected in zip(output["windows"], answer, strict=True):
        for word in WORDS if expected else ():
            largest = max(largest, abs(window["scores"][word] - expected[word]))
    return largest


def right(output: Any, case: Clip) -> bool:
    """Return whether the word is heard once, and nothing where there is only noise."""
    return [one["label"] for one in output["events"]] == ([case.said] if case.said else [])

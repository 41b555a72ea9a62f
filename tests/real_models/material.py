"""Data that the models were made for: photographs, faces, lines of text, speech, motions, files. Else noise.

Everything is the same in each run. Photographs are those of ``models.photographs``, which are free.
"""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from models import photographs
from real_models.entry import ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

SCENES = ("china.jpg", "flower.jpg", "coffee.png", "chelsea.png", "rocket.jpg", "face.dat")
PEOPLE = ("astronaut.png", "camera.png", "grace_hopper.jpg")
RATE = 16_000
SENTENCES = (
    "the quick brown fox jumps over the lazy dog",
    "turn the kitchen light off please",
    "seven trains left the station before noon",
    "measure twice and cut once",
    "a warm wind came from the south",
    "the pump in hall three is too loud",
)
VOICES = ("en-us+m1", "en-gb+f2", "en-us+m3", "en-gb+m5")


def random(seed: str) -> np.random.Generator:
    """Return the generator of a name."""
    return np.random.default_rng(list(seed.encode()))


def noise(seed: str, shape: Sequence[int], low: float = 0.0, high: float = 1.0) -> NDArray[np.float32]:
    """Return uniform numbers."""
    return random(seed).uniform(low, high, shape).astype(np.float32)


@cache
def _photograph(name: str) -> Image.Image:
    return photographs.photograph(name)


def pictures(size: int, count: int, names: Sequence[str] = SCENES + PEOPLE, seed: str = "") -> NDArray[np.uint8]:
    """Return ``(count, size, size, 3)``: random parts of photographs, at least half as long as these."""
    generator = random(f"pictures{seed}{size}")
    found = []
    for number in range(count):
        whole = _photograph(names[number % len(names)])
        side = int(min(whole.size) * generator.uniform(0.5, 1.0))
        left, top = (int(generator.integers(0, length - side + 1)) for length in whole.size)
        found.append(np.asarray(whole.crop((left, top, left + side, top + side)).resize((size, size))))
    return np.stack(found)


def faces(size: int, count: int, seed: str = "", margin: float = 0.25) -> NDArray[np.uint8]:
    """Return ``(count, size, size, 3)``: the faces of three photographs, each time cut and lit otherwise."""
    generator = random(f"faces{seed}{size}")
    found = []
    for number in range(count):
        name = PEOPLE[number % len(PEOPLE)]
        whole, box = _photograph(name), photographs.TRUTHS[name].boxes["face"]
        width, height = whole.size
        x, y = (box[0] + box[2]) / 2 * width, (box[1] + box[3]) / 2 * height
        side = max((box[2] - box[0]) * width, (box[3] - box[1]) * height) * (1 + 2 * margin)
        side *= generator.uniform(0.9, 1.15)
        x, y = x + side * generator.uniform(-0.05, 0.05), y + side * generator.uniform(-0.05, 0.05)
        cut = whole.crop((int(x - side / 2), int(y - side / 2), int(x + side / 2), int(y + side / 2)))
        light = generator.uniform(0.7, 1.2)
        found.append(np.clip(np.asarray(cut.resize((size, size)), np.float32) * light, 0, 255).astype(np.uint8))
    return np.stack(found)


def _font(size: int) -> ImageFont.FreeTypeFont:
    import matplotlib as mpl

    return ImageFont.truetype(str(Path(mpl.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"), size)


def lines(height: int, width: int, count: int, seed: str = "") -> NDArray[np.uint8]:
    """Return ``(count, height, width, 3)``: a few words on paper of some colour."""
    generator = random(f"lines{seed}")
    words = " ".join(SENTENCES).split()
    font = _font(int(height * 0.62))
    found = []
    for _ in range(count):
        paper, ink = int(generator.integers(170, 256)), int(generator.integers(0, 90))
        page = Image.new("RGB", (width, height), (paper, paper, max(0, paper - int(generator.integers(0, 40)))))
        text = " ".join(generator.choice(words, 6))
        while font.getlength(text) > width - 6 and " " in text:
            text = text.rpartition(" ")[0]
        ImageDraw.Draw(page).text((3, int(height * 0.12)), text, (ink, ink, ink), font)
        grain = generator.normal(0, 6, (height, width, 1))
        found.append(np.clip(np.asarray(page, np.float32) + grain, 0, 255).astype(np.uint8))
    return np.stack(found)


def pages(size: int, count: int, seed: str = "") -> NDArray[np.uint8]:
    """Return ``(count, size, size, 3)``: photographs with lines of text on them."""
    found = pictures(size, count, seed=f"pages{seed}")
    generator = random(f"pages{seed}")
    for number, picture in enumerate(found):
        for text in lines(32, size // 2, 4, f"{seed}{number}"):
            top, left = (int(v) for v in generator.integers(0, (size - 32, size // 2)))
            picture[top : top + 32, left : left + size // 2] = text
    return found


@cache
def _speaker() -> Any:
    """Return the voice of the example of keywords: eSpeak NG of the package espeakng-loader."""
    path = ROOT / "converters/examples/keywords/train.py"
    spec = importlib.util.spec_from_file_location("keywords_train", path)
    assert spec
    assert spec.loader
    module = sys.modules["keywords_train"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Speaker()


def speech(
    samples: int, count: int, rate: int = RATE, seed: str = "", floor: float = 0.003
) -> NDArray[np.float32]:
    """Return ``(count, samples)`` of -1 to 1: sentences of eSpeak NG in four voices, with noise."""
    generator = random(f"speech{seed}{samples}")
    spoken = []
    total = 0
    while total < samples + rate:
        said = _speaker().say(SENTENCES[len(spoken) % 6], VOICES[len(spoken) % 4], 150, 50)
        said = np.interp(np.arange(0, len(said), RATE / rate), np.arange(len(said)), said)
        spoken += [said / np.abs(said).max() / 2, np.zeros(rate // 3)]
        total = sum(map(len, spoken))
    whole = np.concatenate(spoken)
    starts = generator.integers(0, len(whole) - samples, count)
    found = np.stack([whole[start : start + samples] for start in starts])
    loud = generator.uniform(0.3, 1.0, (count, 1))
    return (found * loud + generator.normal(0, floor, found.shape)).astype(np.float32)


def motions(part: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return windows ``(n, 50, 6)`` of BasicMotions, normalised, and which of four motions each is."""
    path = ROOT / "converters/examples/imu/train.py"
    spec = importlib.util.spec_from_file_location("imu_train", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    values, targets = module.windows(module.recordings(part))
    return values.astype(np.float32), targets.astype(np.int64)


MOTIONS = ("badminton", "running", "standing", "walking")

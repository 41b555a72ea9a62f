"""Make what ``limpet demo camera`` and ``limpet demo audio`` play, in ``agent/limpet/demo_data``.

The video moves over two photographs of scikit-image, which are in the public domain: one has a face, one has none.
In the clip, flite and espeak-ng speak. ``truth.json`` says where the face is, and when the word begins and ends.
The two bundles are those of ``limpet-convert recipe``, without their golden vectors, which are most of their size.

    .venv-convert/bin/python converters/examples/demo/make.py

needs Debian's flite and espeak-ng, and PyAV and soxr in the environment.
"""

from __future__ import annotations

import io
import subprocess
import tempfile
import wave
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import av
import msgspec
import numpy as np
import soxr
from PIL import Image

from limpet.models import bundle
from limpet_convert import package, recipe_files, recipes
from limpet_convert.recipes import Origin

if TYPE_CHECKING:
    from numpy.typing import NDArray

OUT = Path(__file__).resolve().parents[3] / "agent" / "limpet" / "demo_data"
PHOTOGRAPHS = Origin(
    registry="pypi",
    package="scikit-image",
    version="0.26.0",
    archive="74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af",
    members={
        "skimage/data/astronaut.png": "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
        "skimage/data/rocket.jpg": "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c",
    },
    url="https://scikit-image.org",
)
BUNDLES = ("face-detection", "okay-nabu")

SIZE, FRAMES_A_SECOND = (320, 240), 10
FACE = (0.36, 0.12, 0.54, 0.36)
"""Where the face is in the astronaut's photograph, as fractions: found by looking at it."""
# Photograph, mirrored or not, frames, and the part of it that is seen in the first and in the last of them:
# left, top and width as fractions of its width.
SHOTS = (
    ("astronaut", False, 30, (0.0, 0.0, 1.0), (0.2, 0.02, 0.55)),
    ("rocket", False, 20, (0.0, 0.0, 0.8), (0.2, 0.06, 0.8)),
    ("astronaut", True, 30, (0.25, 0.0, 0.6), (0.05, 0.0, 0.95)),
)

RATE = 16_000
# Seconds of silence before it, voice, text, and whether that is the wake word.
SPOKEN = (
    (1.0, ("flite", "rms"), "okay nabu", True),
    (0.7, ("espeak-ng", "en-gb"), "what time is it in paris", False),
    (0.7, ("espeak-ng", "en-us"), "okay nabu", True),
    (0.9, ("flite", "slt"), "thank you", False),
)
NOISE = 0.001
"""Standard deviation of the noise of the room, of a full scale of 1."""


def main() -> None:
    """Write all files."""
    for name in BUNDLES:
        make_bundle(name)
    boxes = make_video()
    words = make_clip()
    truth = {"faces": boxes, "words": words}
    (OUT / "truth.json").write_bytes(msgspec.json.encode(truth) + b"\n")


def make_bundle(name: str) -> None:
    """Write a recipe's bundle without golden vectors."""
    with tempfile.TemporaryDirectory() as folder:
        manifest, path = recipes.make(name, recipe_files.fetch(recipes.find(name).origin), Path(folder))
        with zipfile.ZipFile(path) as archive:
            model, card = archive.read(manifest.model), archive.read(manifest.card).decode()
        with tempfile.TemporaryDirectory() as opened:
            labels = bundle.load(path, Path(opened)).labels
        package.write(OUT, manifest, model, labels=labels, card=card)


def make_video() -> list[tuple[float, ...] | None]:
    """Write the video; return where the face is in each frame, if there is one."""
    pictures = {
        Path(name).stem: Image.open(io.BytesIO(content)).convert("RGB")
        for name, content in recipe_files.fetch(PHOTOGRAPHS).items()
    }
    boxes: list[tuple[float, ...] | None] = []
    with av.open(str(OUT / "faces.mp4"), "w", options={"movflags": "+faststart"}) as video:
        stream = video.add_stream("libx264", rate=FRAMES_A_SECOND)
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "27", "preset": "veryslow", "x264-params": "threads=1:lookahead-threads=1"}
        stream.codec_context.thread_count = 1
        for name, mirrored, count, first, last in SHOTS:
            whole = pictures[name]
            face = FACE if name == "astronaut" else None
            if mirrored:
                whole = whole.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
                face = face and (1 - face[2], face[1], 1 - face[0], face[3])
            for number in range(count):
                done = number / (count - 1)
                part = [begin + (end - begin) * done for begin, end in zip(first, last, strict=True)]
                picture, box = seen(whole, part, face)
                boxes.append(box)
                video.mux(stream.encode(av.VideoFrame.from_image(picture)))
        video.mux(stream.encode(None))
    return boxes


def seen(
    whole: Image.Image, part: list[float], face: tuple[float, float, float, float] | None
) -> tuple[Image.Image, tuple[float, ...] | None]:
    """Return a part of a picture at the video's size, and where the face is in it, as fractions."""
    left, top, width = (each * whole.width for each in part)
    height = width * SIZE[1] / SIZE[0]
    picture = whole.resize(SIZE, Image.Resampling.LANCZOS, (left, top, left + width, top + height))
    if face is None:
        return picture, None
    across = [(each * whole.width - left) / width for each in (face[0], face[2])]
    down = [(each * whole.height - top) / height for each in (face[1], face[3])]
    return picture, tuple(round(each, 3) for each in (across[0], down[0], across[1], down[1]))


def make_clip() -> list[tuple[float, float]]:
    """Write the clip; return when each wake word begins and ends, in seconds."""
    parts: list[NDArray[np.float32]] = []
    words: list[tuple[float, float]] = []
    for pause, speaker, text, word in SPOKEN:
        parts.append(np.zeros(round(pause * RATE), np.float32))
        begin = sum(map(len, parts)) / RATE
        parts.append(said(speaker, text))
        if word:
            words.append((round(begin, 2), round(begin + len(parts[-1]) / RATE, 2)))
    parts.append(np.zeros(RATE // 2, np.float32))
    sound = np.concatenate(parts)
    sound += np.random.default_rng(1).normal(0, NOISE, len(sound)).astype(np.float32)
    with wave.open(str(OUT / "okay-nabu.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())
    return words


def said(speaker: tuple[str, str], text: str) -> NDArray[np.float32]:
    """Return what a program says with a voice: from -1 to 1, at the clip's rate."""
    program, voice = speaker
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        options = ["-voice", voice, "-t", text, "-o"] if program == "flite" else ["-v", voice, text, "-w"]
        subprocess.run([program, *options, file.name], check=True)
        with wave.open(file.name, "rb") as spoken:
            values = np.frombuffer(spoken.readframes(spoken.getnframes()), "<i2").astype(np.float32) / 32768
            at: NDArray[np.float32] = soxr.resample(values, spoken.getframerate(), RATE)
    return at * (0.7 / float(np.abs(at).max()))


if __name__ == "__main__":
    main()

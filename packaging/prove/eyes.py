"""Lay out what a proof of cameras, pictures and microphones needs: packaging/prove/eyes.py FOLDER.

FOLDER/eyes then has a detector of bright squares, a video and pictures in which a square moves, a tone at 48 kHz,
and configurations: ``ears.toml`` with pictures, sound and a microphone, ``eyes.toml`` with a video and a camera of
camera.py too. Needs the folder tests in PYTHONPATH.
"""

from __future__ import annotations

import shutil
import sys
import wave
from pathlib import Path

import numpy as np

from limpet.contracts.fields import WindowSpec
from limpet.models.manifest import Manifest
from limpet_convert import package
from support import models, videos

EARS = """
[device]
id = "proof"
state = "state"
health_interval = 1.0

[jsonl]
path = "found.jsonl"

[sources.folder]
kind = "images"
path = "pictures"

[sources.tone]
kind = "replay"
path = "tone.wav"
resample = 16000
loop = true

# There is no sound card here: only libasound can find that out.
[sources.microphone]
kind = "audio"
device = "hw:CARD=Device,DEV=0"

[pipelines.folder]
source = "folder"
model = "squares-1.limpet"

[pipelines.tone]
source = "tone"
model = "features-1.limpet"

[pipelines.microphone]
source = "microphone"
model = "features-1.limpet"
"""
EYES = """
[sources.video]
kind = "replay"
path = "squares.mp4"
loop = true

[sources.stream]
kind = "camera"
url = "http://127.0.0.1:8081/"

[pipelines.video]
source = "video"
model = "squares-1.limpet"

[pipelines.stream]
source = "stream"
model = "squares-1.limpet"
"""
DETECTOR = Manifest(
    name="squares",
    version=1,
    transforms=[
        {"kind": "resize", "width": 128, "height": 96},
        {"kind": "colour", "to": "grey"},
        {"kind": "normalise", "std": 255},
    ],
    decoder={"kind": "detect", "labels": ["square"], "pixels": [128, 96], "layout": "yolov8", "threshold": 0.2},
)
FEATURES = Manifest(
    name="features",
    version=1,
    window=WindowSpec(size=1600),
    transforms=[{"kind": "micro_frontend"}],
    decoder={"kind": "regress"},
)


def main() -> None:
    folder = Path(sys.argv[1]) / "eyes"
    (folder / "pictures").mkdir(parents=True)
    model = folder / "model.tflite"
    package.write(folder, DETECTOR, models.squares(model).read_bytes())
    package.write(folder, FEATURES, models.same(model, (1, 8, 40), "float32").read_bytes())
    model.unlink()
    videos.write(folder / "squares.mp4", 27)
    for number, picture in enumerate(videos.jpegs(10)):
        (folder / f"pictures/{number:02}.jpg").write_bytes(picture)
    with wave.open(str(folder / "tone.wav"), "wb") as tone:
        tone.setparams((1, 2, 48_000, 0, "NONE", ""))
        tone.writeframes((3000 * np.sin(np.arange(48_000) / 20)).astype("<i2").tobytes())
    (folder / "ears.toml").write_text(EARS)
    (folder / "eyes.toml").write_text(EARS + EYES)
    shutil.copy(Path(__file__).with_name("camera.py"), folder)


if __name__ == "__main__":
    main()

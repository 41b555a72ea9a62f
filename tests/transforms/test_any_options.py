"""Options of a bundle come from others: each either gives what it declares, or is refused with a reason."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limpet import plugins
from limpet.contracts.stage import Spec
from support.stages import transformed

COUNT = st.one_of(st.integers(1, 20), st.integers(1, 1000))
REAL = st.sampled_from([1e-9, 0.1, 20.0, 3000.0, 8000.0, 1e9])
FRAMES = {
    "like": st.sampled_from(["librosa", "tensorflow", "yamnet", "kaldi", "python_speech_features"]),
    "frame": COUNT,
    "hop": COUNT,
    "fft": COUNT,
    "taper": st.sampled_from(["hann", "hamming", "povey", "none"]),
    "pad": st.sampled_from(["none", "zero", "reflect", "end"]),
    "power": st.integers(1, 2),
    "scale": st.sampled_from(["none", "db", "ln", "log10"]),
    "offset": REAL,
    "least": REAL,
    "reference": st.one_of(REAL, st.just("max")),
    "top_db": REAL,
}
BANDS = {
    **FRAMES,
    "bands": st.integers(1, 60),
    "low": REAL,
    "high": REAL,
    "mel": st.sampled_from(["htk", "slaney"]),
}
OPTIONS = {
    "spectrogram": FRAMES,
    "log_mel": BANDS,
    "mfcc": {**BANDS, "coefficients": st.integers(1, 30), "lifter": st.integers(0, 30), "energy": st.booleans()},
    "gain": {"mode": st.sampled_from(["peak", "rms", "auto"]), "level": REAL, "attack": REAL, "release": REAL},
    "filter": {
        "sos": st.lists(st.lists(st.floats(-2, 2), min_size=6, max_size=6), min_size=1, max_size=3),
        "taps": st.lists(st.floats(-1e30, 1e30), min_size=1, max_size=300),
        "start": st.sampled_from(["zero", "first"]),
    },
    "rolling": {"samples": COUNT},
    "resample": {"rate": REAL, "per_window": st.booleans(), "like": st.sampled_from(["scipy", "soxr"])},
    "detrend": {"type": st.sampled_from(["linear", "constant"])},
    "micro_frontend": {},
}


@pytest.mark.parametrize("kind", OPTIONS)
@settings(max_examples=60)
@given(data=st.data())
def test_options_work_or_are_refused(kind: str, data: st.DataObject) -> None:
    module = plugins.load("transforms", kind)
    options = data.draw(st.fixed_dictionaries({}, optional=OPTIONS[kind]), "options")
    size = data.draw(st.sampled_from([1, 2, 100, 1000]), "size")
    spec = Spec(
        shape=(size, *data.draw(st.sampled_from([(), (1,), (2,)]), "channels")),
        dtype=np.dtype(np.float32),
        rate=data.draw(st.sampled_from([None, 1.0, 100.0, 16_000.0, 44_100.0]), "rate"),
        hop=data.draw(st.sampled_from([None, 1, size, size + 1]), "hop"),
    )
    try:
        stage = module.open(msgspec.convert(options, module.Config), spec)
    except ValueError:
        return
    values = np.random.default_rng(0).normal(size=spec.shape).astype(np.float32)
    with np.errstate(all="ignore"):
        for _ in range(2):
            found = transformed(stage, values)
            assert found.shape == stage.spec.shape
            assert found.dtype == stage.spec.dtype

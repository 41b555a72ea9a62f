"""Recordings played by the daemon as fast as the model takes them."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import soundfile

from support.broker import wait_until
from support.daemon import Consumer, daemon

if TYPE_CHECKING:
    from pathlib import Path

    from daemon.conftest import Configure

RECORDING = """
[sources.played]
kind = "replay"
path = "{path}"
speed = "flat-out"
{options}

[pipelines.{name}]
source = "played"
model = "dense.tflite"
decoder = {{ kind = "regress" }}
window = {window}
transforms = [{{ kind = "statistics", features = ["mean"] }}]
"""


def recording(name: str, window: str, path: str = "recording.csv", options: str = "") -> str:
    return RECORDING.format(name=name, window=window, path=path, options=options)


def test_a_window_by_time_spans_the_recordings_own_time(configure: Configure, consumer: Consumer) -> None:
    path = configure(recording("mean", "{ seconds = 2 }", options="rate = 100"))
    with daemon(path):
        wait_until(lambda: len(consumer.results("mean")) == 4)  # of 1000 samples, the last 200 end no window
        wait_until(lambda: consumer.events("mean", "finished"))
    assert [result["sample"] for result in consumer.results("mean")] == [199, 399, 599, 799]


def test_check_refuses_a_window_by_time_on_samples_without_a_time(configure: Configure, tmp_path: Path) -> None:
    np.save(tmp_path / "r.npy", np.zeros((100, 3), np.float32))
    path = configure(recording("mean", "{ seconds = 2 }", "r.npy"))
    command = [sys.executable, "-m", "limpet", "check", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 78
    assert "sources.played.rate: missing; the window of pipelines.mean is 2 s" in done.stderr


def test_a_source_that_ends_without_a_result_says_why(configure: Configure, consumer: Consumer) -> None:
    path = configure(recording("mean", "{ size = 2000 }"))
    with daemon(path) as running:
        wait_until(lambda: consumer.events("mean", "finished"))
    (event,) = consumer.events("mean", "finished")
    assert event["reason"] == (
        "its source came to an end after 1,000 samples, 0 results: a window takes 2,000 samples"
    )
    assert "1,000 samples, 0 results" in running.log


def test_a_sound_file_of_any_kind_is_played_in_the_sandbox(
    configure: Configure, consumer: Consumer, tmp_path: Path
) -> None:
    values = np.zeros((1000, 3), np.float32)
    soundfile.write(tmp_path / "r.wav", values, 500, subtype="FLOAT", format="WAVEX")
    with daemon(configure(recording("mean", "{ seconds = 0.5 }", "r.wav"))):
        wait_until(lambda: consumer.events("mean", "finished"))
        wait_until(lambda: len(consumer.results("mean")) == 3)

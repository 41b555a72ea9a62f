"""A microphone of ALSA's in the sandbox of the real daemon."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import numpy as np

from daemon.conftest import Configure, pipeline
from support import models
from support.broker import wait_until
from support.daemon import Consumer, daemon
from support.microphone import NAME, Microphone, ramp

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = f"""
[sources.microphone]
kind = "audio"
device = "{NAME}"
buffer = 0.2
"""


def listening(configure: Configure, tmp_path: Path) -> Path:
    models.dense(tmp_path / "sound.tflite", inputs=1600, outputs=1)
    return configure(SOURCE, pipeline("ears", "microphone", "sound.tflite") + "window = { size = 1600 }\n")


def health(consumer: Consumer) -> dict[str, object]:
    return consumer.last("health/ears") or {}


def test_sound_becomes_results_and_a_frozen_worker_counts_what_it_lost(
    configure: Configure, consumer: Consumer, tmp_path: Path
) -> None:
    microphone = Microphone(tmp_path / "mic", ramp())
    with daemon(listening(configure, tmp_path), microphone.environment) as running:
        consumer.wait_results("ears", 5)
        worker = running.pid_of("microphone")
        os.kill(worker, signal.SIGSTOP)
        wait_until(lambda: _frozen(worker))
        before = len(consumer.messages)
        wait_until(lambda: len(consumer.messages) > before + 1)  # health comes every half second
        os.kill(worker, signal.SIGCONT)
        consumer.wait_results("ears", 3)
        wait_until(lambda: _dropped(consumer, "overrun") > 0)
        wait_until(lambda: health(consumer)["state"] == "running")
        wait_until(lambda: bool(consumer.events("ears", "gap")))
        assert running.stop() == 0


def _frozen(pid: int) -> bool:
    with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123 - one line
        return file.read().rpartition(")")[2].split()[0] == "T"


def _dropped(consumer: Consumer, cause: str) -> int:
    dropped = health(consumer).get("dropped", {})
    assert isinstance(dropped, dict)
    return int(dropped.get(cause, 0))


def test_a_muted_microphone_is_named_and_one_that_is_unplugged_comes_back(
    configure: Configure, consumer: Consumer, tmp_path: Path
) -> None:
    microphone = Microphone(tmp_path / "mic", np.zeros((1600, 1), "<i2"))
    with daemon(listening(configure, tmp_path), microphone.environment) as running:
        wait_until(lambda: "only zeros: is it muted?" in str(health(consumer).get("reason")))
        assert health(consumer)["state"] == "running"
        wait_until(lambda: bool(consumer.events("ears", "warning")))
        (warning,) = consumer.events("ears", "warning")
        assert warning["reason"] == f"{NAME}: sends only zeros: is it muted?"
        wait_until(lambda: _dropped(consumer, "silence") == 1)
        microphone.unplug()
        wait_until(lambda: health(consumer).get("state") == "waiting")
        wait_until(lambda: "mic: is not there; is it plugged in? Run: limpet devices" in str(health(consumer)))
        microphone.plug_in()
        consumer.wait_results("ears", 1)
        wait_until(lambda: _dropped(consumer, "disconnected") == 1)
        assert running.stop() == 0

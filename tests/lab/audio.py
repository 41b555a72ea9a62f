"""A microphone: sound from a real ALSA card, an overrun, and a card that goes away and comes back.

The kernel's driver ``snd-aloop`` is a sound card: what one program plays on it is what another one records.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
import wave
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from lab import kernel
from lab.kernel import SLOW
from support import models
from support.broker import mosquitto, wait_until
from support.daemon import Consumer, daemon

RATE, TONE = 16_000, 500.0
SIZE = 1600
CARD = Path("/proc/asound/Loopback")
DRIVER = Path("/sys/bus/platform/drivers/snd_aloop")
CONFIG = """
[device]
id = "lab"
state = "state"
health_interval = 1

[mqtt]
url = "{url}"

[sources.microphone]
kind = "audio"
device = "hw:CARD=Loopback,DEV=1"
rate = 16000
buffer = 0.5

[pipelines.sound]
source = "microphone"
model = "column.tflite"
deadline = 60
window = {{ size = 1600 }}
decoder = {{ kind = "tensor", most = 1600 }}
"""


def run(folder: Path) -> dict[str, Any]:
    folder.mkdir()
    kernel.load("snd-aloop", "pcm_substreams=1")
    wait_until(CARD.exists, SLOW)
    models.column(folder / "column.tflite", SIZE)
    path = folder / "limpet.toml"
    tone = _tone(folder / "tone.wav")
    with mosquitto(folder / "broker") as broker:
        path.write_text(CONFIG.format(url=broker.url))
        consumer = Consumer(broker.port)
        player = _play(tone)
        with daemon(path) as running:
            consumer.wait_results("sound", 10, SLOW)
            sandbox = consumer.last("health/sound")["sandbox"]
            heard = _frequency(consumer.results("sound")[-1])
            _freeze(running.pid_of("microphone"), 5.0)
            wait_until(lambda: consumer.last("health/sound")["dropped"].get("overrun", 0) > 0, SLOW)
            consumer.wait_results("sound", 10, SLOW)
            unbroken = consumer.results("sound")
            counted = consumer.last("health/sound")["dropped"]
            (DRIVER / "unbind").write_text("snd_aloop.0")
            kernel.settle()
            wait_until(lambda: consumer.last("health/sound")["state"] == "waiting", SLOW)
            reason = consumer.last("health/sound")["reason"]
            (DRIVER / "bind").write_text("snd_aloop.0")
            kernel.settle()
            consumer.wait_results("sound", 10, SLOW)
            running.stop()
        os.killpg(player.pid, signal.SIGKILL)
        player.wait()
        print(running.log, flush=True)
        health = consumer.last("health/sound")
        results = consumer.results("sound")
        consumer.close()
    dropped = health["dropped"]
    return {
        "ran": abs(heard - TONE) < 2 * RATE / SIZE,
        "lost_and_back": "hw:CARD=Loopback" in reason,
        "counted": _missing(unbroken) == counted["overrun"] + counted.get("gap", 0)
        and dropped.get("disconnected") == 1,
        "missing": _missing(unbroken),
        "heard_hz": heard,
        "reason": reason,
        "sandbox": sandbox,
        "results": len(results),
        "dropped": dropped,
    }


def _missing(results: list[dict[str, Any]]) -> int:
    """Return how many samples are missing between windows."""
    return sum(max(after["sample"] - before["sample"] - SIZE, 0) for before, after in pairwise(results))


def _tone(path: Path) -> Path:
    """Write a minute of a tone."""
    times = np.arange(60 * RATE) / RATE
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes((8000 * np.sin(2 * np.pi * TONE * times)).astype("<i2").tobytes())
    return path


def _play(tone: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ["sh", "-c", f"while aplay -q -D hw:CARD=Loopback,DEV=0 {tone}; do :; done"], process_group=0
    )


def _frequency(result: dict[str, Any]) -> float:
    """Return the strongest frequency in Hz of the window that a result is about."""
    values = np.array(result["output"]["tensors"][0]["values"])
    return float(np.abs(np.fft.rfft(values)).argmax() * RATE / SIZE)


def _freeze(pid: int, seconds: float) -> None:
    """Stop a process for longer than the sound card can keep its sound."""
    os.kill(pid, signal.SIGSTOP)
    time.sleep(seconds)
    os.kill(pid, signal.SIGCONT)

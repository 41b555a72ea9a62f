"""Clips through the real daemon: each is a source of its own, by ``replay``, some also by ``audio``."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any, TypeVar

from models import measured, speech
from support.broker import listener, mosquitto, wait_until
from support.daemon import daemon as running
from support.microphone import NAME, Microphone

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from models.entry import Model
    from models.speech import Clip
    from support.broker import Listener
    from support.daemon import Daemon

PATIENCE = 120.0
T = TypeVar("T")


def played(clips: Sequence[Clip], given: Sequence[T]) -> list[T]:
    """Return what is given for each clip, and again for those that a microphone hears, at the end."""
    pairs = list(zip(clips, given, strict=True))
    return [*given, *(one for clip, one in pairs if clip.by_microphone)]


def limpet(bundle: Path, folder: Path, clips: Sequence[Clip], model: Model) -> tuple[list[Any], float]:
    """Return what is heard in the clips, and then in those that a microphone hears; and the µs of a window.

    Of each clip ``windows``: the outputs, and ``events``. The time is the median of a window's transforms and run.
    """
    scratch = folder / "daemon"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    environment, text = {}, "".join(_replay(number, clip.path) for number, clip in enumerate(clips))
    live = [clip for clip in clips if clip.by_microphone]
    for number, clip in enumerate(live, len(clips)):
        samples = speech.read_integers(clip.path)[0]
        environment |= Microphone(scratch / NAME, samples[:, None]).environment
        text += f'\n[sources.sound{number}]\nkind = "audio"\ndevice = "{NAME}"\n'
    names = [f"clip{number}" for number in range(len(clips) + len(live))]
    text += "".join(_pipeline(number, bundle) for number in range(len(names)))
    counts = [model.windows(len(speech.read_integers(clip.path)[0])) for clip in [*clips, *live]]
    with mosquitto(scratch / "broker") as broker, listener(broker.port) as heard:
        config = scratch / "limpet.toml"
        config.write_text(measured.device(bundle, broker.url, scratch / "state") + text)
        with running(config, environment) as daemon:
            wait_until(lambda: _complete(daemon, heard, names, counts), PATIENCE)
            wait_until(lambda: list(measured.timed(heard.on("health/clip0"))), PATIENCE)
            assert daemon.stop() == 0, daemon.log[-2000:]
        found = [_heard(heard, name, count) for name, count in zip(names, counts, strict=True)]
        return found, max(measured.timed(heard.on("health/clip0")))[1]


def _heard(heard: Listener, name: str, count: int) -> dict[str, Any]:
    """Return what a pipeline said of the first windows: a microphone plays its clip again and again."""
    results = sorted(heard.results()[name], key=lambda one: one["sample"])[:count]
    events = [message.json for message in heard.on(f"event/{name}")]
    last = results[-1]["time"]
    return {
        "windows": [one["output"] for one in results],
        "events": [one["details"] for one in events if one.get("details") and one["time"] <= last],
    }


def _complete(daemon: Daemon, heard: Listener, names: Sequence[str], counts: Sequence[int]) -> bool:
    if daemon.process.poll() is not None:
        raise RuntimeError(f"the daemon has ended: {daemon.log[-1500:]}")
    results = heard.results()
    return all(len(results[name]) >= count for name, count in zip(names, counts, strict=True))


def _replay(number: int, path: Path) -> str:
    return f'\n[sources.sound{number}]\nkind = "replay"\npath = "{path}"\nspeed = "flat-out"\n'


def _pipeline(number: int, bundle: Path) -> str:
    return f"""
[pipelines.clip{number}]
source = "sound{number}"
model = "{bundle.name.rpartition("-")[0]}"
"""

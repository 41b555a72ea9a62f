"""A device with a telemetry sensor, a camera and a microphone, whose page is looked at."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from functools import partial
from importlib import resources
from typing import TYPE_CHECKING, NamedTuple

from limpet.gateway.access.tokens import new as new_token
from support import shuttle_models
from support.api_daemon import UnixConnection
from support.broker import free_port, wait_until
from support.daemon import Daemon, daemon

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOKEN, _KNOWN = new_token("ada")
DATA = resources.files("limpet").joinpath("demo_data")
_CONFIGURATION = """
[device]
id = "press-07"
state = "state"
health_interval = 2.0
commands = ["health", "restart", "threshold", "capture", "explain", "snapshot", "log_level", "promote", "cancel",
            "rollback"]

[jsonl]
path = "results.jsonl"

[sources.vibration]
kind = "replay"
path = "shuttle.csv"
rate = 25
loop = true

[sources.door]
kind = "replay"
path = "{data}/faces.mp4"
loop = true

[sources.microphone]
kind = "replay"
path = "{data}/okay-nabu.wav"
loop = true

[pipelines.anomaly]
source = "vibration"
model = "{data}/shuttle-1.limpet"

[pipelines.condition]
source = "vibration"
model = "shuttle-7.limpet"

[pipelines.entrance]
source = "door"
model = "{data}/face-detection-1.limpet"
snapshots = {{}}

[pipelines.wake-word]
source = "microphone"
model = "{data}/okay-nabu-1.limpet"

[api]
listen = ["127.0.0.1:{port}"]
token_file = "tokens"
"""


class PageDevice(NamedTuple):
    """A running device, and where its page is."""

    daemon: Daemon
    folder: Path
    url: str

    def start_update(self) -> None:
        """Have a new model of ``condition`` run beside the old one, until a person promotes it."""
        new = shuttle_models.bundle(self.folder / "shuttle-8.limpet", "better")
        options = [new, "--pipeline", "condition", "--shadow", "100000", "--yes", "--config", self.daemon.path]
        showing = subprocess.Popen(
            [sys.executable, "-m", "limpet", "model", "install", *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_until(lambda: '"stage":"shadow"' in self._get("/api/pipelines/condition"), 60)
        finally:
            showing.terminate()
            showing.wait()

    def has_results(self, pipeline: str) -> bool:
        """Return whether a pipeline has results."""
        return self._get(f"/api/pipelines/{pipeline}/results") != "[]"

    def _get(self, path: str) -> str:
        with contextlib.closing(UnixConnection(self.folder / "state" / "api.sock")) as connection:
            connection.request("GET", path)
            return connection.getresponse().read().decode()


@contextlib.contextmanager
def page_device(folder: Path) -> Iterator[PageDevice]:
    """Run the device in ``folder``, until all its pipelines have results."""
    shuttle_models.recording(folder / "shuttle.csv")
    shuttle_models.bundle(folder / "shuttle-7.limpet", "old")
    (folder / "tokens").write_text(f"{_KNOWN.name} {_KNOWN.sha256}\n")
    port = free_port()
    path = folder / "limpet.toml"
    path.write_text(_CONFIGURATION.format(data=DATA, port=port))
    with daemon(path) as running:
        device = PageDevice(running, folder, f"http://127.0.0.1:{port}")
        wait_until((folder / "state" / "api.sock").exists, 30)
        for name in ("anomaly", "condition", "entrance", "wake-word"):
            wait_until(partial(device.has_results, name), 30)
        yield device

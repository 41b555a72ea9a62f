"""The real daemon with a real configuration file, and the broker that it talks to."""

from __future__ import annotations

import logging
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import tomli_w

from limpet.errors import LimpetError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from typing_extensions import Self

_HEAD = "# Made by `limpet demo`. One for your own sensor has the same shape; `limpet init` writes it.\n\n"


def _broker(port: int) -> dict[str, Any]:
    """Return the configuration of a broker at this port of the loopback interface."""
    return {
        "id": 0,
        "router": {
            "id": 0,
            "max_connections": 32,
            "max_outgoing_packet_count": 200,
            "max_segment_size": 100 << 20,
            "max_segment_count": 10,
        },
        "v5": {
            "1": {
                "name": "mqtt5",
                "listen": f"127.0.0.1:{port}",
                "next_connection_delay_ms": 1,
                "connections": {
                    "connection_timeout_ms": 60_000,
                    "max_payload_size": 1 << 20,
                    "max_inflight_count": 100,
                    "dynamic_filters": True,
                },
            }
        },
    }


@contextmanager
def embedded_broker(folder: Path) -> Iterator[str]:
    """Run a broker in this process, on a free port of the loopback interface. Yield its URL."""
    from iotcore import Broker

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    path = folder / "broker.toml"
    path.write_text(tomli_w.dumps(_broker(port)), encoding="utf-8")
    logging.getLogger("iotcore").setLevel(logging.WARNING)
    with Broker(config_path=str(path)):
        yield f"mqtt://127.0.0.1:{port}"


def data(name: str) -> Path:
    """Return a file that the demo plays or runs."""
    return Path(str(resources.files("limpet").joinpath("demo_data", name)))


class Chain(NamedTuple):
    """A source and the pipeline on it, as the configuration has them. ``bundle``: a file of the demo's data."""

    source: str
    options: Mapping[str, Any]
    pipeline: str
    bundle: str


def write_configuration(folder: Path, device: str, url: str, chain: Chain) -> Path:
    """Write the file that the daemon runs with."""
    path = folder / "limpet.toml"
    tables = {
        "device": {"id": device, "state": "state", "health_interval": 1.0},
        "mqtt": {"url": url},
        "sources": {chain.source: dict(chain.options)},
        "pipelines": {chain.pipeline: {"source": chain.source, "model": str(data(chain.bundle))}},
    }
    path.write_text(_HEAD + tomli_w.dumps(tables), encoding="utf-8")
    return path


class Daemon:
    """``limpet run`` in its own process. Leaving the context stops it as systemd does."""

    def __init__(self, configuration: Path, log: Path) -> None:
        self._command = [sys.executable, "-m", "limpet", "run", str(configuration)]
        self.log = log

    def __enter__(self) -> Self:
        with self.log.open("wb") as log:
            # A separate session: Ctrl-C reaches the demo alone, which then stops the daemon.
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def require(self) -> None:
        """Raise ``LimpetError`` with the end of its log if it is not running."""
        if self._process.poll() is not None:
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-5:])
            raise LimpetError(
                f"the daemon ended with exit status {self._process.returncode}; the end of its log:\n{tail}"
            )

    def stop(self) -> None:
        """Send SIGTERM, and SIGKILL if the daemon does not end within ten seconds."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

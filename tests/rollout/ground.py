"""What a campaign of updates runs on: a broker, a server of bundles, keys, and one device with a real daemon."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import threading
import time
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Root, TargetFile, Targets

from support import bundles, models
from support.broker import Mosquitto, mosquitto
from support.daemon import Consumer, Daemon

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DEVICE, PIPELINE, MODEL = "gate-1", "one", "motion"
DISK_BYTES = 12_000_000
BALLAST = 1_500_000
"""Bytes of a bundle, so that a download takes a while."""
SPEED = 3_000_000
"""Bytes a second that the server sends."""
RATE = 400
CONFIGURATION = """
[device]
id = "{device}"
state = "{state}"
health_interval = 0.5
commands = ["ping", "health", "install", "promote", "rollback", "cancel"]

[trust]
root = "root.json"

[updates]
allow = ["{server}"]
disk_bytes = {disk}

[mqtt]
url = "{url}"
reconnect_max = 0.5
batch_age = 0.05

[mqtt.replay]
jitter = 0.1
messages_per_second = 1000.0

[sources.fast]
kind = "replay"
path = "recording.csv"
rate = {rate}
loop = true

[pipelines.one]
source = "fast"
model = "motion"
decoder = {{ kind = "classify" }}
"""


class Served(NamedTuple):
    """A bundle that the server has."""

    path: Path
    version: int
    sha256: str
    length: int


class Keys:
    """A root of trust with one key for everything."""

    def __init__(self) -> None:
        self.signer = CryptoSigner.generate_ed25519()
        self.expires = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(days=30)

    def root(self) -> bytes:
        root = Root(version=1, expires=self.expires, consistent_snapshot=False)
        for role in ("root", "targets", "snapshot", "timestamp"):
            root.add_key(self.signer.public_key, role)
        whole = Metadata(root)
        whole.sign(self.signer)
        return whole.to_bytes()

    def signature(self, manifest: bytes, name: str, version: int) -> bytes:
        """Return the signature of a bundle: its manifest is the only target."""
        path = f"{name}/{version}/manifest.json"
        targets = Targets(version=1, expires=self.expires, targets={path: TargetFile.from_data(path, manifest)})
        whole = Metadata(targets)
        whole.sign(self.signer)
        return whole.to_bytes()


class Server:
    """Sends files of a folder at a bounded speed, also from the middle on."""

    def __init__(self, folder: Path) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = folder / self.path.rpartition("/")[2]
                if not path.is_file():
                    self.send_error(404)
                    return
                data = path.read_bytes()
                begin = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").partition("-")[0])
                self.send_response(206 if begin else 200)
                self.send_header("Content-Length", str(len(data) - begin))
                if begin:
                    self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
                self.end_headers()
                with suppress(OSError):  # the deployer was killed
                    for start in range(begin, len(data), SPEED // 20):
                        self.wfile.write(data[start : start + SPEED // 20])
                        time.sleep(1 / 20)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Ground:
    """Everything that a device needs to get a new model. ``state`` is its state directory."""

    def __init__(self, folder: Path, broker: Mosquitto, state: Path) -> None:
        self.folder, self.broker, self.state = folder, broker, state
        self.served = folder / "served"
        self.served.mkdir(parents=True)
        self.keys = Keys()
        self.server = Server(self.served)
        self.path = self._device()
        self.consumer = Consumer(broker.port)
        self.running = Daemon(self.path)

    def _device(self) -> Path:
        folder = self.folder / "device"
        folder.mkdir()
        (folder / "root.json").write_bytes(self.keys.root())
        rows = "".join(f"{i % 7},{i % 5 / 2},{-(i % 3)}\n" for i in range(1000))
        (folder / "recording.csv").write_text("ax,ay,az\n" + rows)
        path = folder / "limpet.toml"
        settings = {"device": DEVICE, "state": self.state, "server": self.server.url, "url": self.broker.url}
        path.write_text(CONFIGURATION.format(**settings, disk=DISK_BYTES, rate=RATE))
        return path

    def install_first(self) -> None:
        """Put the first version into the store."""
        (self.state / "models").mkdir(parents=True, exist_ok=True)
        shutil.copy(self.bundle(1).path, self.state / "models" / f"{MODEL}-1.limpet")

    def bundle(self, version: int) -> Served:
        """Make a bundle, signed, with golden vectors, and serve it."""
        model = self.folder / "dense.tflite"
        models.dense(model, inputs=3, outputs=3)
        inputs = np.array([[[1.0, 2.0, -1.0]]], np.float32)
        golden = bundles.golden([inputs], [inputs])  # it gives what it gets
        filler = np.random.default_rng(version).bytes(BALLAST)
        members = {"model.tflite": model.read_bytes(), "golden.npz": golden, "MODEL_CARD.md": filler}
        manifest = bundles.manifest(
            members, name=MODEL, version=version, model="model.tflite", golden="golden.npz", card="MODEL_CARD.md",
            window={"size": 1}, tolerance={"absolute": 1e-4},
        )  # fmt: skip
        signature = self.keys.signature(manifest, MODEL, version)
        parts = [("manifest.json", manifest), ("signature", signature), *members.items()]
        path = bundles.zipped(self.served / f"{MODEL}-{version}.limpet", parts)
        data = path.read_bytes()
        return Served(path, version, hashlib.sha256(data).hexdigest(), len(data))

    def desire(self, one: Served, **fields: Any) -> None:
        """Publish the desired state, retained."""
        desired = {
            "model": MODEL,
            "version": one.version,
            "sha256": one.sha256,
            "length": one.length,
            "sources": [{"url": self.server.url + one.path.name}],
            "policy": {"trial_windows": 20},
            **fields,
        }
        self.publish(f"model/{PIPELINE}/desired", desired, "-r")

    def publish(self, topic: str, message: Any, *options: str) -> None:
        """Publish as an operator does, with mosquitto's own client."""
        where = ["-p", str(self.broker.port), "-q", "1", "-t", f"limpet/{DEVICE}/{topic}"]
        subprocess.run(["mosquitto_pub", *where, *options, "-m", json.dumps(message)], check=True)

    def update(self) -> dict[str, Any]:
        """Return the last report of the update."""
        reported = self.consumer.last(f"model/{PIPELINE}/reported") or {}
        return reported.get("update") or {}

    def is_good(self, version: int) -> bool:
        """Whether the device says that a version is good."""
        update = self.update()
        return update.get("stage") == "good" and (update.get("good") or {}).get("version") == version

    def versions(self, last: int = 50) -> set[int]:
        """Return which versions gave the last results."""
        return {result["version"] for result in self.consumer.results(PIPELINE)[-last:]}

    def half_written(self) -> list[str]:
        """Return the files in their final place that are not the bundle that their name says."""
        wrong = []
        for path in (self.state / "deployed").glob("*.limpet"):
            with suppress(FileNotFoundError):  # pruned meanwhile
                wanted = self.served / path.name
                if not wanted.exists() or path.read_bytes() != wanted.read_bytes():
                    wrong.append(path.name)
        return wrong

    def disk(self) -> int:
        """Return the bytes that downloads and deployed bundles take."""
        total = 0
        for name in ("deployed", "downloads"):
            for path in (self.state / name).rglob("*"):
                with suppress(FileNotFoundError):
                    total += path.lstat().st_size if path.is_file() else 0
        return total

    def close(self) -> None:
        """End all of it."""
        if self.running.process.poll() is None:
            self.running.stop()
        self.consumer.close()
        self.server.close()


@contextmanager
def ground(folder: Path, state: Path | None = None) -> Iterator[Ground]:
    """Yield a device whose daemon is not started yet. Without a ``state`` it has its first model already."""
    folder.mkdir(parents=True, exist_ok=True)
    with mosquitto(folder / "broker") as broker:
        made = Ground(folder, broker, state or folder / "state")
        if state is None:
            made.install_first()
        try:
            yield made
        finally:
            made.close()

"""What the daemon loads into memory: OpenSSL only for connections and bundles that need it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from daemon.conftest import Configure, pipeline, replay
from limpet import sha256
from support import certificates
from support.broker import free_port, mosquitto
from support.daemon import Consumer, Daemon, daemon

NUMPY_1 = np.lib.NumpyVersion(np.__version__) < "2.0.0"
"""It imports ``secrets`` as a whole, and with it OpenSSL, into every process that has numpy."""


def with_openssl(running: Daemon) -> set[str]:
    """Return which processes have mapped OpenSSL's library and need not, as far as that is Limpet's doing."""
    ours = {running.process.pid: "supervisor"}
    processes = ours if NUMPY_1 else running.descendants() | ours
    maps = {name: Path(f"/proc/{pid}/maps").read_text() for pid, name in processes.items()}
    return {name for name, text in maps.items() if "libcrypto" in text}


def test_a_plain_connection_loads_no_openssl_into_any_process(configure: Configure, consumer: Consumer) -> None:
    bundle = Path(__file__).parents[2] / "agent/limpet/demo_data/shuttle-1.limpet"
    source = replay("board").replace("recording.csv", "shuttle.csv")
    config = configure(source, f'\n[pipelines.shuttle]\nsource = "board"\nmodel = "{bundle}"\n')
    row = ",".join(["50"] * 9) + "\n"
    (config.parent / "shuttle.csv").write_text(",".join(f"f{n}" for n in range(1, 10)) + "\n" + row * 100)
    with daemon(config) as running:
        consumer.wait_results("shuttle", 10)
        assert with_openssl(running) == set()
        assert len(running.descendants()) == 2


def test_a_tls_connection_loads_openssl_when_it_is_opened(configure: Configure, tmp_path: Path) -> None:
    ca = certificates.authority(tmp_path)
    cert, key = certificates.certificate(ca, "server")
    port = free_port()
    options = f"listener {port} 127.0.0.1\ncertfile {cert}\nkeyfile {key}"
    with mosquitto(tmp_path / "secured", options) as broker:
        config = configure(replay("imu"), pipeline("motion", "imu"))
        url = f'url = "mqtts://localhost:{port}"\nca_file = "{ca}"'
        config.write_text(
            "\n".join(url if line.startswith("url") else line for line in config.read_text().split("\n"))
        )
        listening = Consumer(broker.port)
        with daemon(config) as running:
            listening.wait_results("motion", 10)
            assert with_openssl(running) == {"supervisor"}
        listening.close()


LOADED = """
import sys
import limpet.cli
from limpet import deferred
deferred.save_memory()
import limpet.commands.run, limpet.supervision.starting, limpet.reporters.mqtt
print(*(name for name, one in sys.modules.items() if not isinstance(one, deferred.Deferred) or one.__spec__))
"""
HEAVY = {"tuf", "securesystemslib", "cryptography", "urllib3", "zstandard", "numpy", "hashlib", "dataclasses"}
HEAVY |= {"typing_extensions"} if sys.version_info >= (3, 11) else set()
DURING_AN_UPDATE = {
    *("limpet.models.sealed", "limpet.supervision.admissions", "limpet.supervision.deployers"),
    *("limpet.supervision.update_requests", "limpet.supervision.update_tasks"),
    *("limpet.updates.instructions", "limpet.updates.machine", "limpet.updates.stimuli"),
}


def test_a_supervisor_without_an_update_imports_nothing_that_one_needs() -> None:
    command = [sys.executable, "-c", LOADED]
    found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.split()
    assert "limpet.supervision.updates" in found
    assert (HEAVY | DURING_AN_UPDATE) & {*found} == set()


def test_small_things_are_hashed_as_large_ones_are() -> None:
    for size in (10, sha256.LARGE):
        digest = sha256.sha256(size)
        digest.update(b"abc")
        assert digest.hexdigest() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

"""What is attacked: a daemon with a bystander's pipeline, a broker, and a spy that hears all of it."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attack.relay import Relay
from attack.report import Attempt, Report
from attack.spy import BYSTANDER, DEVICE, Spy
from limpet.device import state_files
from support import models
from support.broker import Mosquitto, wait_until
from support.daemon import Daemon

if TYPE_CHECKING:
    from collections.abc import Iterator

PLUGIN = Path(__file__).parent / "plugin"
HEAD = """
[device]
id = "{device}"
state = "state"
health_interval = 0.5
commands = ["ping", "health", "restart", "log_level", "threshold", "capture", "infer", "snapshot", "enrol",
  "forget", "feedback", "explain", "undo"]

[mqtt]
url = "{url}"
username = "limpet"
password_file = "mqtt-password"
reconnect_max = 0.5
batch_age = 0.02

[sources.calm]
kind = "replay"
path = "recording.csv"
rate = 50
loop = true

[pipelines.{bystander}]
source = "calm"
model = "calm.tflite"
deadline = 5.0
decoder = {{ kind = "regress" }}
"""
PATIENCE = 15.0
ALIVE = 5
"""Results of the bystander that must come after an attempt."""


class Ground:
    """One folder with a configuration, and what runs on it. ``attempts`` go into a report as they end."""

    def __init__(self, folder: Path, report: Report) -> None:
        self.folder = folder
        self.report = report
        self.path = folder / "limpet.toml"
        self.state = folder / "state"
        self.broker = Mosquitto(folder / "broker")
        _prepare(folder)
        self.broker.start()
        self.spy = Spy(self.broker.port)
        self.relay = Relay(self.broker.port)
        (folder / "models" / "port").write_text(str(self.broker.port))
        self.configure()
        self.daemon = Daemon(self.path, {"PYTHONPATH": str(_site(folder))})

    def configure(self, *parts: str) -> None:
        """Write the configuration: the bystander, and these parts."""
        head = HEAD.format(device=DEVICE, url=f"mqtt://127.0.0.1:{self.relay.port}", bystander=BYSTANDER)
        self.path.write_text(head + "".join(parts))

    def reload(self, *parts: str) -> None:
        """Have the daemon take another configuration."""
        self.configure(*parts)
        self.daemon.process.send_signal(signal.SIGHUP)

    # --- the daemon

    def start(self, attempt: Attempt | None = None) -> None:
        """Start the daemon; if it does not come up with the state that is there, begin with an empty one."""
        self.daemon.start()
        if self.moves():
            return
        if attempt:
            attempt.harmed("poisoned_starts")
            attempt.happened += f" The next start failed: {self.last_words()}"
        self.end()
        shutil.rmtree(self.state, ignore_errors=True)
        self.daemon.start()
        wait_until(self.moves, 2 * PATIENCE)

    def end(self, number: int = signal.SIGKILL) -> None:
        """End the daemon and wait until all of its processes are gone."""
        if self.daemon.process.poll() is None:
            self._measure()
            self.daemon.signal(number)
            try:
                self.daemon.wait()
            except subprocess.TimeoutExpired:
                self.daemon.process.kill()
                self.daemon.process.wait()
        wait_until(lambda: not self.daemon.survivors())

    def alive(self) -> bool:
        """Whether the supervisor runs."""
        self._measure()
        return self.daemon.process.poll() is None

    def moves(self) -> bool:
        """Whether results of the bystander come."""
        before = len(self.spy.results())
        with contextlib.suppress(AssertionError):
            wait_until(lambda: self._moved(before), PATIENCE)
        return len(self.spy.results()) >= before + ALIVE

    def _moved(self, before: int) -> bool:
        return len(self.spy.results()) >= before + ALIVE or not self.alive()

    def _measure(self) -> None:
        with contextlib.suppress(OSError, ValueError, IndexError):
            status = Path(f"/proc/{self.daemon.process.pid}/status").read_text()
            self.report.grown(int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6)

    def wait_for_disk(self) -> None:
        """Wait until messages lie on the disk, as the broker does not take them."""
        before = (self.state / "reporters" / "mqtt" / "outbox.db-wal").stat().st_size
        wait_until(lambda: (self.state / "reporters" / "mqtt" / "outbox.db-wal").stat().st_size > before, 6)

    def warnings(self) -> str:
        """Return the first warning since the last start."""
        lines = self.daemon.log.rpartition(" starts as ")[0].splitlines()[-3:]
        lines += self.daemon.log.rpartition(" starts as ")[2].splitlines()
        return next((line.partition(" WARNING ")[2][:200] for line in lines if " WARNING " in line), "")

    def last_words(self) -> str:
        """Return how the log ends."""
        lines = [line for line in self.daemon.log.splitlines() if line and not line.startswith("ATTACK")]
        return lines[-1][:200] if lines else "no line in the log"

    # --- attempts

    @contextlib.contextmanager
    def attempt(self, name: str, border: str, *, restart: bool = False) -> Iterator[Attempt]:
        """Make an attempt, then see what it has done. ``restart``: kill the daemon, and see it start again."""
        self.spy.foreign()
        attempt = Attempt(name, border)
        yield attempt
        attempt.harmed("foreign_topics", len(foreign := self.spy.foreign()))
        attempt.happened += "".join(f" Heard on {text}." for text in foreign[:2])
        if not self.moves():
            ended = self.daemon.process.poll() is not None
            attempt.reached = attempt.reached or ("the daemon ended of it" if ended else "")
            attempt.harmed("supervisor_ended" if ended else "others_lost")
            attempt.happened += f" The {'daemon ended' if ended else 'bystander stood still'}: {self.last_words()}"
            self.end()
            self.configure()
            self.start(attempt)
        elif restart:
            self.end()
            self.configure()
            self.start(attempt)
        self.report.add(attempt)

    def seen(self, attempt: str) -> dict[str, Any]:
        """Return what an intruder in a worker or executor has written of an attempt so far."""
        seen: dict[str, Any] = {}
        for line in self.daemon.log.splitlines():
            if line.startswith("ATTACK {"):
                with contextlib.suppress(ValueError):
                    facts = json.loads(line.removeprefix("ATTACK "))
                    if facts["attempt"] == attempt:
                        seen |= facts
        return seen

    def close(self) -> None:
        """Stop everything in order, and count what the bystander has lost."""
        if self.daemon.process.poll() is None:
            self.end(signal.SIGTERM)
        self._account()
        self.spy.close()
        self.relay.close()
        self.broker.stop()
        # As ``limpet reset`` does: an intruder may have left what nothing else can delete.
        state_files.remove(self.state / "cache")

    def _account(self) -> None:
        """Put what is missing to the account of the last attempt: which one lost it cannot be told."""
        if self.report.attempts:
            last, others = self.report.attempts[-1], self.spy.pipelines - {BYSTANDER}
            last.harmed("others_lost", self.spy.lost())
            missing = sum(self.spy.lost(pipeline) for pipeline in others)
            last.harmed("uncounted_lost", max(missing - self.spy.counted(), 0))


@contextlib.contextmanager
def ground(folder: Path, report: Report) -> Iterator[Ground]:
    """Prepare a folder and start the daemon on it."""
    prepared = Ground(folder, report)
    try:
        prepared.start()
        yield prepared
    finally:
        prepared.close()


def _prepare(folder: Path) -> None:
    (folder / "models").mkdir(parents=True, exist_ok=True)
    models.dense(folder / "calm.tflite", inputs=3, outputs=3)
    models.dense(folder / "evil.tflite", inputs=3, outputs=3)
    rows = "".join(f"{i % 7},{i % 5 / 2},{-(i % 3)}\n" for i in range(1000))
    (folder / "recording.csv").write_text("ax,ay,az\n" + rows)
    (folder / "mqtt-password").write_text("a secret that no worker may read\n")
    (folder / "mqtt-password").chmod(0o600)


def _site(folder: Path) -> Path:
    """Install the plugin package for this run."""
    site = folder / "site"
    shutil.copytree(PLUGIN, site, ignore=shutil.ignore_patterns("__pycache__"))
    info = site / "attacker-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: attacker\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[limpet.sources]\nattacker = attacker\n")
    return site

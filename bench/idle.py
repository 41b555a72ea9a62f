"""What updates cost a daemon at rest, beside a Limpet without them: the supervisor's memory, and its wake-ups.

    .venv/bin/python bench/idle.py --runs 5 --seconds 60 --before PYTHON

PYTHON is one whose ``limpet`` is that of commit d77a997f, the last one without updates. Prints a table.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tests"))

from daemon.conftest import HEAD, replay  # noqa: E402
from daemon.test_remote_updates import KEYS, TABLES, TOPIC, request, signed, stage  # noqa: E402
from support import trusting  # noqa: E402
from support.broker import Mosquitto, mosquitto, wait_until  # noqa: E402
from support.daemon import Consumer, Daemon, daemon  # noqa: E402
from support.web_server import WebServer  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

SETTLES = 8.0
"""Seconds after which a recording has ended, and the fork server and all helpers rest."""


class Rest(NamedTuple):
    """A supervisor at rest: its proportional and its private memory in kB, and how often it woke up."""

    pss: float
    private: float
    wake_ups: float


def rest(running: Daemon, seconds: float) -> Rest:
    """Let a daemon rest, then watch its supervisor for so long."""
    time.sleep(SETTLES)
    process = Path(f"/proc/{running.process.pid}")
    sizes = _fields(process / "smaps_rollup")
    before = _wake_ups(process)
    time.sleep(seconds)
    private = sizes["Private_Clean"] + sizes["Private_Dirty"]
    return Rest(sizes["Pss"] * 1.024, private * 1.024, _wake_ups(process) - before)


def _fields(path: Path) -> dict[str, int]:
    lines = (line.split() for line in path.read_text().splitlines())
    return {words[0].rstrip(":"): int(words[1]) for words in lines if len(words) > 1 and words[1].isdecimal()}


def _wake_ups(process: Path) -> int:
    return sum(_fields(task / "status")["voluntary_ctxt_switches"] for task in (process / "task").iterdir())


def measure(python: str, seconds: float, *, tables: bool) -> Iterator[tuple[str, Rest]]:
    """Run one daemon. With ``tables`` it trusts a root, gets an update, and is started again after it."""
    with tempfile.TemporaryDirectory() as temporary:
        folder, server = Path(temporary), WebServer()
        with mosquitto(folder / "broker") as broker:
            consumer = Consumer(broker.port)
            path = _configure(folder, broker, server.port, tables=tables)
            server.files["/bundle"] = two = signed(folder, 2)
            with daemon(path, python=python) as running:
                consumer.wait_results("motion", 5)
                yield (
                    "with `[trust]` and `[updates]`" if tables else "without these tables",
                    rest(running, seconds),
                )
                if tables:
                    _publish(broker, request(two, 2, 7, id="two", sources=[{"url": server.url()}]))
                    wait_until(lambda: stage(consumer) == "good")
                    yield "after an update, not started again", rest(running, seconds)
                    running.stop()
                    running.start()
                    consumer.wait_results("motion", 5)
                    yield "after an update, started again", rest(running, seconds)
            consumer.close()
        server.close()


def _configure(folder: Path, broker: Mosquitto, port: int, *, tables: bool) -> Path:
    """Write a configuration whose source ends at once, so that nothing but updates can wake the daemon."""
    signed(folder, 1)
    (folder / "root.json").write_bytes(trusting.root(KEYS))
    (folder / "recording.csv").write_text("ax,ay,az\n" + "1,2,3\n" * 100)
    head = HEAD.format(url=broker.url).replace("health_interval = 0.5", "health_interval = 3600")
    own = TABLES.format(port=port)
    path = folder / "limpet.toml"
    source = replay("imu").replace("loop = true", "loop = false")
    path.write_text(head + source + (own if tables else own[own.index("[pipelines") :]))
    return path


def _publish(broker: Mosquitto, payload: bytes) -> None:
    where = ["-h", "127.0.0.1", "-p", str(broker.port), "-q", "1", "-r", "-t", TOPIC]
    subprocess.run(["mosquitto_pub", *where, "-s"], input=payload, check=True, timeout=20)


def main() -> None:
    """Print the medians of some runs, beside those of the other Python's Limpet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--before", help="a Python with a Limpet that knows no updates")
    arguments = parser.parse_args()
    found: dict[str, list[Rest]] = {}
    for _ in range(arguments.runs):
        if arguments.before:
            for _, one in measure(arguments.before, arguments.seconds, tables=False):
                found.setdefault("before", []).append(one)
        for tables in (False, True):
            for name, one in measure(sys.executable, arguments.seconds, tables=tables):
                found.setdefault(name, []).append(one)
    _print(found, arguments.seconds)


def _print(found: dict[str, list[Rest]], seconds: float) -> None:
    medians = {name: Rest(*map(median, zip(*runs, strict=True))) for name, runs in found.items()}
    basis = medians.get("before")
    print(f"| Supervisor at rest | PSS, kB | private, kB | more PSS, kB | wake-ups in {seconds:g} s |")
    print("| --- | --- | --- | --- | --- |")
    for name, one in medians.items():
        more = f"{one.pss - basis.pss:+.0f}" if basis else ""
        print(f"| {name} | {one.pss:.0f} | {one.private:.0f} | {more} | {one.wake_ups:g} |")


if __name__ == "__main__":
    main()

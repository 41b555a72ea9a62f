"""Measure the outbox and the sender here, and write docs/explanation/benchmarks-mqtt.md.

The last line is one JSON object.

BENCH_SCALE shortens it, for instance 0.1 for a look; then nothing is written.
"""

from __future__ import annotations

import itertools
import json
import os
import platform
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests")]

import msgspec  # noqa: E402
from paho.mqtt.client import Client  # noqa: E402
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion  # noqa: E402

from limpet.delivery.mqtt.batch import Batcher  # noqa: E402
from limpet.delivery.mqtt.connection import WINDOW  # noqa: E402
from limpet.delivery.outbox import Entry  # noqa: E402
from limpet.delivery.outbox.queue import Outbox  # noqa: E402
from limpet.delivery.outbox.rules import OutboxRules  # noqa: E402
from limpet.reporters import mqtt  # noqa: E402
from support import reports  # noqa: E402
from support.broker import mosquitto, wait_until  # noqa: E402

DAY = 86_400
NOBODY = "mqtt://127.0.0.1:9"
"""Nothing listens there."""


def open_reporter(url: str, folder: Path, **table: Any) -> Any:
    config = msgspec.convert({"url": url, "reconnect_max": 1.0} | table, mqtt.Config)
    return reports.opened(mqtt, config, folder / "state")


def feed(reporter: reports.Fed[mqtt.MqttReporter], count: int) -> None:
    """Hand over results as fast as they are taken in."""
    for sequence, message in enumerate(reports.results(count)):
        reporter.report(message)
        if sequence % 1000 == 0:
            while sequence - reporter.health()["accepted"] > 10_000:
                time.sleep(0.001)


def drained(reporter: reports.Fed[mqtt.MqttReporter], count: int) -> bool:
    health = reporter.health()
    return bool(health["accepted"] == count and not health["outbox_depth"])


def throughput(folder: Path, url: str, keep: str, count: int) -> float:
    """Return results a second that go through in batches, from ``report`` to the broker's acknowledgement."""
    with open_reporter(url, folder, outbox={"results": {"keep": keep}}) as reporter:
        wait_until(lambda: reporter.health()["connected"])
        began = time.monotonic()
        feed(reporter, count)
        wait_until(lambda: drained(reporter, count), 120)
        return count / (time.monotonic() - began)


def published(folder: Path, url: str, count: int) -> float:
    """Return messages a second, each a result, with QoS 1."""
    with open_reporter(url, folder, batch_count=1) as reporter:
        wait_until(lambda: reporter.health()["connected"])
        messages = list(reports.results(count))
        began = time.monotonic()
        for message in messages:
            reporter.report(message)
        wait_until(lambda: drained(reporter, count), 120)
        return count / (time.monotonic() - began)


def bare_paho(url: str, count: int) -> float:
    """Return messages a second of paho alone in its own loop: same payloads, QoS and window."""
    payloads = [msgspec.json.encode(reports.result(sequence)) for sequence in range(count)]
    client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
    client.max_inflight_messages = WINDOW
    done, connected, acked = threading.Event(), threading.Event(), itertools.count(1)
    client.on_connect = lambda *_: connected.set()
    client.on_publish = lambda *_: done.set() if next(acked) == count else None
    client.connect("127.0.0.1", int(url.rpartition(":")[2]))
    client.loop_start()
    assert connected.wait(10)
    began = time.monotonic()
    for payload in payloads:
        client.publish("limpet/press-07/result/motion", payload, 1)
    assert done.wait(120)
    seconds = time.monotonic() - began
    client.disconnect()
    client.loop_stop()
    return count / seconds


def written(folder: Path, url: str, keep: str, count: int) -> float:
    """Return bytes that this process had written to the disk for a thousand results, a hundred a second."""
    with open_reporter(url, folder, outbox={"results": {"keep": keep}}) as reporter:
        time.sleep(2)  # the file is made
        before = _io()
        for sequence in range(count):
            reporter.report(reports.result(sequence))
            time.sleep(0.01)
        wait_until(lambda: reporter.health()["accepted"] >= count)
        time.sleep(3)
    return (_io() - before) / count * 1000


def memory(folder: Path, count: int) -> float:
    """Return this process's resident memory in MB with so many results waiting."""
    with open_reporter(NOBODY, folder) as reporter:
        feed(reporter, count)
        wait_until(lambda: reporter.health()["accepted"] >= count, 120)
        time.sleep(4)
        status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024 / 1e6


def outage(folder: Path, hours: float) -> dict[str, float]:
    """Fill an outbox with ``hours`` of ten results a second, then let it catch up with the default pace.

    They are batched and written as in that time, on its own clock.
    """
    outbox = Outbox(OutboxRules(), folder / "state")
    batcher = Batcher(100, 0.25, 65_536)
    start = now = time.monotonic()
    outbox.open(now)
    encode = msgspec.json.Encoder().encode
    count = round(hours * 36_000)
    for sequence in range(count):
        now = start + sequence / 10
        for batch in [*batcher.due(now), *batcher.add("motion", encode(reports.result(sequence)), now)]:
            outbox.put(Entry("result", batch.key, batch.items, batch.since))
        outbox.maintain(now, away=True)
    for batch in batcher.flush(now):
        outbox.put(Entry("result", batch.key, batch.items, batch.since))
    size, shed = outbox.size, sum(outbox.counts.values())
    outbox.close()
    _age(folder / "state" / "outbox.db", now - start)
    with mosquitto(folder / "broker") as broker, open_reporter(broker.url, folder) as reporter:
        began = time.monotonic()
        wait_until(lambda: reporter.health()["connected"])
        wait_until(lambda: reporter.health()["acknowledged"] > 1 and not reporter.health()["outbox_depth"], 900)
        seconds = time.monotonic() - began
    return {"bytes": size, "shed": shed, "catch_up_s": seconds, "share": seconds / (count / 10), "results": count}


def _age(path: Path, seconds: float) -> None:
    """Let what was written on a clock that ran ahead be of the time before now."""
    with sqlite3.connect(path) as db:
        db.execute("UPDATE result SET born = born - ?, wall = wall - ?", (seconds, seconds))
    db.close()


def _io() -> int:
    return int(Path("/proc/self/io").read_text().partition("\nwrite_bytes:")[2].split()[0])


def apart(part: str, folder: Path, *arguments: Any) -> Any:
    """Call a function of this module in its own process, so that memory and I/O are its own."""
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as in_memory:
        return _called(part, folder, arguments, os.environ | {"RUNTIME_DIRECTORY": in_memory})


def _called(part: str, folder: Path, arguments: Any, environment: dict[str, str]) -> Any:
    command = [sys.executable, __file__, part, str(folder), *map(json.dumps, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return json.loads(done.stdout)


def measure(folder: Path, scale: float) -> dict[str, Any]:
    numbers = itertools.count()

    def fresh() -> Path:
        return folder / str(next(numbers))

    many, some = round(100_000 * scale), round(20_000 * scale)
    figures: dict[str, Any] = {}
    with mosquitto(folder / "broker") as broker:
        runs: dict[str, list[float]] = {"memory": [], "durable": [], "limpet": [], "paho": []}
        for _ in range(3):
            for keep in ("memory", "durable"):
                runs[keep].append(apart("throughput", fresh(), broker.url, keep, many))
            runs["limpet"].append(apart("published", fresh(), broker.url, some))
            runs["paho"].append(apart("bare_paho", fresh(), broker.url, some))
        rates = {name: round(statistics.median(values)) for name, values in runs.items()}
        figures |= {f"{name}_per_s": rate for name, rate in rates.items()}
        figures["durable_by_memory"] = round(rates["durable"] / rates["memory"], 2)
        figures["publish_by_paho"] = round(rates["limpet"] / rates["paho"], 2)
        for name, url, keep in (
            ("spill, broker there", broker.url, "spill"),
            ("spill, broker away", NOBODY, "spill"),
            ("durable", broker.url, "durable"),
        ):
            figures[f"written {name}"] = round(apart("written", fresh(), url, keep, round(2000 * scale)))
    few = round(400_000 * scale)
    figures["rss_mb_few"], figures["rss_mb_many"] = (
        round(apart("memory", fresh(), count), 1) for count in (few, 2 * few)
    )
    figures["outage"] = apart("outage", fresh(), 24 * scale)
    return figures


def page(figures: dict[str, Any]) -> str:
    """Return docs/explanation/benchmarks-mqtt.md."""
    machine = f"{platform.machine()}, {os.cpu_count()} shared cores, Python {platform.python_version()}"
    day = figures["outage"]
    return f"""# Benchmarks of the outbox

Made by `make bench-mqtt` on {time.strftime("%Y-%m-%d")}: {machine}, mosquitto on the same machine. A result has
310 bytes of JSON. Rates are the median of three runs, both sides in turn. The results are alike, so they
compress well. With others the outbox takes more, up to its limit.

| what | measured | wanted |
| --- | --- | --- |
| results/s in batches, on the disk (`keep = "durable"`) and acknowledged | {figures["durable_per_s"]} | 5000 |
| the same in memory alone (`keep = "memory"`) | {figures["memory_per_s"]} | |
| ratio of the two | {figures["durable_by_memory"]} | at least 0.5 |
| messages/s, a result each, QoS 1 (`batch_count = 1`) | {figures["limpet_per_s"]} | |
| the same by paho alone in its own loop | {figures["paho_per_s"]} | |
| ratio of the two | {figures["publish_by_paho"]} | at least 0.7 |
| resident memory in MB, 400,000 results waiting | {figures["rss_mb_few"]} | |
| the same with 800,000 | {figures["rss_mb_many"]} | constant |
| outbox in MB after 24 h without broker at 10 results/s | {day["bytes"] / 1e6:.0f} | at most 268 |
| results shed of {day["results"]} | {day["shed"]} | 0 |
| seconds to catch up, share of the outage | {day["catch_up_s"]:.0f}, {day["share"]:.4f} | below 0.01 |

Bytes written to the disk for 1,000 results, at 100 results a second, as the kernel counts them for the process.
The write-ahead log is in memory (`$RUNTIME_DIRECTORY`).

| | bytes |
| --- | --- |
| `keep = "spill"`, the default, while the broker is there | {figures["written spill, broker there"]} |
| the same while the broker is away | {figures["written spill, broker away"]} |
| `keep = "durable"` | {figures["written durable"]} |

The 24 hours ran on a simulated clock. Results were batched and committed as in that time, then aged, and sent at
the default pace.
"""


def main() -> None:
    scale = float(os.environ.get("BENCH_SCALE", "1"))
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), scale)
    if scale >= 1:
        (ROOT / "docs" / "explanation" / "benchmarks-mqtt.md").write_text(page(figures))
    print(json.dumps(figures))


def part(name: str, folder: Path, arguments: list[Any]) -> Any:
    """Do what ``apart`` asked for."""
    if name == "bare_paho":
        return bare_paho(*arguments)
    timed: dict[str, Any] = {"throughput": throughput, "published": published, "outage": outage}
    sized: dict[str, Any] = {"written": written, "memory": memory}
    return (timed | sized)[name](folder, *arguments)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(part(sys.argv[1], Path(sys.argv[2]), [json.loads(given) for given in sys.argv[3:]])))
    else:
        main()

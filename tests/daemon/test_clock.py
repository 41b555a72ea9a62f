"""A device that starts in 1970 and learns the time later."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daemon.conftest import Configure, pipeline, replay
from limpet.contracts.messages import EventMessage
from limpet.delivery.mqtt.clock_correction import corrected
from limpet.delivery.outbox import Entry, EntryId, StoredEntry
from support import reports
from support.broker import Mosquitto, wait_until
from support.daemon import Consumer, Daemon, daemon, missing
from support.wire import wire

if TYPE_CHECKING:
    from collections.abc import Sequence

import msgspec

SOURCE = Path(__file__).parents[1] / "support" / "set_clock" / "set_clock.c"
CLOSE = 0.25
"""Seconds: the tests' own clocks are read one after the other."""


class WallClock:
    """The wall clock of processes that have ``environment``; whole seconds off the real one."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "offset"
        self._path.write_bytes(struct.pack("d", 0.0))
        library = folder / "libset_clock.so"
        flags = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared"]
        subprocess.run([os.environ.get("CC", "cc"), *flags, "-o", library, SOURCE, "-ldl"], check=True, timeout=60)
        self.environment = {"LD_PRELOAD": str(library), "SET_CLOCK": str(self._path)}

    def set(self, offset: float) -> None:
        with self._path.open("r+b") as file:
            file.write(struct.pack("d", offset))


def wait_written(state: Path, running: Daemon) -> None:
    """Wait until the pipeline runs, and then until the outbox moves results from memory to its database."""
    wait_until(lambda: "one: running" in running.log.rpartition(" starts as press-07")[2], 20)
    began = time.time_ns()
    wait_until(lambda: any(path.stat().st_mtime_ns > began for path in state.rglob("outbox.db-wal")), 20)


def stamp(message: dict[str, Any]) -> float:
    return datetime.fromisoformat(message["time"].replace("Z", "+00:00")).timestamp()


def truth(result: dict[str, Any]) -> float:
    """Return when a result was made, by its monotonic clock, which is ours."""
    return float(time.time() - time.monotonic() + result["monotonic_ns"] / 1e9)


def test_what_was_made_in_1970_gets_its_true_time_once_that_is_known(
    configure: Configure, broker: Mosquitto, consumer: Consumer, tmp_path: Path
) -> None:
    clock = WallClock(tmp_path)
    clock.set(-int(time.time()))
    with wire(broker.port) as line:
        path = configure(replay("left"), pipeline("one", "left"))
        path.write_text(path.read_text().replace(broker.url, line.url))
        with daemon(path, clock.environment) as running:
            consumer.wait_results("one", 20)
            line.fault = "refuse"
            line.cut()
            wait_written(tmp_path / "state", running)
            early = len(consumer.results("one"))
            running.signal(signal.SIGKILL)
            running.wait()
            wait_until(lambda: not running.survivors())
            running.start()
            wait_written(tmp_path / "state", running)
            clock.set(0.0)
            wait_until(lambda: "clock_set" in running.log)
            line.fault = "none"
            wait_until(lambda: device_events(consumer, "clock_set"), 30)
            consumer.wait_results("one", 50)
            assert running.stop() == 0
    results = consumer.results("one")
    assert all(r["clock"] == "unsynchronised" and stamp(r) < 1e6 for r in results[:early])
    assert all("clock" not in r and abs(stamp(r) - truth(r)) < CLOSE for r in results[early:])
    (clock_set,) = device_events(consumer, "clock_set")
    # What was sent too early can be set right by whoever has it.
    assert all(abs(stamp(r) + clock_set["offset_s"] - truth(r)) < CLOSE for r in results[:early])
    assert not missing(results)
    contents = {r["id"]: r["sample"] for r in results}
    assert all(contents[r["id"]] == r["sample"] for r in results)
    assert len({r["boot"] for r in results}) == 2


def device_events(consumer: Consumer, event: str) -> Sequence[dict[str, Any]]:
    said = [m.json for m in list(consumer.messages) if m.topic == "limpet/press-07/event"]
    return [content for content in said if content["event"] == event]


def stored(*messages: Any, same_boot: bool = True, kind: Any = "result") -> StoredEntry:
    items = tuple(msgspec.json.encode(message) for message in messages)
    return StoredEntry(EntryId(kind, 7), Entry(kind, "motion", items, 12.5, same_boot))


def old_result(**changes: Any) -> Any:
    time_then = datetime(1970, 1, 1, 0, 1, tzinfo=timezone.utc)
    return msgspec.structs.replace(reports.result(), time=time_then, clock="unsynchronised", **changes)


def test_only_what_is_marked_and_of_this_boot_is_set_right() -> None:
    ahead = 1_800_000_000.0
    for untouched in (
        (stored(reports.result()), ahead),
        (stored(old_result()), None),
        (stored(old_result(), same_boot=False), ahead),
        (stored(reports.result(output={"text": '"clock":"unsynchronised"'})), ahead),
    ):
        assert corrected(*untouched) is untouched[0]
    made = corrected(stored(old_result(monotonic_ns=2_000_000_000), reports.result(1)), ahead)
    first, second = map(msgspec.json.decode, made.entry.items)
    assert (first["time"], first.get("clock")) == ("2027-01-15T08:00:02Z", None)
    assert second == msgspec.to_builtins(reports.result(1), str_keys=True) | {"time": second["time"]}
    assert made.id == EntryId("result", 7)


def test_an_event_gets_the_time_at_which_it_was_taken_in() -> None:
    event = msgspec.structs.replace(reports.event(), clock="unsynchronised")
    made = corrected(stored(event, kind="event"), 1_800_000_000.0)
    message = msgspec.json.decode(made.entry.items[0], type=EventMessage)
    assert (message.time.isoformat(), message.clock) == ("2027-01-15T08:00:12.500000+00:00", None)

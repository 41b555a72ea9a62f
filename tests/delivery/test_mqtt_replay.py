"""What goes out after an outage: marked, in order or not, at its pace, within its budget."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.delivery.mqtt import outgoing, rate_limits
from limpet.delivery.outbox import Entry, EntryId, StoredEntry
from limpet.reporters import mqtt
from support import reports
from support.broker import Mosquitto, listener, mosquitto, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.broker import Listener


@contextmanager
def after_an_outage(
    tmp_path: Path, backlog: int, **options: Any
) -> Iterator[tuple[reports.Fed[mqtt.MqttReporter], Listener]]:
    """Start a broker when ``backlog`` results of two seconds ago are waiting; then come ten fresh ones."""
    table = {"reconnect_max": 0.05} | options
    with mosquitto(tmp_path / "broker") as broker, listener(broker.port, lasting=True) as heard:
        broker.stop()
        config = msgspec.convert({"url": broker.url} | table, mqtt.Config)
        with reports.opened(mqtt, config, tmp_path / "state") as reporter:
            for message in reports.results(backlog):
                reporter.report(message)
            wait_until(lambda: reporter.health()["outbox_oldest_s"] > 2)
            broker.start()
            wait_until(lambda: reporter.health()["connected"] and heard.connected.is_set())
            for sequence in range(backlog, backlog + 10):
                reporter.report(reports.result(sequence))
            yield reporter, heard


def sequences(heard: Listener) -> list[int]:
    return [result["sequence"] for result in heard.results()["motion"]]


def test_the_backlog_goes_first_marked_and_in_whole_batches(tmp_path: Path) -> None:
    with after_an_outage(tmp_path, 1000, replay={"jitter": 0}, batch_count=100, batch_age=0.01) as (
        reporter,
        heard,
    ):
        wait_until(lambda: len(sequences(heard)) == 1010)
        assert sequences(heard) == list(range(1010))
        marks = [result.get("replayed", False) for result in heard.results()["motion"]]
        assert marks == [True] * 1000 + [False] * 10
        sizes = [len(m.json) for m in heard.on("result/motion") if isinstance(m.json, list)]
        assert sizes[:9] == [100] * 9
        wait_until(lambda: reporter.health()["outbox_depth"] == 0)


def test_fresh_results_go_first_where_told_to(tmp_path: Path) -> None:
    slow = {"fresh": "first", "messages_per_second": 2, "jitter": 0}
    with after_an_outage(tmp_path, 500, replay=slow, batch_count=100, batch_age=0.01) as (_, heard):
        wait_until(lambda: len(sequences(heard)) == 510, 20)
        found = sequences(heard)
        assert found != sorted(found)
        backlog = [number for number in found if number < 500]
        fresh = [number for number in found if number >= 500]
        assert backlog == list(range(500))
        assert fresh == list(range(500, 510))
        assert found.index(509) < found.index(499)


def test_a_byte_budget_holds_results_back_and_lets_events_through(tmp_path: Path) -> None:
    with after_an_outage(tmp_path, 300, replay={"jitter": 0}, batch_count=10, bytes_per_hour=100_000) as (
        reporter,
        heard,
    ):
        wait_until(lambda: len(sequences(heard)) >= 50)
        reporter.report(reports.event())
        wait_until(lambda: heard.on("event/motion"))
        assert len(sequences(heard)) < 310
        sent = sum(len(m.payload) for m in heard.messages)
        assert sent < 100_000
        assert reporter.health()["outbox_depth"] > 0


def test_a_bucket_gives_what_it_has_and_fills_up_again() -> None:
    bucket = rate_limits.Bucket(rate=10, capacity=20)
    assert bucket.level(100.0) == 20
    bucket.spend(25)
    assert bucket.level(100.0) == -5
    assert bucket.full_at(1.0) == pytest.approx(100.6)
    assert bucket.level(101.0) == 5
    assert bucket.level(200.0) == 20


@given(st.lists(st.tuples(st.floats(0, 600), st.integers(1, 5000)), max_size=100))
def test_no_hour_costs_more_than_its_budget(wishes: list[tuple[float, int]]) -> None:
    bucket = rate_limits.budget(20_000)
    now = 0.0
    spent: list[tuple[float, int]] = []
    for pause, size in wishes:
        now += pause
        if bucket.level(now) > 0:
            bucket.spend(size)
            spent.append((now, size))
    for start, _ in spent:
        # The last message may overdraw it.
        assert sum(size for at, size in spent if start <= at < start + 3600) <= 20_000 + 5000


def stored(sequence: int, items: int, pipeline: str = "p") -> StoredEntry:
    objects = (msgspec.json.encode({"sequence": sequence * 1000 + item}) for item in range(items))
    return StoredEntry(EntryId("result", sequence), Entry("result", pipeline, tuple(objects), 0.0))


@given(
    sizes=st.lists(st.tuples(st.integers(1, 9), st.sampled_from("pq")), max_size=20),
    count=st.integers(1, 10),
    limit=st.integers(50, 500),
)
def test_replayed_messages_keep_order_bounds_and_ids(sizes: list[tuple[int, str]], count: int, limit: int) -> None:
    entries = [stored(number, items, pipeline) for number, (items, pipeline) in enumerate(sizes)]
    messages = list(outgoing.replayed(entries, "limpet/d", count, limit))
    for pipeline in "pq":
        found = []
        for message in messages:
            if message.topic == f"limpet/d/result/{pipeline}":
                found += [msgspec.json.decode(item) for item in message.items]
        assert all(item["replayed"] for item in found)
        expected = [(n, k) for n, (items, p) in enumerate(sizes) if p == pipeline for k in range(items)]
        assert [item["sequence"] for item in found] == [n * 1000 + k for n, k in expected]
    assert sorted(each for message in messages for each in message.ids) == [entry.id for entry in entries]
    payloads = [outgoing.json_array(message.items) for message in messages]
    assert [len(payload) for payload in payloads] == [message.size for message in messages]
    assert all(len(m.items) <= count and (len(m.items) == 1 or m.size <= limit) for m in messages)


def test_damaged_items_are_left_out_and_counted_and_their_entry_is_acknowledged() -> None:
    half = StoredEntry(EntryId("result", 1), Entry("result", "p", (b'{"a":1}', b"x"), 0.0))
    none = StoredEntry(EntryId("result", 2), Entry("result", "p", (b"", b"[]"), 0.0))
    messages = list(outgoing.replayed([half, none], "limpet/d", 10, 1000))
    assert [(message.items, message.ids, message.damaged) for message in messages] == [
        ((), (), 1),
        ((), (none.id,), 2),
        ((b'{"replayed":true,"a":1}',), (half.id,), 0),
    ]


def test_fresh_messages_go_as_they_are_unless_they_are_too_large() -> None:
    small, large = stored(1, 2), stored(2, 50)
    messages = list(outgoing.fresh([small, large], "limpet/d", 300))
    assert messages[0] == outgoing.Outgoing("limpet/d/result/p", small.entry.items, (small.id,))
    assert all(message.size <= 300 for message in messages)
    assert [item for message in messages[1:] for item in message.items] == list(large.entry.items)
    assert [message.ids for message in messages[1:]] == [()] * (len(messages) - 2) + [(large.id,)]


def test_a_broker_that_takes_small_packets_only_gets_small_ones(tmp_path: Path) -> None:
    broker = Mosquitto(tmp_path / "broker", "", "allow_anonymous true\nmax_packet_size 4000")
    broker.start()
    try:
        with (
            listener(broker.port) as heard,
            reports.opened(mqtt, mqtt.Config(url=broker.url, batch_age=0.05), tmp_path / "state") as reporter,
        ):
            wait_until(lambda: reporter.health()["connected"])
            for message in reports.results(100):
                reporter.report(message)
            reporter.report(reports.result(100, output={"text": "x" * 5000}))
            wait_until(lambda: len(sequences(heard)) == 100)
            wait_until(lambda: reporter.health()["refused"] == {"too large": 1})
            assert reporter.health()["reconnects"] == 0
    finally:
        broker.stop()

"""The bus: bounded, with a cursor for each consumer and a snapshot for late ones."""

from __future__ import annotations

import threading
import tracemalloc
from typing import TYPE_CHECKING, Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from limpet.contracts.messages import ResultMessage, SnapshotMessage
from limpet.delivery.bus import Bus
from support import reports
from support.broker import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable

    from limpet.contracts.messages import Message


def numbers(messages: Iterable[Message]) -> list[int]:
    """Return the sequence numbers of the results among messages."""
    return [message.sequence for message in messages if isinstance(message, ResultMessage)]


def fill(bus: Bus, begin: int, end: int) -> None:
    for sequence in range(begin, end):
        bus.append(reports.result(sequence))


def test_each_consumer_reads_everything_at_its_own_pace() -> None:
    bus = Bus()
    quick, slow = bus.subscribe(), bus.subscribe()
    fill(bus, 0, 10)
    assert numbers(quick.read(4)) == [0, 1, 2, 3]
    assert numbers(quick.read()) == [4, 5, 6, 7, 8, 9]
    assert (quick.waiting, slow.waiting) == (0, 10)
    fill(bus, 10, 12)
    assert numbers(quick.read()) == [10, 11]
    assert numbers(slow.read()) == list(range(12))
    assert (quick.missed, slow.missed) == (0, 0)


def test_a_late_consumer_gets_the_snapshot_and_then_everything_after_it() -> None:
    bus = Bus()
    bus.append(reports.pipeline_health(count=1))
    for message in reports.one_of_each():
        bus.append(message)
    late = bus.subscribe()
    snapshot = [reports.pipeline_health(), reports.device_health(), reports.model_reported()]
    assert bus.snapshot() == snapshot
    fill(bus, 1, 4)
    assert late.read() == [*snapshot, *(reports.result(sequence) for sequence in (1, 2, 3))]
    assert late.read() == []


def test_a_late_consumer_does_not_wait_for_a_message_to_get_the_snapshot() -> None:
    bus = Bus()
    bus.append(reports.model_reported())
    late = bus.subscribe()
    found: list[Message] = []

    def consume() -> None:
        late.wait()
        found.extend(late.read())

    threading.Thread(target=consume, daemon=True).start()
    wait_until(lambda: found == [reports.model_reported()])


def test_the_state_of_each_pipeline_is_in_the_snapshot() -> None:
    bus = Bus()
    for pipeline, count in (("one", 1), ("two", 2), ("one", 3)):
        bus.append(reports.pipeline_health(pipeline, count))
    assert bus.snapshot() == [reports.pipeline_health("one", 3), reports.pipeline_health("two", 2)]


def test_what_a_slow_consumer_misses_is_counted_for_it_alone_and_it_gets_the_state_again() -> None:
    bus = Bus(most_messages=10)
    quick, slow = bus.subscribe(), bus.subscribe()
    bus.append(reports.model_reported())
    assert quick.read() == slow.read() == [reports.model_reported()]
    for sequence in range(25):
        bus.append(reports.result(sequence))
        assert numbers(quick.read()) == [sequence]
        quick.commit()
    assert (quick.missed, slow.missed, slow.uncommitted) == (0, 15, 10)
    assert slow.read() == [reports.model_reported(), *(reports.result(sequence) for sequence in range(15, 25))]
    assert slow.missed == 15


def test_the_log_is_bounded_in_bytes_too() -> None:
    bus = Bus(most_bytes=10_000)
    cursor = bus.subscribe()
    for sequence in range(10):
        bus.append(reports.result(sequence, output=msgspec.Raw(b" " * 4000)))
    assert numbers(cursor.read()) == [8, 9]
    assert cursor.missed == 8


def test_health_with_large_histograms_counts_as_what_it_takes() -> None:
    bus = Bus(most_bytes=1_000_000)
    cursor = bus.subscribe()
    tracemalloc.start()
    try:
        for count in range(100):
            health = reports.pipeline_health(count=count)
            for latency in health.latency_us.values():
                latency.buckets = {str(bucket): bucket for bucket in range(1000, 2900)}
            bus.append(health)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 1_500_000
    assert cursor.missed > 0
    assert cursor.waiting > 0


def test_dropped_and_committed_messages_are_counted_no_more() -> None:
    bus = Bus(most_messages=10, most_bytes=100_000)
    cursor = bus.subscribe()
    for sequence in range(1000):
        bus.append(reports.pipeline_health(count=sequence))
        bus.append(reports.result(sequence))
        if sequence % 7 == 0:
            cursor.read()
            cursor.commit()
    before = cursor.missed
    cursor.read()
    cursor.commit()
    for message in reports.one_of_each():
        bus.append(message)
    assert cursor.missed == before


def test_a_message_that_is_no_json_is_carried_all_the_same() -> None:
    bus = Bus()
    cursor = bus.subscribe()
    health = reports.pipeline_health()
    health.reason = "\udcff"
    bus.append(health)
    assert cursor.read() == [health]


def test_what_was_not_committed_is_read_again_after_a_reopening() -> None:
    bus = Bus()
    bus.append(reports.device_health())
    before = bus.subscribe()
    fill(bus, 0, 3)
    before.read(3)
    before.commit()
    fill(bus, 3, 6)
    assert numbers(before.read()) == [3, 4, 5]
    after = bus.reopen(before)
    assert before.read() == []
    assert before.waiting == 0
    assert after.read() == [reports.device_health(), *(reports.result(sequence) for sequence in (3, 4, 5))]


def test_what_was_missed_before_a_reopening_is_counted_once() -> None:
    bus = Bus(most_messages=5)
    before = bus.subscribe()
    fill(bus, 0, 8)
    before.read()
    fill(bus, 8, 10)
    assert (before.missed, bus.reopen(before).missed) == (3, 5)


def test_the_end_of_a_cursor_says_what_it_left_and_holds_up_nothing() -> None:
    bus = Bus()
    stays, goes = bus.subscribe(), bus.subscribe()
    fill(bus, 0, 5)
    goes.read(2)
    goes.commit()
    assert bus.close(goes) == 3
    assert goes.read() == []
    assert numbers(stays.read()) == [0, 1, 2, 3, 4]


def test_a_message_ends_the_wait_of_another_thread_and_so_does_a_wake() -> None:
    bus = Bus()
    cursor = bus.subscribe()
    found: list[list[int]] = []

    def consume() -> None:
        for _ in range(2):
            cursor.wait()
            found.append(numbers(cursor.read()))

    thread = threading.Thread(target=consume)
    thread.start()
    fill(bus, 7, 8)
    wait_until(lambda: found)
    cursor.wake()
    thread.join(10)
    assert found == [[7], []]


STEPS = st.lists(
    st.tuples(st.sampled_from(["append", "read", "commit", "reopen"]), st.integers(1, 7)), max_size=60
)


@given(STEPS, st.integers(1, 12))
def test_every_message_is_read_or_counted_as_missed(steps: list[tuple[str, int]], most: int) -> None:
    bus = Bus(most_messages=most)
    cursor: Any = bus.subscribe()
    other = bus.subscribe()
    appended = 0
    read: list[int] = []
    for step, count in steps:
        if step == "append":
            fill(bus, appended, appended + count)
            appended += count
        elif step == "read":
            read += numbers(cursor.read(count))
        elif step == "commit":
            cursor.commit()
            other.read()
            other.commit()
        else:
            cursor = bus.reopen(cursor)
    read += numbers(cursor.read(most))
    assert set(read) <= set(range(appended))
    assert len(set(read)) + cursor.missed >= appended
    if "reopen" not in (step for step, _ in steps):
        assert read == sorted(set(read))
        assert len(read) + cursor.missed == appended


def pictures(messages: Iterable[Message]) -> list[tuple[str, int]]:
    return [(one.pipeline, one.sample) for one in messages if isinstance(one, SnapshotMessage)]


def picture(pipeline: str, sample: int, size: int = 10) -> SnapshotMessage:
    return msgspec.structs.replace(reports.picture(pipeline, bytes(size)), sample=sample)


def test_a_consumer_gets_the_newest_picture_of_each_pipeline_once() -> None:
    bus = Bus()
    bus.append(picture("a", 0))
    quick = bus.subscribe()
    assert pictures(quick.read()) == [("a", 0)]
    for sample in (1, 2, 3):
        bus.append(picture("a", sample))
    bus.append(picture("b", 9))
    assert pictures(quick.read()) == [("a", 3), ("b", 9)]
    assert quick.read() == []
    assert pictures(bus.subscribe().read()) == [("a", 3), ("b", 9)]
    assert pictures(bus.reopen(quick).read()) == [("a", 3), ("b", 9)]


def test_pictures_push_no_result_out() -> None:
    bus = Bus(most_bytes=10_000)
    slow = bus.subscribe()
    fill(bus, 0, 3)
    for sample in range(100):
        bus.append(picture("a", sample, 200_000))
    assert numbers(slow.read()) == [0, 1, 2]
    assert slow.missed == 0


def test_a_consumer_wakes_up_for_a_picture() -> None:
    bus = Bus()
    cursor = bus.subscribe()
    waited = threading.Thread(target=cursor.wait, args=(60,))
    waited.start()
    wait_until(lambda: cursor.asleep)
    bus.append(picture("a", 1))
    waited.join(10)
    assert not waited.is_alive()
    cursor.wait(60)  # there is something to read
    assert pictures(cursor.read()) == [("a", 1)]

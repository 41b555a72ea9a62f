"""What every outbox must do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from limpet.outbox import Entry, Outbox
from limpet.outbox.memory import MemoryOutbox

if TYPE_CHECKING:
    from limpet.outbox import Class

BOUND = 1000


def entry(payload: str, kind: Class = "result", items: int = 1, born: float = 1.0) -> Entry:
    return Entry(kind, "limpet/d/result/p", payload.encode(), 1, items, born)


@pytest.fixture
def outbox() -> Outbox:
    return MemoryOutbox({"event": BOUND, "result": BOUND})


def payloads(outbox: Outbox, count: int = 1000) -> list[str]:
    return [parcel.entry.payload.decode() for parcel in outbox.take(count)]


def test_messages_come_out_in_their_order_and_once(outbox: Outbox) -> None:
    for payload in ("a", "b", "c"):
        outbox.put(entry(payload))
    assert payloads(outbox, 2) == ["a", "b"]
    assert payloads(outbox) == ["c"]
    assert payloads(outbox) == []


def test_events_come_before_results(outbox: Outbox) -> None:
    outbox.put(entry("result"))
    outbox.put(entry("event", "event"))
    assert payloads(outbox) == ["event", "result"]


def test_a_message_is_held_until_acknowledged(outbox: Outbox) -> None:
    outbox.put(entry("a", born=5.0))
    outbox.put(entry("b", born=7.0))
    first, second = outbox.take(2)
    assert (outbox.depth, outbox.oldest()) == (2, 5.0)
    outbox.ack([first.token])
    assert (outbox.depth, outbox.oldest()) == (1, 7.0)
    assert outbox.size == second.entry.size
    outbox.ack([second.token])
    assert (outbox.depth, outbox.size, outbox.oldest()) == (0, 0, None)


def test_the_oldest_is_shed_where_the_bound_is_passed_and_its_results_are_counted(outbox: Outbox) -> None:
    for number in range(10):
        outbox.put(entry(f"{number}" + "x" * 182, items=3))
    assert outbox.size <= BOUND
    assert [payload[0] for payload in payloads(outbox)] == ["5", "6", "7", "8", "9"]
    assert outbox.shed == {"results, outbox full": 15}


def test_results_never_push_out_events(outbox: Outbox) -> None:
    outbox.put(entry("event", "event"))
    for _ in range(100):
        outbox.put(entry("x" * 100))
    assert payloads(outbox)[0] == "event"


def test_what_is_under_way_is_not_shed(outbox: Outbox) -> None:
    outbox.put(entry("a" * 900))
    (parcel,) = outbox.take(1)
    outbox.put(entry("b" * 900))
    assert outbox.shed == {"results, outbox full": 1}
    outbox.ack([parcel.token])
    assert outbox.depth == 0

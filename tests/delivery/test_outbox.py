"""What the outbox must do, wherever the messages are: in memory, on the disk, or where the disk has failed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limpet.delivery.outbox import Entry, shedding
from limpet.delivery.outbox.queue import Outbox
from limpet.delivery.outbox.rules import OutboxRules

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from limpet.delivery.outbox import Class, Freshness, StoredEntry

BOUND = 20_000
PLENTY = 1 << 30
LATER = 60.0


def rules(keep: str = "spill", **options: Any) -> OutboxRules:
    """Return rules for both classes; ``options`` are those of results."""
    table = {
        "events": {"keep": keep, "max_bytes": BOUND},
        "results": {"keep": keep, "max_bytes": BOUND} | options,
        "min_free_bytes": 0,
    }
    return msgspec.convert(table, OutboxRules)


def entry(*items: str, kind: Class = "result", age: float = 0.0, pipeline: str = "p") -> Entry:
    return Entry(kind, pipeline, tuple(item.encode() for item in items), time.monotonic() - age)


def bulk(number: int) -> Entry:
    """Return an entry of exactly 1000 bytes in memory, that zlib cannot make smaller."""
    return Entry("result", "p", ((str(number).zfill(6) + "-").encode() + NOISE,), time.monotonic())


NOISE = bytes((i * i * 31 + i // 3) % 251 for i in range(929))


class Place:
    """An outbox and where its messages go when ``settle`` is called."""

    def __init__(self, keep: str, directory: Path | None) -> None:
        self._keep = keep
        self._directory = directory
        self.now = time.monotonic()
        self.outbox = Outbox(rules(keep), directory)
        self.outbox.open(self.now)

    def make(self, **options: Any) -> None:
        self.outbox.close()
        self.outbox = Outbox(rules(self._keep, **options), self._directory)
        self.outbox.open(self.now)

    def settle(self) -> None:
        self.now += LATER
        self.outbox.maintain(self.now, away=True)


@pytest.fixture(params=["memory", "spill", "durable", "broken disk"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "memory":
        place = Place("memory", None)
    elif request.param == "broken disk":
        (tmp_path / "file").touch()
        place = Place("spill", tmp_path / "file" / "outbox")
    else:
        place = Place(request.param, tmp_path)
    yield place
    place.outbox.close()


def take(outbox: Outbox, part: Freshness = "fresh", rows: int = 1000, kind: Class = "result") -> list[StoredEntry]:
    return outbox.take(kind, part, rows, PLENTY)


def payloads(entries: list[StoredEntry]) -> list[str]:
    return [stored.entry.items[0].decode() for stored in entries]


@pytest.fixture(params=[False, True], ids=["at once", "settled"])
def perhaps(request: pytest.FixtureRequest, place: Place) -> Callable[[], None]:
    return place.settle if request.param else lambda: None


def test_messages_come_out_in_their_order_and_once(place: Place, perhaps: Callable[[], None]) -> None:
    for payload in "abc":
        place.outbox.put(entry(payload))
    perhaps()
    place.outbox.put(entry("d"))
    assert payloads(take(place.outbox, rows=2)) == ["a", "b"]
    perhaps()
    assert payloads(take(place.outbox)) == ["c", "d"]
    perhaps()
    assert take(place.outbox) == []


def test_an_entry_comes_out_as_it_went_in(place: Place, perhaps: Callable[[], None]) -> None:
    small, large = entry("{}", pipeline="camera"), entry(*map(str, range(2001)))
    place.outbox.put(small)
    place.outbox.put(large)
    perhaps()
    assert [stored.entry for stored in take(place.outbox)] == [small, large]


def test_classes_do_not_mix(place: Place, perhaps: Callable[[], None]) -> None:
    place.outbox.put(entry("result"))
    place.outbox.put(entry("event", kind="event"))
    perhaps()
    assert payloads(take(place.outbox, kind="event")) == ["event"]
    assert payloads(take(place.outbox)) == ["result"]


def test_no_more_is_taken_than_asked_for(place: Place, perhaps: Callable[[], None]) -> None:
    for number in range(10):
        place.outbox.put(bulk(number))
    perhaps()
    assert len(place.outbox.take("result", "fresh", 100, 2500)) == 3
    assert len(place.outbox.take("result", "fresh", 2, PLENTY)) == 2
    assert len(take(place.outbox)) == 5


def test_a_message_is_held_until_acknowledged(place: Place, perhaps: Callable[[], None]) -> None:
    old, young = entry("a", age=5), entry("b")
    place.outbox.put(old)
    place.outbox.put(young)
    first, second = take(place.outbox)
    perhaps()
    assert (place.outbox.depth, place.outbox.oldest()) == (2, old.born)
    place.outbox.ack([first.id])
    perhaps()
    assert (place.outbox.depth, place.outbox.oldest()) == (1, young.born)
    place.outbox.ack([second.id])
    perhaps()
    assert place.outbox.depth == 0
    place.settle()
    assert (place.outbox.size, place.outbox.oldest()) == (0, None)


def test_a_new_connection_gets_all_that_was_not_acknowledged(place: Place, perhaps: Callable[[], None]) -> None:
    for payload in "abcd":
        place.outbox.put(entry(payload, age=3))
    perhaps()
    first, _ = take(place.outbox, rows=2)
    place.outbox.ack([first.id])
    perhaps()
    place.outbox.requeue(place.now)
    assert place.outbox.has_backlog("result")
    place.outbox.put(entry("e"))
    assert payloads(take(place.outbox, "fresh")) == ["e"]
    assert payloads(take(place.outbox, "backlog", rows=1)) == ["b"]
    assert payloads(take(place.outbox, "backlog")) == ["c", "d"]
    assert not place.outbox.has_backlog("result")
    assert not place.outbox.has_backlog("event")


def test_what_just_came_and_was_not_sent_is_no_backlog(place: Place) -> None:
    place.outbox.put(entry("old", age=3))
    place.outbox.put(entry("young"))
    place.outbox.requeue(time.monotonic())
    assert payloads(take(place.outbox, "backlog")) == ["old"]
    assert payloads(take(place.outbox, "fresh")) == ["young"]


def test_what_may_have_been_sent_is_backlog(place: Place) -> None:
    for payload in "abc":
        place.outbox.put(entry(payload))
    take(place.outbox, rows=2)
    place.outbox.requeue(time.monotonic())
    assert payloads(take(place.outbox, "backlog")) == ["a", "b"]
    assert payloads(take(place.outbox, "fresh")) == ["c"]


def test_the_oldest_is_shed_where_the_bound_is_passed_and_its_items_are_counted(place: Place) -> None:
    for number in range(100):
        place.outbox.put(msgspec.structs.replace(bulk(number), items=(bulk(number).items[0][:700], b"2", b"3")))
        place.settle()
    assert place.outbox.size <= BOUND
    found = payloads_start(take(place.outbox))
    assert found == list(range(100 - len(found), 100))
    assert place.outbox.counts == {"results, outbox full": 3 * (100 - len(found))}


def test_a_pipeline_that_floods_the_outbox_pushes_out_its_own_messages(place: Place) -> None:
    for number in range(5):
        place.outbox.put(entry(f"calm {number}", pipeline="calm"))
    for number in range(100):
        place.outbox.put(bulk(number))
        place.settle()
    found = [stored.entry.items[0] for stored in take(place.outbox)]
    calm = [payload.decode() for payload in found if payload.startswith(b"calm")]
    assert calm == [f"calm {number}" for number in range(5)]
    assert place.outbox.size <= BOUND
    assert place.outbox.counts == {"results, outbox full": 105 - len(found)}


@given(st.dictionaries(st.text(max_size=2), st.integers(0, 1000), min_size=1), st.integers(1, 3000))
def test_what_is_shed_is_the_surplus_and_comes_from_the_largest(sizes: dict[str, int], surplus: int) -> None:
    excess = shedding.excesses(sizes, surplus)
    assert sum(excess.values()) == pytest.approx(min(surplus, sum(sizes.values())))
    left = {name: sizes[name] - excess[name] for name in sizes}
    for name in sizes:
        assert excess[name] == 0 or left[name] == pytest.approx(max(left.values()))


def test_results_never_push_out_events(place: Place) -> None:
    place.outbox.put(entry("event", kind="event"))
    for number in range(100):
        place.outbox.put(bulk(number))
    place.settle()
    assert payloads(take(place.outbox, kind="event")) == ["event"]


def test_what_is_under_way_is_not_shed(place: Place, perhaps: Callable[[], None]) -> None:
    place.outbox.put(bulk(0))
    (stored,) = take(place.outbox)
    perhaps()
    for number in range(1, 100):
        place.outbox.put(bulk(number))
    place.settle()
    place.outbox.requeue(place.now)
    assert payloads_start(take(place.outbox, "backlog"))[0] == 0
    assert stored.entry == msgspec.structs.replace(bulk(0), born=stored.entry.born)


def payloads_start(entries: list[StoredEntry]) -> list[int]:
    return [int(stored.entry.items[0][:6]) for stored in entries]


def test_what_is_too_old_is_shed(place: Place, perhaps: Callable[[], None]) -> None:
    place.make(max_age=1000.0)
    place.outbox.put(entry("old", age=999.0))
    place.outbox.put(entry("young", age=500.0))
    perhaps()
    place.settle()
    assert payloads(take(place.outbox)) == ["young"]
    assert place.outbox.counts == {"results, too old": 1}


def test_thinning_keeps_every_nth_of_each_pipeline_oldest_first(place: Place) -> None:
    place.make(when_full="keep-every-nth", nth=5)
    for number in range(40):
        place.outbox.put(msgspec.structs.replace(bulk(number), pipeline="ab"[number % 2]))
        place.settle()
    assert place.outbox.size <= BOUND
    found = payloads_start(take(place.outbox))
    assert len(found) + place.outbox.counts["results, thinned"] == 40
    # The youngest are all there; of the older ones each pipeline has kept some.
    assert found[-8:] == list(range(32, 40))
    thinned = [number for number in found if number < 25]
    assert 2 <= len(thinned) <= 7
    assert {number % 2 for number in thinned} == {0, 1}


def test_a_full_outbox_refuses_where_told_to(place: Place) -> None:
    place.make(when_full="refuse")
    for number in range(40):
        place.outbox.put(bulk(number))
        place.settle()
    found = payloads_start(take(place.outbox))
    assert found == list(range(len(found)))
    assert place.outbox.counts == {"results refused, outbox full": 40 - len(found)}
    assert len(found) >= 18


def test_memory_is_bounded_where_there_is_no_disk() -> None:
    table = {"memory_bytes": 65_536, "results": {"keep": "memory"}, "events": {"keep": "memory"}}
    outbox = Outbox(msgspec.convert(table, OutboxRules), None)
    outbox.put(entry("event", kind="event"))
    for number in range(1000):
        outbox.put(bulk(number))
        assert outbox.size <= 65_536
    found = payloads_start(take(outbox))
    assert found == list(range(1000 - len(found), 1000))
    assert outbox.counts == {"results, outbox full": 1000 - len(found)}
    assert payloads(take(outbox, kind="event")) == ["event"]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(1, 5)),
        st.tuples(st.just("take"), st.integers(1, 5)),
        st.tuples(st.just("ack"), st.integers(0, 10)),
        st.tuples(st.just("connect"), st.just(0)),
        st.tuples(st.just("settle"), st.just(0)),
        st.tuples(st.just("restart"), st.just(0)),
    ),
    max_size=40,
)


class Model:
    """What an outbox is to hold, and what it has handed out."""

    def __init__(self, directory: Path, *, fresh_first: bool) -> None:
        self._place = Place("spill", directory)
        self._parts: list[Freshness] = ["fresh", "backlog"] if fresh_first else ["backlog", "fresh"]
        self._next = 0
        self._held: dict[int, StoredEntry | None] = {}

    def put(self, count: int) -> None:
        for _ in range(count):
            self._place.outbox.put(entry(str(self._next)))
            self._held[self._next] = None
            self._next += 1

    def take(self, rows: int) -> None:
        for part in self._parts:
            entries = take(self._place.outbox, part, rows=rows)
            numbers = [int(payload) for payload in payloads(entries)]
            assert numbers == sorted(numbers)
            for stored, number in zip(entries, numbers, strict=True):
                assert self._held[number] is None
                self._held[number] = stored

    def ack(self, count: int) -> None:
        taken = [(number, stored) for number, stored in self._held.items() if stored]
        self._place.outbox.ack([stored.id for _, stored in taken[:count]])
        for number, _ in taken[:count]:
            del self._held[number]

    def settle(self, _: int) -> None:
        self._place.settle()

    def restart(self, _: int) -> None:
        self._place.make()
        self.connect(0)

    def connect(self, _: int) -> None:
        self._place.outbox.requeue(self._place.now)
        self._held = dict.fromkeys(self._held)

    def check(self) -> None:
        assert self._place.outbox.depth == len(self._held)

    def end(self) -> None:
        self.connect(0)
        rest = [payload for part in ("backlog", "fresh") for payload in payloads(take(self._place.outbox, part))]
        assert [int(payload) for payload in rest] == sorted(self._held)
        self._place.outbox.close()


@settings(max_examples=60)
@given(steps=STEPS, fresh_first=st.booleans())
def test_nothing_is_lost_whatever_happens(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]], *, fresh_first: bool
) -> None:
    model = Model(tmp_path_factory.mktemp("outbox"), fresh_first=fresh_first)
    for step, argument in steps:
        getattr(model, step)(argument)
        model.check()
    model.end()

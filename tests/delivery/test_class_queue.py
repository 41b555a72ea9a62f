"""The queue of one class, without a disk: what is taken, what is backlog, what is written and when."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from limpet.delivery.outbox import Entry, EntryId, StoredEntry
from limpet.delivery.outbox.class_queue import ClassQueue
from limpet.delivery.outbox.database import RowHead
from limpet.delivery.outbox.rules import ResultRules
from limpet.delivery.outbox.shedding import Thinning


def entry(born: float, pipeline: str = "p") -> Entry:
    return Entry("result", pipeline, (b"{}",), born)


def queue(*born: float, last_on_disk: int = 0) -> ClassQueue:
    """Return a queue that goes on after what is on a disk, with entries born at these times."""
    made = ClassQueue("result", ResultRules())
    made.continue_from_disk(last_on_disk, [])
    for each in born:
        made.add(entry(each))
    return made


def numbers(entries: list[StoredEntry]) -> list[int]:
    return [stored.id.sequence for stored in entries]


def on_disk(*sequences: int) -> list[StoredEntry]:
    return [StoredEntry(EntryId("result", sequence), entry(0.0)) for sequence in sequences]


def test_entries_are_taken_once_oldest_first_until_a_new_connection() -> None:
    made = queue(1.0, 2.0, 3.0)
    assert numbers(list(made.take("fresh"))) == [1, 2, 3]
    assert list(made.take("fresh")) == []
    made.forget(2)
    made.requeue(0, born_before=0.0)
    assert numbers(list(made.take("fresh"))) == []
    assert numbers(list(made.take("backlog"))) == [1, 3]


def test_on_a_new_connection_old_entries_and_those_sent_are_backlog() -> None:
    made = queue(1.0, 2.0, 3.0, 4.0)
    made.requeue(0, born_before=2.5)
    assert numbers(list(made.take("backlog"))) == [1, 2]
    assert numbers(list(made.take("fresh"))) == [3, 4]
    made.forget(3)
    made.requeue(0, born_before=2.5)
    assert made.has_backlog_in_memory()
    assert numbers(list(made.take("backlog"))) == [1, 2, 4]


def test_what_is_read_from_the_disk_is_taken_unless_in_flight_or_acknowledged() -> None:
    made = queue(last_on_disk=5)
    assert numbers(list(made.take_read("backlog", on_disk(1, 2)))) == [1, 2]
    made.forget(1)
    made.continue_from_disk(5, [])
    assert numbers(list(made.take_read("backlog", on_disk(1, 2, 3)))) == [3]
    assert made.read_upto["backlog"] == 3
    assert (made.to_delete, made.in_flight, made.in_flight_on_disk()) == ({1}, {2, 3}, 2)


def test_numbers_go_on_after_those_of_the_disk() -> None:
    made = queue(1.0, last_on_disk=41)
    assert numbers(made.all_in_memory()) == [42]


def test_what_a_failed_commit_has_written_leaves_the_memory() -> None:
    made = queue(1.0, 2.0, 3.0)
    made.continue_from_disk(2, [1, 2])
    assert numbers(made.all_in_memory()) == [3]
    assert made.size == entry(3.0).size


def test_an_entry_is_written_when_it_is_old() -> None:
    made = queue(1.0, 2.0, 3.0)
    assert made.to_write(0.5, full=False, together=True) == []
    assert numbers(made.to_write(2.0, full=False, together=False)) == [1, 2]


def test_younger_entries_are_written_with_an_old_one_if_they_would_be_soon() -> None:
    assert numbers(queue(1.0, 2.0, 3.0).to_write(1.0, full=False, together=True)) == [1, 2, 3]


def test_a_full_memory_is_written_whatever_its_age() -> None:
    assert numbers(queue(1.0, 2.0).to_write(-math.inf, full=True, together=False)) == [1, 2]
    assert queue().to_write(math.inf, full=True, together=True) == []


def test_entries_in_flight_are_not_shed() -> None:
    made = queue(1.0, 2.0, 3.0)
    next(made.take("fresh"))
    assert [head.sequence for head in made.heads(0)] == [2, 3]
    assert [head.sequence for head in made.heads(2)] == [3]
    assert made.sizes() == {"p": made.size}


@given(st.lists(st.sampled_from("ab"), min_size=1, max_size=60), st.integers(2, 5), st.integers(1, 40))
def test_thinning_sheds_the_surplus_and_keeps_every_nth_of_each_pipeline(
    pipelines: list[str], nth: int, surplus: int
) -> None:
    heads = [RowHead(number, pipeline, 1, 1, 0.0) for number, pipeline in enumerate(pipelines, 1)]
    shed: set[int] = set()

    def left(after: int) -> list[RowHead]:
        return [head for head in heads if head.sequence > after and head.sequence not in shed]

    for head in Thinning(nth).victims(left, surplus):
        assert head.sequence not in shed
        shed.add(head.sequence)
    assert len(shed) == min(surplus, len(heads))
    once = sum(1 for name in "ab" for place in range(1, pipelines.count(name) + 1) if place % nth)
    if surplus <= once:
        for name in "ab":
            of_pipeline = [head.sequence for head in heads if head.pipeline == name]
            assert not shed & {*of_pipeline[nth - 1 :: nth]}

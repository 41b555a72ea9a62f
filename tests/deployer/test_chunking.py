"""Which chunks belong to a file, and when a device asks for those that it lacks."""

from __future__ import annotations

import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.contracts.chunks import MOST_RANGES, ChunkList
from limpet.deployer import ranges
from limpet.deployer.chunking import FIRST_PAUSE, LONGEST_PAUSE, PATIENCE, Asking, read_list
from limpet.errors import UnreadableError
from support.fetcher import digest

CONTENT = bytes(range(256)) * 20
SIZE = 1024


def hashes(content: bytes) -> list[str]:
    return [digest(content[at : at + SIZE]) for at in range(0, len(content), SIZE)]


LIST = msgspec.json.encode(ChunkList(length=len(CONTENT), chunk=SIZE, hashes=hashes(CONTENT)))


def test_chunks_belong_to_their_place_alone() -> None:
    chunks = read_list(LIST, digest(LIST), len(CONTENT))
    for index in range(chunks.count):
        begin, end = chunks.place(index)
        assert chunks.is_right(index, CONTENT[begin:end])
        assert not chunks.is_right(index, CONTENT[begin:end] + b"x")
        assert not chunks.is_right(index, bytes(end - begin))
    assert not chunks.is_right(-1, CONTENT[-SIZE:])
    assert not chunks.is_right(chunks.count, b"")


@pytest.mark.parametrize(
    "wrong",
    [
        {"length": len(CONTENT) + 1},
        {"hashes": hashes(CONTENT)[1:]},
        {"hashes": [*hashes(CONTENT), "a" * 64]},
        {"chunk": 512},
        {"chunk": 1 << 20},
        {"hashes": ["../../x"]},
        {"more": 1},
    ],
    ids=str,
)
def test_a_list_that_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    data = msgspec.json.encode({**msgspec.json.decode(LIST), **wrong})
    with pytest.raises(UnreadableError):
        read_list(data, digest(data), len(CONTENT))
    with pytest.raises(UnreadableError, match="not the one of the request"):
        read_list(data, digest(LIST), len(CONTENT))


@given(st.binary(max_size=200))
def test_a_list_of_any_bytes_is_refused(data: bytes) -> None:
    with pytest.raises(UnreadableError):
        read_list(data, digest(data), len(CONTENT))


@given(st.sets(st.integers(0, len(CONTENT) // SIZE - 1)))
def test_what_is_missing_and_what_is_there_make_the_file(there: set[int]) -> None:
    chunks = read_list(LIST, digest(LIST), len(CONTENT))
    found: ranges.Ranges = ()
    for index in there:
        found = ranges.added(found, *chunks.place(index))
    missing = chunks.missing(found)
    assert {index for first, last in missing for index in range(first, last + 1)} == set(
        range(chunks.count)
    ) - there
    assert missing == sorted(missing)


def test_more_ranges_than_a_message_takes_are_asked_for_later() -> None:
    content = bytes(1024 * 4 * MOST_RANGES)
    data = msgspec.json.encode(ChunkList(length=len(content), chunk=1024, hashes=["a" * 64] * (4 * MOST_RANGES)))
    chunks = read_list(data, digest(data), len(content))
    found = tuple((at * 2048, at * 2048 + 1024) for at in range(2 * MOST_RANGES))
    missing = chunks.missing(found)
    assert missing == [(2 * at + 1, 2 * at + 1) for at in range(MOST_RANGES)]


def test_questions_become_rarer_and_stop_while_chunks_come() -> None:
    asking = Asking(0.0)
    times = []
    while asking.due < PATIENCE:
        times.append(asking.due)
        asking.asked(asking.due)
    pauses = [after - before for before, after in itertools.pairwise(times)]
    assert pauses[0] == FIRST_PAUSE
    assert pauses == sorted(pauses)
    assert max(pauses) <= LONGEST_PAUSE
    assert len(times) < 12
    asking.came(1000.0)
    assert asking.due == 1000.0 + FIRST_PAUSE
    assert not asking.is_over(1000.0 + PATIENCE - 1)
    assert asking.is_over(1000.0 + PATIENCE)

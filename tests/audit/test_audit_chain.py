"""The chain of an audit journal: whatever a stranger changes in it is found."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.audit import file as journal_file
from limpet.audit.chain import Chain
from limpet.audit.entry import LARGEST_LINE, NOTHING, Entry, Head, What, Who, decode, encode, hash_of, head_of
from limpet.audit.journal import Journal
from limpet.audit.sentences import sentence
from limpet.errors import UnreadableError

TIME = datetime(2026, 11, 28, 12, 30, tzinfo=timezone.utc)


def journal_of(lines: int) -> bytes:
    with TemporaryDirectory() as folder:
        journal = Journal(Path(folder), "1-abcdef")
        for number in range(lines):
            journal.record("activated", What(model="motion", version=number), pipeline="press")
        journal.tend()
        return (Path(folder) / journal_file.NAME).read_bytes()


SOUND = journal_of(6)
LINES = SOUND.splitlines(keepends=True)
HEAD = Head(6, hash_of(LINES[-1][:-1]))


def problem_of(data: bytes, *heads: Head) -> str:
    with TemporaryDirectory() as folder:
        path = Path(folder) / journal_file.NAME
        path.write_bytes(data)
        found = journal_file.read(path, heads)
    return found.problem or ("torn" if found.torn else "")


def test_a_journal_that_was_not_touched_is_one_chain() -> None:
    assert problem_of(SOUND) == problem_of(SOUND, HEAD) == problem_of(SOUND, Head(3, hash_of(LINES[2][:-1]))) == ""


@given(st.integers(0, len(SOUND) - 1), st.integers(1, 255))
def test_any_other_byte_is_found_with_the_head_that_health_published(place: int, change: int) -> None:
    data = bytearray(SOUND)
    data[place] ^= change
    assert problem_of(bytes(data), HEAD)


@given(st.integers(0, len(SOUND) - len(LINES[-1]) - 1), st.integers(1, 255))
def test_any_other_byte_before_the_last_line_is_found_without_it(place: int, change: int) -> None:
    data = bytearray(SOUND)
    data[place] ^= change
    assert problem_of(bytes(data))


@given(st.integers(0, len(SOUND) - 1))
def test_a_cut_at_any_byte_is_found_with_the_head_that_health_published(end: int) -> None:
    assert problem_of(SOUND[:end], HEAD)


@pytest.mark.parametrize("kept", range(1, 6))
def test_only_that_head_shows_that_whole_lines_were_cut_from_the_end(kept: int) -> None:
    data = b"".join(LINES[:kept])
    assert problem_of(data) == ""
    assert (
        problem_of(data, HEAD)
        == f"it ends at number {kept}, and number 6 was published: the newest lines are missing"
    )


def test_only_that_head_shows_another_last_line() -> None:
    last = decode(LINES[-1][:-1])
    forged = encode(Entry(seq=6, prev=last.prev, time=TIME, event="activated")) + b"\n"
    data = b"".join([*LINES[:-1], forged])
    assert problem_of(data) == ""
    assert problem_of(data, HEAD) == "line 6 is not the one that was published"


@given(st.permutations(range(6)).filter(lambda order: list(order) != list(range(6))))
def test_lines_in_another_order_are_found(order: list[int]) -> None:
    assert problem_of(b"".join(LINES[number] for number in order))


@given(st.lists(st.integers(0, 5), unique=True, max_size=5).map(sorted))
def test_lines_that_are_missing_are_found(kept: list[int]) -> None:
    data = b"".join(LINES[number] for number in kept)
    assert problem_of(data, HEAD)
    if kept and kept != list(range(len(kept))):
        assert problem_of(data)


@given(st.integers(0, 6), st.sampled_from(LINES))
def test_a_line_that_was_inserted_is_found(place: int, line: bytes) -> None:
    assert problem_of(b"".join([*LINES[:place], line, *LINES[place:]]))


def test_lines_that_a_stranger_cut_from_the_beginning_are_found() -> None:
    assert problem_of(b"".join(LINES[2:])) == "it begins at number 3, and no line says that older ones were cut"


def test_a_journal_that_begins_again_in_its_middle_is_refused() -> None:
    begun = encode(Entry(seq=7, prev=HEAD.sha256, time=TIME, event="begun")) + b"\n"
    assert "begins again in its middle" in problem_of(SOUND + begun)
    assert problem_of(begun) == ""
    assert problem_of(begun, HEAD) == ""  # its first line has the head of what was before
    assert "line 6 is not the one" in problem_of(begun, Head(6, "1" * 64))


def test_the_last_line_about_a_cut_names_the_first_line() -> None:
    cut = What(first=4, cut=hash_of(LINES[2][:-1]))
    said = encode(Entry(seq=7, prev=HEAD.sha256, time=TIME, event="cut", what=cut)) + b"\n"
    assert problem_of(b"".join([*LINES[3:], said])) == ""
    assert problem_of(b"".join([*LINES[3:], said]), HEAD) == ""
    assert "number 4 is the first" in problem_of(b"".join([*LINES[4:], said]))
    assert "number 4 is the first" in problem_of(SOUND + said)


def test_a_head_whose_line_was_cut_is_neither_wrong_nor_confirmed() -> None:
    early = Head(1, hash_of(LINES[0][:-1]))
    cut = What(first=4, cut=hash_of(LINES[2][:-1]))
    chain = Chain([early, HEAD])
    for line in LINES[3:]:
        chain.take(line[:-1])
    chain.take(encode(Entry(seq=7, prev=HEAD.sha256, time=TIME, event="cut", what=cut)))
    assert (chain.problem(), chain.has(early), chain.has(HEAD)) == ("", False, True)


ANY = st.text(max_size=2000)


@given(ANY, ANY, ANY, ANY, st.lists(ANY, max_size=40))
def test_a_line_can_be_read_again_whatever_a_stranger_sent(
    topic: str, reason: str, command: str, model: str, keys: list[str]
) -> None:
    entry = Entry(
        seq=1,
        prev=NOTHING,
        time=TIME,
        event="command",
        who=Who(topic=topic, keys=tuple(keys), user=topic, reporter=model),
        what=What(reason=reason, command=command, model=model),
        pipeline=command,
    )
    line = encode(entry)
    assert len(line) < LARGEST_LINE
    assert b"\n" not in line
    assert sentence(decode(line)).isprintable()


@given(st.binary(max_size=300))
def test_bytes_that_are_no_line_fail_as_unreadable(line: bytes) -> None:
    try:
        Chain().take(line)
    except UnreadableError:
        return
    raise AssertionError("chance does not make a line")


@pytest.mark.parametrize(
    "text", ["", "7", "7:", ":" + "a" * 64, "x:" + "a" * 64, "7:" + "g" * 64, "-1:" + "a" * 64]
)
def test_what_is_no_head_is_refused(text: str) -> None:
    with pytest.raises(UnreadableError):
        head_of(text)


def test_a_head_is_read_as_it_is_written() -> None:
    assert head_of(str(HEAD)) == HEAD

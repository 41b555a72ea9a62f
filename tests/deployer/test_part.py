"""The index of a download: nothing is believed that may not be on the disk."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limpet.deployer.failures import GivenUpError
from limpet.deployer.part import LARGEST_INDEX, Part, open_files
from support.fetcher import digest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from limpet.deployer import ranges

CONTENT = bytes(range(200))
LENGTH = len(CONTENT)


@contextmanager
def opened(folder: Path, content: bytes = CONTENT) -> Iterator[Part]:
    files = open_files(folder, "bundle")
    try:
        yield Part(files, digest(content), len(content))
    finally:
        for descriptor in files:
            os.close(descriptor)


def test_what_was_saved_is_there_again_and_what_was_not_is_not(tmp_path: Path) -> None:
    with opened(tmp_path) as part:
        part.write(10, CONTENT[10:20])
        part.came_from("https://h/b", '"one"')
        part.save()
        part.write(50, CONTENT[50:60])
    with opened(tmp_path) as part:
        assert part.ranges == ((10, 20),)
        assert part.validator_at("https://h/b") == '"one"'
        assert not part.validator_at("https://h/c")
        part.write(0, CONTENT)
        part.save()
        assert part.complete
        assert part.is_right()


def test_the_index_of_another_request_is_not_believed(tmp_path: Path) -> None:
    with opened(tmp_path) as part:
        part.write(0, CONTENT)
        part.save()
    with opened(tmp_path, CONTENT[::-1]) as part:
        assert not part.ranges
    with opened(tmp_path, CONTENT[:-1]) as part:
        assert not part.ranges
    assert (tmp_path / "bundle.part").stat().st_size == LENGTH - 1


def test_a_file_that_became_shorter_is_believed_as_far_as_it_is_there(tmp_path: Path) -> None:
    with opened(tmp_path) as part:
        part.write(0, CONTENT[:50])
        part.write(60, CONTENT[60:90])
        part.save()
    os.truncate(tmp_path / "bundle.part", 70)
    with opened(tmp_path) as part:
        assert part.ranges == ((0, 50), (60, 70))


def test_a_source_is_blamed_across_restarts(tmp_path: Path) -> None:
    with opened(tmp_path) as part:
        part.write(0, bytes(LENGTH))
        assert not part.is_right()
        assert part.blame("one") == 1
    with opened(tmp_path) as part:
        assert (part.blamed("one"), part.blamed("two")) == (1, 0)
        assert part.blame("one") == 2
        assert not part.ranges


def test_bytes_outside_of_the_file_are_refused(tmp_path: Path) -> None:
    with opened(tmp_path) as part:
        for at, data in ((-1, b"x"), (LENGTH, b"x"), (0, CONTENT + b"x")):
            with pytest.raises(ValueError, match=str(LENGTH)):
                part.write(at, data)


def test_a_disk_that_takes_nothing_ends_the_download(tmp_path: Path) -> None:
    files = open_files(tmp_path, "full")
    os.dup2(os.open("/dev/full", os.O_RDWR), files.part)
    part = Part(files, digest(CONTENT), LENGTH)
    with pytest.raises(GivenUpError, match="No space left"):
        part.write(0, CONTENT)


@settings(max_examples=40, deadline=None)
@given(
    writes=st.lists(
        st.tuples(st.integers(0, LENGTH), st.integers(0, LENGTH), st.booleans()), min_size=1, max_size=12
    ),
    damage=st.lists(
        st.tuples(st.integers(0, 2 * LARGEST_INDEX - 1) | st.integers(0, 300), st.binary(min_size=1, max_size=40)),
        max_size=3,
    ),
    size=st.integers(0, 2 * LARGEST_INDEX) | st.just(2 * LARGEST_INDEX),
)
def test_no_damage_of_the_index_makes_a_byte_believed_that_is_not_there(
    writes: list[tuple[int, int, bool]], damage: list[tuple[int, bytes]], size: int
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        saved: list[ranges.Ranges] = [()]
        with opened(folder) as part:
            for begin, end, is_saved in writes:
                if begin < end:
                    part.write(begin, CONTENT[begin:end])
                if is_saved:
                    part.save()
                    saved.append(part.ranges)
        with (folder / "bundle.index").open("r+b") as file:
            for at, data in damage:
                file.seek(at)
                file.write(data)
            file.truncate(size)
        with opened(folder) as part:
            assert part.ranges in saved


@settings(max_examples=20, deadline=None)
@given(cut=st.integers(0, 400))
def test_a_write_of_the_index_that_is_cut_leaves_the_last_one(cut: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with opened(folder) as part:
            part.write(0, CONTENT[:10])
            part.save()
            before = part.ranges
        old = (folder / "bundle.index").read_bytes()
        with opened(folder) as part:
            part.write(20, CONTENT[20:30])
            part.save()
            after = part.ranges
        new = (folder / "bundle.index").read_bytes().ljust(len(old), b"\0")
        first = next(at for at in range(len(new)) if at >= len(old) or new[at] != old[at])
        torn = new[: first + cut] + old[first + cut :]
        (folder / "bundle.index").write_bytes(torn)
        with opened(folder) as part:
            assert part.ranges in (before, after)

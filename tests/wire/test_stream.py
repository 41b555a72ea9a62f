"""Records on a stream of bytes."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.errors import UnreadableError
from limpet.wire import stream


@given(st.lists(st.lists(st.integers(-(1 << 63), 1 << 63)), max_size=5))
def test_what_is_written_is_read(records: list[list[int]]) -> None:
    file = io.BytesIO()
    for record in records:
        stream.write(file, record)
    file.seek(0)
    assert [stream.read(file, list, 1000) for _ in records] == records
    with pytest.raises(EOFError):
        stream.read(file, list, 1000)


def test_a_record_that_is_too_large_is_refused_before_it_is_read() -> None:
    file = io.BytesIO(stream.framed(bytes(11)))
    with pytest.raises(UnreadableError, match="11 bytes, the limit is 10"):
        stream.read(file, list, 10)
    assert file.tell() == stream.LENGTH.size


@given(st.binary(max_size=100))
def test_damaged_bytes_are_one_of_two_errors_or_a_record(data: bytes) -> None:
    for content in (data, stream.framed(data)):
        try:
            found = stream.read(io.BytesIO(content), list[int], 1000)
        except (EOFError, UnreadableError):
            continue
        assert all(isinstance(one, int) for one in found)

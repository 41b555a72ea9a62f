"""Whatever a server answers, it is a body within the file, a redirect or a failure of that source."""

from __future__ import annotations

from datetime import datetime, timezone

from hypothesis import given
from hypothesis import strategies as st

from limpet.deployer import answers
from limpet.deployer.answers import LONGEST_VALIDATOR, LONGEST_WAIT, Asked, Body, Redirect
from limpet.deployer.failures import SourceFailedError

NOW = datetime(2026, 11, 28, tzinfo=timezone.utc)
NUMBER = st.integers(-3, 30) | st.just(10**14)
VALUE = st.one_of(
    st.text(max_size=30),
    NUMBER.map(str),
    st.builds(lambda begin, end, whole: f"bytes {begin}-{end}/{whole}", NUMBER, NUMBER, NUMBER | st.just("*")),
    st.sampled_from(['"one"', 'W/"one"', "identity", "gzip", "Sat, 28 Nov 2026 12:00:30 GMT", "x" * 500]),
)
NAMES = ["Content-Length", "Content-Range", "Content-Encoding", "ETag", "Last-Modified", "Location", "Retry-After"]
LENGTH = 20


def outcome(status: int, headers: dict[str, str], asked: Asked) -> Body | Redirect | SourceFailedError:
    try:
        return answers.read(status, headers, asked, NOW)
    except SourceFailedError as failure:
        return failure


@given(
    status=st.sampled_from([200, 206, 301, 302, 308, 416, 404, 503, 100, 999]) | st.integers(100, 599),
    headers=st.dictionaries(st.sampled_from(NAMES), VALUE),
    bounds=st.tuples(st.integers(0, LENGTH), st.integers(0, LENGTH)).filter(lambda pair: pair[0] < pair[1]),
    validator=st.sampled_from(["", '"one"']),
)
def test_any_answer_is_a_body_within_the_file_or_a_failure(
    status: int, headers: dict[str, str], bounds: tuple[int, int], validator: str
) -> None:
    asked = Asked(*bounds, LENGTH, validator)
    found = outcome(status, headers, asked)
    if isinstance(found, SourceFailedError):
        assert 0.0 <= found.wait <= LONGEST_WAIT
        assert len(found.reason) < 200
        return
    if isinstance(found, Redirect):
        assert found.location == headers["Location"]
        return
    assert isinstance(found, Body)
    assert status in {200, 206}
    assert len(found.validator) <= LONGEST_VALIDATOR
    if status == 200:
        assert (found.begin, found.end) == (0, LENGTH)
    else:
        assert found.begin == asked.begin
        assert found.begin < found.end <= asked.end
        assert not found.afresh


@given(st.integers(0, LENGTH - 1), st.integers(1, LENGTH), st.sampled_from(["", '"one"']))
def test_a_part_is_asked_for_only_if_it_is_one(begin: int, end: int, validator: str) -> None:
    headers = Asked(begin, end, LENGTH, validator).headers()
    whole = (begin, end) == (0, LENGTH)
    assert ("Range" in headers) == (not whole)
    assert ("If-Range" in headers) == (bool(validator) and not whole)

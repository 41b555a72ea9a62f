"""What devices say to a sender."""

from __future__ import annotations

from datetime import datetime, timezone

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.contracts.chunks import MissingChunks
from limpet.contracts.messages import ModelReported
from limpet.contracts.updates import UpdateReport
from limpet.distribution.fleet import LARGEST_MESSAGE, Fleet
from limpet.errors import UnreadableError

A, B = "a" * 64, "b" * 64
NOW = datetime(2026, 11, 28, tzinfo=timezone.utc)


def missing(*ranges: tuple[int, int], needs_list: bool = False) -> bytes:
    return msgspec.json.encode(
        MissingChunks(device="whatever", sha256=A, ranges=list(ranges), needs_list=needs_list)
    )


def reported(stage: str, sha256: str = A, reason: str = "") -> bytes:
    update = UpdateReport(stage=stage, since=NOW, sha256=sha256, reason=reason)  # type: ignore[arg-type]
    return msgspec.json.encode(
        ModelReported(
            device="whatever",
            pipeline="motion",
            time=NOW,
            model="motion",
            version=7,
            state="running",
            reason="",
            delegate="cpu",
            degraded=False,
            update=update,
        )
    )


def test_it_waits_for_the_devices_that_it_expects() -> None:
    fleet = Fleet(A, ["a", "b"], 0.0)
    assert not fleet.is_over()
    assert fleet.take_reported("a", reported("good")) == "a: good"
    assert fleet.unfinished() == ["b"]
    assert fleet.take_reported("b", reported("rolled_back", reason="worse")) == "b: rolled_back (worse)"
    assert fleet.is_over()
    assert fleet.failed() == ["b"]


def test_it_names_the_devices_that_have_not_reported() -> None:
    fleet = Fleet(A, ["a", "b", "c"], 0.0)
    fleet.take_reported("b", reported("downloading"))
    fleet.take_reported("c", reported("good", sha256=B))
    assert fleet.silent() == ["a", "c"]
    assert Fleet(A, [], 0.0).silent() == []


def test_without_expected_devices_it_waits_for_those_that_request_chunks() -> None:
    fleet = Fleet(A, [], 0.0)
    fleet.take_reported("stranger", reported("failed"))
    assert not fleet.is_over()
    fleet.take_missing("a", missing((0, 3)), 5.0)
    assert (fleet.asked, fleet.asked_at) == ({"a"}, 5.0)
    fleet.take_reported("a", reported("trial"))
    assert not fleet.is_over()
    fleet.take_reported("a", reported("good"))
    assert fleet.is_over()


def test_a_device_that_lacks_nothing_requests_nothing() -> None:
    fleet = Fleet(A, [], 0.0)
    fleet.take_missing("a", missing(), 5.0)
    assert (fleet.asked, fleet.asked_at) == (set(), 0.0)
    fleet.take_missing("a", missing(needs_list=True), 6.0)
    assert (fleet.asked, fleet.asked_at) == ({"a"}, 6.0)


def test_reports_about_another_file_and_the_same_again_are_no_news() -> None:
    fleet = Fleet(A, ["a"], 0.0)
    assert fleet.take_reported("a", reported("good", sha256=B)) == ""
    assert fleet.take_reported("a", reported("downloading")) == "a: downloading"
    assert fleet.take_reported("a", reported("downloading")) == ""
    assert not fleet.is_over()


def test_a_message_that_is_too_large_is_refused() -> None:
    fleet = Fleet(A, ["a"], 0.0)
    with pytest.raises(UnreadableError, match="262144 is the limit"):
        fleet.take_missing("a", b" " * (LARGEST_MESSAGE + 1), 0.0)


@given(st.binary(max_size=200) | st.from_regex(r"\A[\[{\"0-9:,}\]]{0,100}\Z").map(str.encode))
def test_no_message_of_a_stranger_does_more_than_fail(payload: bytes) -> None:
    fleet = Fleet(A, ["a"], 0.0)
    for take in (lambda: fleet.take_missing("a", payload, 1.0), lambda: fleet.take_reported("a", payload)):
        with pytest.raises(UnreadableError):
            take()

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from limpet.backoff import Backoff


def test_pauses_double_up_to_the_longest_and_are_shortened_by_the_jitter() -> None:
    backoff = Backoff(1.0, 60.0)
    for failures, whole in enumerate([1, 2, 4, 8, 16, 32, 60, 60], start=1):
        pauses = [backoff.pause(failures) for _ in range(50)]
        assert all(whole / 2 <= pause <= whole for pause in pauses)
        assert len(set(pauses)) == 50


@given(st.floats(0.001, 100), st.floats(0.001, 1000), st.floats(0, 0.9), st.integers(1, 10**9))
def test_no_pause_is_longer_than_the_longest(first: float, longest: float, jitter: float, failures: int) -> None:
    pause = Backoff(first, longest, jitter).pause(failures)
    assert min(first, longest) * (1 - jitter) * 0.999 <= pause <= longest

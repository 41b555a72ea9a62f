"""When a daemon ends by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from limpet.supervision.ending import PATIENCE, Ending

if TYPE_CHECKING:
    from limpet.contracts.messages import State


@pytest.mark.parametrize(
    ("ends", "states", "over"),
    [
        (["finished"], ["finished", "finished"], True),
        (["finished"], ["finished", "running"], False),
        (["finished"], ["finished", "failed"], False),
        (["finished", "failed"], ["finished", "failed"], True),
        (["finished", "failed"], ["finished", "stopped"], False),
        (["finished", "failed"], [], False),
        ([], ["finished"], False),
    ],
)
def test_it_ends_if_every_pipeline_is_in_a_state_that_ends_it(
    ends: list[State], states: list[State], *, over: bool
) -> None:
    assert Ending(ends).is_over(states) is over


def test_it_waits_for_a_connection_and_for_what_is_not_delivered() -> None:
    ending = Ending(["finished"])
    assert not ending.begun
    assert not ending.is_delivered(0, connected=False, now=1.0)
    assert ending.begun
    assert not ending.is_delivered(5, connected=True, now=2.0)
    assert ending.is_delivered(0, connected=True, now=3.0)


def test_it_waits_no_longer_after_some_seconds_without_progress() -> None:
    ending = Ending(["finished"])
    assert not ending.is_delivered(9, connected=True, now=0.0)
    assert not ending.is_delivered(8, connected=True, now=PATIENCE - 1)
    assert not ending.is_delivered(8, connected=True, now=2 * PATIENCE - 2)
    assert ending.is_delivered(8, connected=True, now=2 * PATIENCE)

"""Adaptations: numbered, within limits, undone one after the other, and only for the model they were made for."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.contracts.adaptation import (
    AdaptOptions,
    Correction,
    CoverageLimits,
    OffsetLimits,
    PriorLimits,
    ThresholdLimits,
)
from limpet.learning.adaptations import (
    MOST,
    NONE,
    Adaptation,
    Adaptations,
    add,
    correction,
    health,
    released,
    undo,
)

ALLOWED = AdaptOptions(
    threshold=ThresholdLimits(least=0.4, most=0.9),
    priors=PriorLimits(most=2),
    offsets=OffsetLimits(),
    coverage=CoverageLimits(least=0.8, most=0.95),
)


def made(kind: Any, **fields: Any) -> Adaptation:
    return Adaptation(number=0, kind=kind, time=1e9, model="motion", version=7, reason="a test", **fields)


def threshold(value: float) -> Adaptation:
    return made("threshold", threshold=value)


def after(*steps: Adaptation) -> Adaptations:
    known = NONE
    for one in steps:
        known = add(known, one)
    return known


def forced(known: Adaptations, version: int = 7, allowed: AdaptOptions | None = ALLOWED) -> Correction | None:
    return correction(known, "motion", version, allowed)


def test_the_newest_of_each_kind_is_in_force() -> None:
    known = after(
        threshold(0.5), made("priors", weights={"walk": 2.0}), threshold(0.6), made("offsets", offsets=[1.0])
    )
    assert forced(known) == Correction(number=4, threshold=0.6, weights={"walk": 2.0}, offsets=[1.0])
    aimed = add(known, made("coverage", aim=0.93))
    assert forced(aimed) == Correction(number=5, threshold=0.6, weights={"walk": 2.0}, offsets=[1.0], aim=0.93)
    report = health(known, "motion", 7)
    assert report is not None
    assert (report.in_force, report.last) == ({"threshold": 3, "priors": 2, "offsets": 4}, 4)


def test_another_model_runs_without_them() -> None:
    assert forced(after(threshold(0.5)), version=8) is None


def test_undoing_goes_back_one_by_one_or_to_before_a_number() -> None:
    known = after(threshold(0.5), threshold(0.6), made("priors", weights={"walk": 2.0}))
    known, undone = undo(known, None, 2e9, "by anna")
    assert [one.number for one in undone] == [3]
    assert forced(known) == Correction(number=2, threshold=0.6)
    known, undone = undo(known, 1, 2e9, "by anna")
    assert [one.number for one in undone] == [1, 2]
    assert forced(known) is None
    assert known.held == ("priors", "threshold")
    assert released(known, ["priors"]).held == ("threshold",)
    assert released(known).held == ()
    with pytest.raises(ValueError, match="no adaptation is in force"):
        undo(known, None, 2e9, "")
    assert add(known, threshold(0.7)).last == 4


def test_what_is_not_in_force_cannot_be_undone() -> None:
    known, _ = undo(after(threshold(0.5), threshold(0.6)), None, 2e9, "")
    with pytest.raises(ValueError, match="adaptation 2 is not in force; there are 1"):
        undo(known, 2, 2e9, "")


@pytest.mark.parametrize(
    "one",
    [
        threshold(0.95),
        threshold(0.1),
        made("priors", weights={"walk": 3.0}),
        made("priors", weights={"walk": 0.2}),
        made("coverage", aim=0.97),
    ],
)
def test_what_is_outside_of_the_limits_is_left_out(one: Adaptation) -> None:
    assert forced(after(one)) is None


def test_what_the_configuration_does_not_allow_is_left_out() -> None:
    known = after(threshold(0.5), made("priors", weights={"walk": 2.0}), made("offsets", offsets=[1.0]))
    assert forced(known, allowed=None) is None
    assert forced(known, allowed=AdaptOptions()) is None
    only = AdaptOptions(offsets=OffsetLimits())
    assert forced(known, allowed=only) == Correction(number=3, offsets=[1.0])


def test_old_ones_are_forgotten_but_not_while_they_are_in_force() -> None:
    known = after(made("priors", weights={"walk": 2.0}), *(threshold(0.5) for _ in range(MOST + 20)))
    assert len(known.made) == MOST + 1
    assert (known.made[0].kind, known.last) == ("priors", MOST + 21)
    found = forced(known)
    assert found is not None
    assert found.weights == {"walk": 2.0}


KINDS = st.sampled_from(["threshold", "priors", "offsets", "prototype", "undo", "undo first"])


@given(st.lists(KINDS, max_size=30))
def test_numbers_rise_and_no_step_is_in_force_twice(steps: list[str]) -> None:
    known = NONE
    for step in steps:
        if step.startswith("undo"):
            left = [one.number for one in known.made if not one.undone]
            if left:
                known, _ = undo(known, left[0] if step == "undo first" else None, 2e9, "")
            continue
        known = add(known, made(step, threshold=0.5, weights={"a": 1.5}, offsets=[0.5]))
    numbers = [one.number for one in known.made]
    assert numbers == sorted(set(numbers))
    assert known.last == sum(not step.startswith("undo") for step in steps)
    again = msgspec.json.decode(msgspec.json.encode(known), type=Adaptations)
    assert again == known
    assert forced(again) == forced(known)

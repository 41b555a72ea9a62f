"""Accuracy: what counts, what counts no more, and when a slice or a whole model has fallen behind."""

from __future__ import annotations

import random
from typing import TypeAlias

from hypothesis import given
from hypothesis import strategies as st

from limpet.learning.accuracy import (
    MOST_CLASSES,
    MOST_RECENT,
    Accuracy,
    Counted,
    Judged,
    health,
    take,
)
from limpet.learning.advice import RetrainingOptions, reasons
from limpet.learning.expected import Expected

Verdict: TypeAlias = bool | None
"""Right, wrong, or undecided."""
NEW = Accuracy(model="motion", version=7)
EXPECTED = Expected("press", "motion", 7, accuracy=0.95, slices={"shift=night": 0.9})


def judged(number: int, right: Verdict, *slices: str, truth: str = "walk", chosen: bool = False) -> Judged:
    return Judged(f"d/press/b/{number}", right, truth, "walk", 0.9, slices, chosen)


def taken(*answers: Judged) -> Accuracy:
    known = NEW
    for one in answers:
        known = take(known, one)
    return known


def test_answers_count_by_class_and_slice_with_an_interval() -> None:
    known = taken(judged(1, True, "site=north"), judged(2, False, "site=north"), judged(3, True, truth="run"))
    report = health(known, EXPECTED)
    assert (report.all.answers, report.all.right, report.expected) == (3, 2, 0.95)
    assert (report.classes["walk"].answers, report.classes["walk"].right, report.classes["run"].right) == (2, 1, 1)
    assert (report.slices["site=north"].answers, report.slices["site=north"].right) == (2, 1)
    assert report.all.low < 2 / 3 < report.all.high


def test_the_last_answer_for_a_result_counts() -> None:
    known = taken(judged(1, True, "site=north"), judged(1, False, "site=south", truth="run"))
    assert (known.all, known.classes, known.slices) == (
        Counted(1, 0),
        {"run": Counted(1, 0)},
        {"site=south": Counted(1, 0)},
    )


def test_windows_that_were_kept_for_a_reason_and_abstentions_do_not_change_the_accuracy() -> None:
    known = taken(judged(1, True), judged(2, False, chosen=True), judged(3, None))
    report = health(known, None)
    assert (report.all.answers, report.all.right, report.abstained) == (1, 1, 1)
    assert report.chosen is not None
    assert (report.chosen.answers, report.chosen.right, known.labels) == (1, 0, 3)


@given(st.lists(st.tuples(st.integers(0, 20), st.sampled_from([True, False, None]), st.booleans()), max_size=60))
def test_counts_are_those_of_the_last_answer_of_each_result(answers: list[tuple[int, bool | None, bool]]) -> None:
    known = taken(*(judged(n, right, "a=b", chosen=chosen) for n, right, chosen in answers))
    last = {n: (right, chosen) for n, right, chosen in answers}
    counted = [right for right, chosen in last.values() if right is not None and not chosen]
    assert known.all == Counted(len(counted), sum(counted))
    assert known.abstained == sum(right is None for right, _ in last.values())
    assert known.slices.get("a=b", Counted()) == known.all
    assert known.labels == len(last)


def test_what_is_remembered_is_bounded() -> None:
    known = taken(*(judged(n, True, f"unit={n}", truth=f"class {n}") for n in range(MOST_RECENT + 10)))
    assert known.all.answers == MOST_RECENT + 10
    assert (len(known.recent), len(known.classes), len(known.slices)) == (MOST_RECENT, MOST_CLASSES, 64)


def kinds(
    known: Accuracy, drifts: dict[str, float] | None = None, expected: Expected | None = EXPECTED
) -> list[str]:
    return [one.kind for one in reasons(known, expected, drifts or {}, RetrainingOptions(labels=400))]


def test_a_model_that_is_as_good_as_its_reference_needs_no_training() -> None:
    rare = random.Random(1)
    known = taken(*(judged(n, rare.random() < 0.95, "shift=night") for n in range(399)))
    assert kinds(known) == []
    assert kinds(known, {"univariate": 23 * 3600.0}) == []


def test_each_reason_for_a_training_is_found() -> None:
    rare = random.Random(2)
    known = taken(*(judged(n, rare.random() < 0.6, "shift=night") for n in range(60)))
    assert kinds(known) == ["accuracy", "slice shift=night"]
    assert kinds(known, {"univariate": 25 * 3600.0}) == ["drift", "accuracy", "slice shift=night"]
    many = taken(*(judged(n, True, chosen=True) for n in range(400)))
    assert kinds(many) == ["labels"]


def test_a_slice_that_the_reference_lacks_is_compared_with_the_other_windows() -> None:
    rare = random.Random(3)
    good = [judged(n, rare.random() < 0.97, "site=north") for n in range(200)]
    bad = [judged(n + 200, rare.random() < 0.6, "site=south") for n in range(60)]
    assert kinds(taken(*good, *bad), expected=None) == ["slice site=south"]
    assert kinds(taken(*bad), expected=None) == []

"""Figures of a new model beside the old one: what pairs, results, errors and feedback make of them."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from limpet.contracts.messages import ResultMessage, Right
from limpet.contracts.updates import ModelName
from limpet.updates.answers import Answer, Pair, Pairs, is_right
from limpet.updates.comparison import MOST_REMEMBERED, PAUSE, Comparisons

OLD, NEW = ModelName("motion", 7), ModelName("motion", 8)


def pair(sample: int, ours: str | float | None, theirs: str | float | None, agreement: float | None = 1.0) -> Pair:
    return Pair(sample, sample * 10, Answer(ours, 0.25), Answer(theirs, 0.95), agreement, 100.0, 300.0)


def pairs(
    *items: Pair, errors: int = 0, skipped: int = 0, ours: ModelName = OLD, theirs: ModelName = NEW
) -> Pairs:
    return Pairs("press", ours.model, ours.version, theirs.model, theirs.version, list(items), errors, skipped)


def result(sequence: int, sample: int, model: ModelName = OLD) -> ResultMessage:
    return ResultMessage(
        id=f"d/press/b/{sequence}",
        device="d",
        pipeline="press",
        boot="b",
        sequence=sequence,
        time=datetime(2026, 1, 1, tzinfo=timezone.utc),
        monotonic_ns=sample * 10,
        sample=sample,
        model=model.model,
        version=model.version,
        delegate="cpu",
        degraded=False,
        latency_us=1.0,
        output={},
    )


@pytest.fixture
def shadow() -> Comparisons:
    comparisons = Comparisons("d", "b")
    comparisons.begin("press", NEW, trial=False)
    return comparisons


def test_a_shadow_counts_what_both_models_made_of_the_same_windows(shadow: Comparisons) -> None:
    shadow.take_pairs(pairs(pair(0, "walk", "walk"), pair(1, "walk", "run", 0.0), errors=2, skipped=3))
    shadow.take_pairs(pairs(pair(2, "walk", "run", None)))
    figures = shadow.figures("press")
    assert figures is not None
    assert (figures.windows, figures.results, figures.errors, figures.skipped) == (2, 3, 2, 3)
    assert figures.agreement == 0.5
    assert figures.scores_old == [0, 0, 3, *[0] * 7]
    assert figures.scores_new == [*[0] * 9, 3]
    assert figures.latency_old_us == pytest.approx(100, rel=1 / 16)
    assert figures.latency_new_us == pytest.approx(300, rel=1 / 16)


def test_on_trial_the_new_model_is_the_pipelines_own() -> None:
    comparisons = Comparisons("d", "b")
    comparisons.begin("press", NEW, trial=True)
    comparisons.take_results([result(1, 0, OLD), result(2, 1, NEW), result(3, 2, NEW)])
    comparisons.take_errors("press", 4)
    comparisons.take_pairs(pairs(pair(1, "run", "walk", 0.0), errors=9, ours=NEW, theirs=OLD))
    figures = comparisons.figures("press")
    assert figures is not None
    assert (figures.windows, figures.results, figures.errors, figures.agreement) == (1, 2, 4, 0.0)
    assert (figures.scores_new[2], figures.scores_old[9]) == (1, 1)
    assert comparisons.feedback("d/press/b/2", "run", None).right == Right(old=False, new=True)


def test_pairs_of_other_models_or_pipelines_do_not_count(shadow: Comparisons) -> None:
    shadow.take_pairs(pairs(pair(0, "walk", "walk"), theirs=ModelName("motion", 9)))
    shadow.end("press")
    shadow.begin("press", NEW, trial=False)
    figures = shadow.figures("press")
    assert figures is not None
    assert (figures.results, figures.skipped) == (0, 0)
    shadow.end("press")
    shadow.take_pairs(pairs(pair(0, "walk", "walk")))
    assert (shadow.figures("press"), shadow.at_work) == (None, False)


def test_a_worker_that_begins_again_changes_no_figure_and_confuses_no_windows(shadow: Comparisons) -> None:
    shadow.take_results([result(1, 0)])
    shadow.take_pairs(pairs(pair(0, "walk", "walk")))
    restarted = Pair(0, 999, Answer("run"), Answer("run"), 1.0, 100.0, 300.0)
    shadow.take_pairs(pairs(restarted))
    shadow.begin("press", NEW, trial=False)
    figures = shadow.figures("press")
    assert figures is not None
    assert figures.results == 2
    assert shadow.feedback("d/press/b/1", "walk", None).right == Right(old=True, new=True)


def test_news_come_at_a_bounded_rate_and_only_if_something_changed(shadow: Comparisons) -> None:
    assert (shadow.news(10.0), shadow.next_due()) == ([], None)
    shadow.take_pairs(pairs(pair(0, "walk", "walk")))
    ((name, first),) = shadow.news(10.0)
    assert (name, first.results) == ("press", 1)
    shadow.take_pairs(pairs(pair(1, "walk", "walk")))
    assert (shadow.news(10.0 + PAUSE / 2), shadow.next_due()) == ([], 10.0 + PAUSE)
    assert [figures.results for _, figures in shadow.news(10.0 + PAUSE)] == [2]
    assert shadow.news(20.0) == []


def test_feedback_counts_once_for_each_result_and_the_last_one_counts(shadow: Comparisons) -> None:
    shadow.take_results([result(5, 0), result(6, 1)])
    shadow.take_pairs(pairs(pair(0, "walk", "run"), pair(1, None, 21.5)))
    assert shadow.feedback("d/press/b/5", "walk", None).right == Right(old=True, new=False)
    assert shadow.feedback("d/press/b/5", "run", None).right == Right(old=False, new=True)
    assert shadow.feedback("d/press/b/6", 22.0, 0.5).right == Right(old=False, new=True)
    figures = shadow.figures("press")
    assert figures is not None
    assert (figures.feedback, figures.right_old, figures.right_new) == (2, 0, 2)


@pytest.mark.parametrize(
    ("result_id", "reason"),
    [
        ("d/press/b/2", "did not both run this window"),
        ("d/press/b/99", "older than the comparison"),
        ("d/press/b/" + "9" * 200, "older than the comparison"),
        ("d/press/earlier/1", "before the daemon's last start"),
        ("d/door/b/1", "'door' compares no new model now"),
        ("other/press/b/1", "no result of this device"),
        ("d/press/b/-1", "no result of this device"),
        ("d/press/b/1/2", "no result of this device"),
        ("", "no result of this device"),
    ],
)
def test_feedback_that_cannot_count_is_answered_with_the_reason(
    shadow: Comparisons, result_id: str, reason: str
) -> None:
    shadow.take_results([result(1, 0), result(2, 1)])
    shadow.take_pairs(pairs(pair(0, "walk", "run")))
    taken = shadow.feedback(result_id, "walk", None)
    assert (taken.known, taken.right) == (False, None)
    assert reason in taken.reason


def test_feedback_of_another_kind_than_the_answers_is_an_error(shadow: Comparisons) -> None:
    shadow.take_results([result(1, 0)])
    shadow.take_pairs(pairs(pair(0, "walk", "run")))
    with pytest.raises(ValueError, match="a number and a label cannot be compared"):
        shadow.feedback("d/press/b/1", 1.0, 0.5)
    with pytest.raises(ValueError, match="tolerance: missing"):
        shadow.feedback("d/press/b/1", 1.0, None)
    figures = shadow.figures("press")
    assert figures is not None
    assert figures.feedback == 0


def test_what_is_remembered_is_bounded(shadow: Comparisons) -> None:
    many = range(1, MOST_REMEMBERED + 11)
    shadow.take_results([result(n, n) for n in many])
    shadow.take_pairs(pairs(*(pair(n, "walk", "walk") for n in many)))
    assert "older than" in shadow.feedback("d/press/b/10", "walk", None).reason
    assert shadow.feedback("d/press/b/11", "walk", None).known


@pytest.mark.parametrize(
    ("value", "truth", "right"),
    [
        ("walk", "walk", True),
        ("walk", "run", False),
        ("walk", None, False),
        (None, None, True),
        (None, "walk", False),
        (["cat", "dog"], ["dog", "cat"], True),
        (["cat", "cat"], ["cat"], False),
        (["cat"], "cat", True),
        ([], None, True),
        (20.0, 20.4, True),
        (20.0, 20.6, False),
        (20.0, None, False),
        (None, 20.0, False),
        (20.0, "warm", None),
        ("warm", 20.0, None),
        ("x" * 64, "x" * 70, True),
        ("a b", "a\tb", True),
    ],
)
def test_an_answer_is_right_or_not(
    value: str | float | list[str] | None, truth: str | float | list[str] | None, *, right: bool | None
) -> None:
    assert is_right(Answer(value), truth, 0.5) is right

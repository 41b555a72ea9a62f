"""What figures of a shadow or a trial mean, also where they are few."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.contracts.updates import Comparison, UpdatePolicy
from limpet.updates.policy import MOST_FEEDBACK, judge_shadow, judge_trial

SHADOW = UpdatePolicy(shadow_windows=100, most_errors=0.05)


def figures(seen: int = 100, **fields: object) -> Comparison:
    return Comparison(**{"windows": seen, "results": seen, "agreement": 1.0, **fields})  # type: ignore[arg-type]


def test_a_shadow_lasts_for_its_windows() -> None:
    assert judge_shadow(figures(99), SHADOW).kind == "wait"
    assert judge_shadow(figures(100), SHADOW).kind == "promote"


def test_windows_without_a_result_count_as_seen() -> None:
    verdict = judge_shadow(Comparison(windows=0, results=0, errors=100), SHADOW)
    assert verdict == ("reject", "100 of 100 windows have no result. 5.0% may have none.")


@pytest.mark.parametrize(("errors", "kind"), [(5, "promote"), (6, "reject")])
def test_at_the_end_the_share_of_errors_decides(errors: int, kind: str) -> None:
    assert judge_shadow(figures(100, results=100 - errors, errors=errors), SHADOW).kind == kind


def test_before_the_end_errors_decide_only_if_chance_does_not_explain_them() -> None:
    assert judge_shadow(figures(1, results=0, errors=1), SHADOW).kind == "wait"
    assert judge_shadow(figures(20, results=17, errors=3), SHADOW).kind == "wait"
    assert judge_shadow(figures(20, results=10, errors=10), SHADOW).kind == "reject"
    none_at_all = UpdatePolicy(shadow_windows=100, most_errors=0.0)
    assert judge_shadow(figures(2, results=1, errors=1), none_at_all).kind == "reject"


def test_at_the_end_agreement_decides() -> None:
    policy = UpdatePolicy(shadow_windows=100, least_agreement=0.9)
    assert judge_shadow(figures(agreement=0.9), policy).kind == "promote"
    verdict = judge_shadow(figures(agreement=0.89), policy)
    assert verdict == (
        "reject",
        "It agrees with the old model by 89.0% over 100 windows. At least 90.0% is needed.",
    )
    assert judge_shadow(figures(agreement=0.89), SHADOW).kind == "promote"


def test_before_the_end_agreement_decides_only_if_it_is_far_too_low() -> None:
    policy = UpdatePolicy(shadow_windows=100, least_agreement=0.9)
    assert judge_shadow(figures(3, agreement=0.3), policy).kind == "wait"
    assert judge_shadow(figures(50, agreement=0.8), policy).kind == "wait"
    assert judge_shadow(figures(50, agreement=0.3), policy).kind == "reject"


def test_outputs_that_cannot_be_compared_do_not_agree() -> None:
    policy = UpdatePolicy(shadow_windows=100, least_agreement=0.9)
    assert "cannot be compared" in judge_shadow(Comparison(results=100), policy).reason
    assert judge_shadow(Comparison(results=100), SHADOW).kind == "promote"


def test_a_slower_model_is_refused_at_the_end() -> None:
    policy = UpdatePolicy(shadow_windows=100, most_slowdown=1.5)
    assert judge_shadow(figures(latency_new_us=1500, latency_old_us=1000), policy).kind == "promote"
    slow = figures(latency_new_us=1501, latency_old_us=1000)
    assert judge_shadow(slow, policy).kind == "reject"
    assert judge_shadow(slow, SHADOW).kind == "promote"
    assert judge_shadow(figures(99, latency_new_us=1501, latency_old_us=1000), policy).kind == "wait"


FEEDBACK = UpdatePolicy(shadow_windows=100, least_feedback=20)


def told(answers: int, new: int, old: int) -> Comparison:
    return figures(feedback=answers, right_new=new, right_old=old)


def test_feedback_is_waited_for() -> None:
    assert judge_shadow(told(19, 19, 0), FEEDBACK) == ("wait", "The model waits for more feedback.")
    assert judge_shadow(told(20, 20, 0), FEEDBACK).kind == "promote"
    assert judge_shadow(told(20, 10, 10), FEEDBACK).kind == "promote"


def test_a_model_that_is_clearly_worse_is_refused_at_once_also_before_enough_feedback() -> None:
    verdict = judge_shadow(figures(10, feedback=10, right_new=0, right_old=10), FEEDBACK)
    assert verdict.kind == "reject"
    assert verdict.reason == (
        "It is right in 0 of 10 answers with feedback, and the old model in 10. It may be worse by 0.0%."
    )


def test_one_wrong_answer_is_no_proof() -> None:
    assert judge_shadow(told(1, 0, 1), FEEDBACK).kind == "wait"
    assert judge_shadow(told(20, 18, 19), FEEDBACK).kind == "wait"


def test_a_small_difference_decides_once_there_is_much_feedback() -> None:
    many = 20 * MOST_FEEDBACK
    assert judge_shadow(told(many - 1, 100, 101), FEEDBACK).kind == "wait"
    assert judge_shadow(told(many, 100, 101), FEEDBACK).kind == "reject"
    assert judge_shadow(told(many, 101, 100), FEEDBACK).kind == "promote"


def test_a_model_may_be_worse_by_what_the_policy_allows() -> None:
    policy = UpdatePolicy(shadow_windows=100, least_feedback=20, most_worse=0.1)
    assert judge_shadow(told(100, 80, 90), policy).kind == "promote"
    assert judge_shadow(told(100, 79, 90), policy).kind == "wait"
    assert judge_shadow(told(100, 40, 90), policy).kind == "reject"


def test_an_equal_model_is_seldom_refused_and_a_worse_one_is_never_promoted() -> None:
    chance = random.Random(7)

    def outcome(new: float, old: float) -> str:
        right = [0, 0]
        for answers in range(1, 20 * MOST_FEEDBACK + 1):
            right[0] += chance.random() < new
            right[1] += chance.random() < old
            verdict = judge_shadow(told(answers, *right), FEEDBACK)
            if verdict.kind != "wait":
                return verdict.kind
        return "wait"

    equal = [outcome(0.8, 0.8) for _ in range(200)]
    worse = [outcome(0.3, 0.95) for _ in range(200)]
    assert equal.count("reject") < 40
    assert "wait" not in equal
    assert worse.count("reject") == 200


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6))
def test_any_figures_have_a_verdict(windows: int, errors: int, feedback: int, right: int) -> None:
    odd = Comparison(
        windows=windows, errors=errors, feedback=feedback, right_new=0, right_old=right, agreement=0.0
    )
    for policy in (SHADOW, FEEDBACK, UpdatePolicy(least_agreement=1.0, most_errors=1.0, most_slowdown=1.0)):
        assert judge_shadow(odd, policy).kind in {"wait", "promote", "reject"}
        assert judge_trial(odd, policy, windows, 1.0, beside=True).kind in {"wait", "promote", "reject"}


def test_a_trial_needs_a_result_its_windows_and_its_seconds() -> None:
    policy = UpdatePolicy(trial_windows=10, trial_seconds=60.0)
    assert judge_trial(None, policy, 9, 60.0, beside=False).kind == "wait"
    assert judge_trial(None, policy, 10, 59.0, beside=False).kind == "wait"
    assert judge_trial(None, policy, 10, 60.0, beside=False).kind == "promote"


def test_errors_end_a_trial() -> None:
    policy = UpdatePolicy(trial_windows=1000)
    assert judge_trial(Comparison(results=10, errors=30), policy, 10, 1.0, beside=False).kind == "reject"
    assert judge_trial(Comparison(results=10, errors=1), policy, 10, 1.0, beside=False).kind == "wait"


def test_limits_that_need_the_old_model_count_in_a_trial_if_it_runs_beside() -> None:
    policy = UpdatePolicy(trial_windows=10, least_feedback=5, shadow_every=2)
    assert judge_trial(None, policy, 10, 1.0, beside=False).kind == "promote"
    assert judge_trial(None, policy, 10, 1.0, beside=True).kind == "wait"
    few, enough = figures(4, feedback=5, right_new=5), figures(5, feedback=5, right_new=5)
    assert judge_trial(few, policy, 10, 1.0, beside=True).kind == "wait"
    assert judge_trial(enough, policy, 10, 1.0, beside=True).kind == "promote"

"""Which windows are kept, and which never."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from limpet.captures.judging import ENOUGH, Judge, unsure
from limpet.contracts.captures import KeepOptions
from limpet.contracts.outputs import Classification, Regression, ScoredLabel
from limpet.updates.answers import Answer

if TYPE_CHECKING:
    from limpet.captures.judging import Verdict

QUIET: dict[str, Any] = {"audit": 0, "rare": 0.0}


def classified(label: str = "idle", score: float = 0.9, second: float = 0.1, **more: Any) -> Classification:
    top = [ScoredLabel(label, score), ScoredLabel("other", second)]
    return Classification(label=label, score=score, top=top, abstained=False, **more)


def judge(**options: Any) -> Judge:
    return Judge(KeepOptions(**(QUIET | options)), chance=lambda: 0.5)


def see(one: Judge, label: str = "idle", *, event: bool = False, score: float = 0.9) -> Verdict:
    output = classified(label, score)
    return one.see(output, Answer(label, score), event=event)


@pytest.mark.parametrize(
    ("output", "why"),
    [
        (classified(), ""),
        (classified(score=0.5, second=0.45), "margin 0.05"),
        (classified(set=["idle", "walk"]), "a set of 2 labels"),
        (classified(set=[]), "a set of 0 labels"),
        (classified(set=["idle"]), ""),
        (Classification(label=None, score=None, top=[], abstained=True), "the model abstained"),
        (Classification("a", None, [ScoredLabel("a", None), ScoredLabel("b", None)], abstained=False), ""),
        (Regression({"x": 1.0}, {}, in_range=True, out_of_range=[], abstained=True), "the model abstained"),
        ({"abstained": True}, ""),
    ],
)
def test_a_window_is_unsure_by_margin_set_or_abstention(output: Any, why: str) -> None:
    assert unsure(output, Answer("idle", 0.9), KeepOptions()) == why


def test_the_margin_is_that_of_the_posterior_if_there_is_one_else_that_of_all_classes() -> None:
    alone = Classification("idle", 0.5, [ScoredLabel("idle", 0.5)], abstained=False)
    assert unsure(alone, Answer("idle", 0.5), KeepOptions()) == ""
    assert unsure(alone, Answer("idle", 0.5), KeepOptions(), [0.05, 0.5, 0.45]) == "margin 0.05"
    assert unsure(alone, Answer("idle", 0.5), KeepOptions(margin=0.0), [0.05, 0.5, 0.45]) == ""
    filtered = msgspec.structs.replace(alone, posterior={"idle": 0.9, "walk": 0.1})
    assert unsure(filtered, Answer("idle", 0.9), KeepOptions(), [0.05, 0.5, 0.45]) == ""


def test_a_low_score_is_unsure_only_if_the_options_say_so() -> None:
    assert not unsure({}, Answer("idle", 0.3), KeepOptions())
    assert unsure({}, Answer("idle", 0.3), KeepOptions(score=0.6)) == "score 0.3"
    assert not unsure({}, Answer("idle"), KeepOptions(score=0.6))


def test_a_command_keeps_so_many_windows() -> None:
    one = judge()
    one.command(2)
    assert [see(one).reasons for _ in range(3)] == [["command"], ["command"], []]
    assert not one.commanded


def test_an_alarm_keeps_the_windows_that_follow() -> None:
    one = judge(drifted=2)
    one.drift("univariate")
    assert [see(one).reasons for _ in range(3)] == [["drifted"], ["drifted"], []]


def test_an_event_keeps_the_windows_around_it() -> None:
    one = judge(before=1, after=1)
    found = [see(one), see(one, event=True), see(one), see(one)]
    assert [verdict.reasons for verdict in found] == [[], ["event"], ["event"], []]
    assert [verdict.earlier for verdict in found] == [False, True, False, False]


def test_a_label_is_rare_once_there_are_enough_results() -> None:
    one = judge(rare=0.01)
    assert not any(see(one, "idle").reasons for _ in range(ENOUGH))
    found = see(one, "fault")
    assert found.reasons == ["rare"]
    assert found.detail == f"fault: 0 of {ENOUGH} windows"
    assert not see(one, "idle").reasons


def test_a_wanted_label_is_kept_from_the_first_window_on() -> None:
    assert see(judge(labels=["fault"]), "fault").reasons == ["rare"]


def test_one_in_so_many_confident_windows_is_drawn_at_random() -> None:
    draws = iter([0.2, 0.01, 0.99])
    one = Judge(KeepOptions(audit=50, rare=0.0), chance=lambda: next(draws))
    assert [see(one).reasons for _ in range(3)] == [[], ["audit"], []]


def test_a_label_that_is_never_kept_is_refused_whatever_the_reason() -> None:
    one = judge(never=["person"])
    one.command(1)
    several = one.see({}, Answer(["cat", "person"]), event=True)
    assert several.refused
    assert several.reasons == ["command", "event"]
    assert not one.may_keep(Answer("person"))
    assert one.commanded == 1
    assert not see(one, "cat").refused


def test_reasons_come_the_weightiest_first_with_all_details() -> None:
    one = judge(labels=["idle"])
    one.command(1)
    one.disagreed("agreement 0.1")
    found = see(one, score=0.15)
    assert found.reasons == ["command", "disagreement", "rare", "unsure"]
    assert found.detail == "agreement 0.1; idle; margin 0.05"


def test_options_are_refused_that_mean_nothing() -> None:
    for wrong in (
        {"margin": 2},
        {"bytes": 1},
        {"encrypt_for": "abc"},
        {"hours": {"begin": "25:00", "end": "1:00"}},
    ):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(wrong, KeepOptions)

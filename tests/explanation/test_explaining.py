from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from limpet.contracts.explanation import Explanation, Question
from limpet.contracts.outputs import (
    Anomaly,
    Classification,
    Detection,
    Detections,
    Regression,
    ScoredLabel,
)
from limpet.explanation.answers import Decoded, overlap, read
from limpet.explanation.explaining import Subject, explain

if TYPE_CHECKING:
    from collections.abc import Callable

    from limpet.contracts.data import Array

    Model = Callable[[Array], Decoded]

WALK = np.column_stack([np.linspace(-1, 1, 64), np.full(64, 5.0), np.sin(np.arange(64))]).astype(np.float32)
NAMES = ("ax", "ay", "az")


def answer(subject: Subject, question: Question, model: Model) -> tuple[Explanation, list[Array]]:
    windows: list[Array] = []
    asking = explain(subject, question)
    try:
        window = next(asking)
        while True:
            windows.append(window)
            window = asking.send(model(window))
    except StopIteration as done:
        return done.value, windows


def classified(share: float) -> Decoded:
    scores = {"walk": share, "rest": 1 - share}
    best = max(scores, key=scores.__getitem__)
    return Decoded(Classification(best, scores[best], [ScoredLabel(best, scores[best])], False), scores)


def by_second_channel(values: Array) -> Decoded:
    """A walk if the mean of the second channel is above 3."""
    return classified(float(1 / (1 + np.exp(3.0 - values[:, 1].mean(dtype=float)))))


def test_the_channel_that_decides_has_all_of_the_importance_and_the_smallest_change() -> None:
    subject = Subject(WALK, NAMES, typical=np.array([0.0, 1.0, 0.0]), spreads=np.array([1.0, 0.5, 1.0]))
    found, windows = answer(subject, Question(), by_second_channel)
    assert (found.answer, found.label, found.by, found.method, found.exact) == (
        "walk",
        "walk",
        "channels",
        "shapley",
        True,
    )
    assert found.baseline == "typical"
    parts = {part.name: part.value for part in found.parts}
    assert parts["ay"] == pytest.approx(found.value - found.hidden)
    assert parts["ax"] == parts["az"] == pytest.approx(0.0)
    assert found.changes is not None
    (change, *_) = found.changes
    assert (change.kind, change.parts, change.answer) == ("shift", ["ay"], "rest")
    assert -2.2 <= change.size <= -2.0
    assert change.spreads == pytest.approx(change.size / 0.5)
    assert found.invokes == len(windows) <= 1024
    assert all(window.shape == WALK.shape and window.dtype == WALK.dtype for window in windows)


def test_a_gain_that_changes_the_answer_is_found() -> None:
    def by_swing(values: Array) -> Decoded:
        return classified(float(np.clip(values[:, 0].std() - 0.1, 0, 1)))

    found, _ = answer(Subject(WALK, NAMES), Question(by="channels"), by_swing)
    gains = [change for change in found.changes or [] if change.kind == "gain"]
    assert [change.parts for change in gains] == [["ax"]]
    needed = 0.6 / float(WALK[:, 0].std())
    assert needed <= gains[0].size <= needed + 0.02


def test_the_same_question_gets_the_same_explanation_and_asks_the_same_windows() -> None:
    for question in (Question(by="cells"), Question(method="rise", by="times"), Question(by="bands", invokes=60)):
        (first, asked), (second, again) = (answer(Subject(WALK), question, by_second_channel) for _ in range(2))
        assert first == second
        assert all(np.array_equal(one, other) for one, other in zip(asked, again, strict=True))
        assert first.invokes <= question.invokes


def test_a_picture_is_explained_by_tiles_and_the_tile_that_decides_is_hidden() -> None:
    picture = np.full((1, 32, 32, 3), 40, np.uint8)
    picture[0, 8:12, 20:24] = 250

    def bright(values: Array) -> Decoded:
        return classified(float(values[0, 8:12, 20:24].mean()) / 255)

    subject = Subject(picture, picture=True, cut=(0.0, 0.0, 0.5, 0.5))
    found, _ = answer(subject, Question(), bright)
    assert (found.by, found.method, found.shape, found.cut) == (
        "pixels",
        "occlusion",
        [8, 8],
        (0.0, 0.0, 0.5, 0.5),
    )
    best = max(found.parts, key=lambda part: part.value)
    assert best.name == "20,8-24,12"
    assert found.changes is not None
    assert [(one.kind, one.parts, one.answer) for one in found.changes] == [("hide", [best.name], "rest")]
    smooth, _ = answer(subject, Question(method="rise", invokes=400, change=False), bright)
    assert smooth.shape == [28, 28]
    top = np.argmax([part.value for part in smooth.parts])
    assert abs(top // 28 - 9 * 28 / 32) <= 3
    assert abs(top % 28 - 21 * 28 / 32) <= 3


def test_a_regression_and_an_anomaly_are_explained_by_their_number() -> None:
    def level(values: Array) -> Decoded:
        return Decoded(Regression({"level": float(values.sum())}, {}, True, []))

    found, _ = answer(Subject(np.array([[1.0, 2.0, 4.0]])), Question(), level)
    assert (found.answer, found.label, found.changes) == (None, "level", None)
    assert [part.value for part in found.parts] == pytest.approx([1.0, 2.0, 4.0])
    assert [part.name for part in found.parts] == ["channel 0", "channel 1", "channel 2"]
    assert found.notes == [
        "The bundle has no reference, so hidden parts are 0, which may be far from what is typical."
    ]

    def odd(values: Array) -> Decoded:
        score = float(np.abs(values).max())
        return Decoded(Anomaly(score > 3, score, 3.0))

    found, _ = answer(Subject(np.array([[1.0, 2.0, 4.0]])), Question(), odd)
    assert (found.answer, found.label) == ("anomalous", "score")
    assert found.changes
    assert found.changes[0].parts == ["channel 2"]
    assert found.changes[0].answer == "normal"


def test_an_object_is_explained_by_its_score_where_it_is() -> None:
    boxes = [Detection("cup", 0.9, (0.1, 0.1, 0.3, 0.3)), Detection("cup", 0.8, (0.7, 0.7, 0.9, 0.9))]
    seen = read(Decoded(Detections(boxes, {"cup": 2})))
    assert (seen.label, seen.boxes["cup"]) == ("cup", boxes[0].box)
    gone = read(Decoded(Detections(boxes[1:], {"cup": 1})), boxes[0].box)
    assert gone.number("cup") == 0
    assert overlap((0, 0, 2, 2), (1, 0, 3, 2)) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("subject", "question", "reason"),
    [
        (Subject(WALK, labels=("walk", "rest")), Question(label="wlak"), "did you mean 'walk'"),
        (Subject(WALK), Question(baseline="typical"), "no reference"),
        (Subject(WALK), Question(by="pixels"), "no pictures"),
        (
            Subject(WALK),
            Question(by="times", method="shapley", invokes=24),
            "at least 32 .* 18 of 24 are for",
        ),
        (Subject(WALK), Question(by="times", method="occlusion", invokes=10), "needs at least 18 invokes"),
    ],
)
def test_a_question_that_cannot_be_answered_is_refused_with_a_reason(
    subject: Subject, question: Question, reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        answer(subject, question, by_second_channel)


def test_an_answer_without_a_finite_number_is_refused() -> None:
    def nothing(_: Array) -> Decoded:
        output: Any = {"state": "on"}
        return Decoded(output)

    with pytest.raises(ValueError, match="no number"):
        answer(Subject(WALK), Question(), nothing)

    def sometimes(values: Array) -> Decoded:
        return Decoded(Regression({"level": float(values[0, 1]) or None}, {}, True, []))

    with pytest.raises(ValueError, match="no finite number for 'level'"):
        answer(Subject(WALK), Question(baseline="zero"), sometimes)

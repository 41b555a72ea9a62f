"""Whether more recordings would help: the same setting is trained on less."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet_convert.training.proposals import Candidate
    from limpet_convert.training.tasks import Answers
    from limpet_convert.training.trainer import Held, Trainer

SHARES = (0.25, 0.5)
GOOD = 0.95
RISE = 0.02


def curve(course: Trainer, candidate: Candidate, held: Held, epochs: int) -> list[dict[str, Any]]:
    """Return the score with a quarter, half and all of the data; empty if the time is over."""
    folds = range(course.problem.fold_count)
    found = []
    for share in SHARES:
        if course.late:
            return []
        found.append(_point(course, candidate, course.held(candidate, folds, epochs, share), share))
    return [*found, _point(course, candidate, held, 1.0)]


def _point(course: Trainer, candidate: Candidate, held: Held, share: float) -> dict[str, Any]:
    answers = course.answers(candidate, held)
    score = course.lesson.score(answers.values, answers.targets, 0.0)
    point: dict[str, Any] = {"share": share, "score": round(score, 4)}
    if course.problem.task == "classify":
        point["recall"] = _recall(answers, course.problem.labels)
    return point


def _recall(answers: Answers, labels: Sequence[str]) -> dict[str, float]:
    said = answers.values.argmax(axis=1)
    return {
        label: round(float((said[answers.targets == n] == n).mean()), 4)
        for n, label in enumerate(labels)
        if (answers.targets == n).any()
    }


def advice(points: Sequence[dict[str, Any]], figures: dict[str, Any]) -> list[str]:
    """Return what would make the model better, each in a sentence; empty without a curve."""
    if not points:
        return []
    half, whole = points[-2], points[-1]
    found = []
    for label, recall in whole.get("recall", {}).items():
        if recall >= GOOD:
            continue
        if recall - half["recall"].get(label, 0.0) > RISE:
            found.append(
                f"More recordings of {label!r} would help: {recall:.0%} of it is recognised, and this rises."
            )
        else:
            found.append(
                f"{recall:.0%} of {label!r} is recognised, and more of the same did not help. "
                f"{_confused(label, figures)}Check its labels, or record what sets it apart."
            )
    if not found and whole["score"] < GOOD and whole["score"] - half["score"] > RISE:
        found.append("More recordings would help: the score still rises with the data.")
    return found or ["More of the same recordings would help little."]


def _confused(label: str, figures: dict[str, Any]) -> str:
    labels = list(figures["classes"])
    row = np.array(figures["confusion"][labels.index(label)])
    row[labels.index(label)] = 0
    return f"It is mostly taken for {labels[int(row.argmax())]!r}. " if row.any() else ""

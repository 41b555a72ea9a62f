"""Windows are explained in slices between a pipeline's own, and every command gets one answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from limpet.config import PipelineConfig
from limpet.contracts.data import Samples, SampleSpec
from limpet.contracts.explanation import Explained, Question
from limpet.contracts.fields import WindowSpec
from limpet.inference.pipeline import Pipeline
from limpet.inference.planning import plan_pipeline
from limpet.worker.explanations import Explanations
from support import models
from support.assigned import single

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from limpet.wire.records import Answered

SPEC = SampleSpec((3,), np.dtype(np.float32), ("ax", "ay", "az"))


@pytest.fixture
def pipeline(tmp_path: Path) -> Iterator[Pipeline]:
    models.same(tmp_path / "same.tflite", (1, 3), "float32")
    decoder = {"kind": "classify", "labels": ["x", "y", "z"]}
    wanted = PipelineConfig(source="s", model="same.tflite", window=WindowSpec(size=1), decoder=decoder)
    with Pipeline(plan_pipeline(single(tmp_path, wanted), "p", SPEC)) as opened:
        yield opened


def feed(pipeline: Pipeline, *rows: list[float]) -> None:
    values = np.array(rows, np.float32)
    stamps = np.arange(len(rows), dtype=np.int64)
    list(pipeline.feed(Samples(values, stamps, stamps, 0)))


def test_the_next_window_is_explained_while_others_run(pipeline: Pipeline) -> None:
    answers: list[Answered] = []
    explanations = Explanations(answers.append)
    explanations.want(7, pipeline, Question())
    explanations.run_slice(busy=False)
    assert not explanations  # nothing to run before a window came
    feed(pipeline, [0.1, 0.7, 0.2])
    assert explanations
    while not answers:
        explanations.run_slice(busy=False)
        feed(pipeline, [0.9, 0.0, 0.1])
    (answered,) = answers
    assert (answered.number, answered.error) == (7, "")
    assert isinstance(answered.result, Explained)
    assert answered.result.explanation.label == "y"
    assert answered.result.sample == 0
    assert not explanations


def test_samples_go_first_while_they_wait(pipeline: Pipeline) -> None:
    answers: list[Answered] = []
    explanations = Explanations(answers.append)
    explanations.want(1, pipeline, Question(by="times", method="rise", invokes=1000))
    feed(pipeline, [0.1, 0.7, 0.2])
    explanations.run_slice(busy=True)
    assert not answers
    runs = 0
    while not answers:
        explanations.run_slice(busy=True)
        runs += 1
    assert runs > 100  # most of the time is left to samples


def test_a_pipeline_that_is_closed_answers_first(pipeline: Pipeline) -> None:
    answers: list[Answered] = []
    explanations = Explanations(answers.append)
    explanations.want(1, pipeline, Question())
    explanations.want(2, pipeline, Question())
    feed(pipeline, [0.1, 0.7, 0.2])
    explanations.run_slice(busy=False)
    explanations.cancel(pipeline)
    assert sorted(answered.number for answered in answers) == [1, 2]
    assert "closed meanwhile" in answers[-1].error
    feed(pipeline, [0.1, 0.7, 0.2])  # is observed no more
    assert not explanations


def test_a_question_that_does_not_fit_is_answered_with_the_reason(pipeline: Pipeline) -> None:
    answers: list[Answered] = []
    explanations = Explanations(answers.append)
    explanations.want(1, pipeline, Question(by="bands"))
    feed(pipeline, [0.1, 0.7, 0.2])
    explanations.run_slice(busy=False)
    assert answers[0].error == "the window cannot be explained: a window of 1 rows has no bands of frequency"

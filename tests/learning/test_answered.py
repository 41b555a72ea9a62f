"""What a published result says in short: the same as the worker's own short answer."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limpet.contracts.outputs import (
    Anomaly,
    Classification,
    Cluster,
    Detection,
    Detections,
    Embedding,
    Keypoints,
    Keyword,
    Labels,
    Pose,
    Regression,
    ScoredLabel,
    Segmentation,
)
from limpet.inference.agreement import answer
from limpet.learning.answered import short

BOX = (0.0, 0.0, 0.5, 0.5)
OUTPUTS = [
    Classification("walk", 0.75, [ScoredLabel("walk", 0.75), ScoredLabel("run", 0.25)], False),
    Classification("a" * 100 + "\n", 1.0, [], False),
    Anomaly(True, 3.0, 2.0),
    Anomaly(False, None, None),
    Detections([Detection("cup", 0.5, BOX), Detection("ape", 0.25, BOX)], {}),
    Detections([], {}),
    Keypoints([Pose("person", 0.5, BOX, [])], {}, []),
    Segmentation({"road": 0.5, "sky": 0.001}, []),
    Regression({"t": 21.5, "h": 3.0}, {}, True, []),
    Regression({"t": None}, {}, False, ["t"]),
    Keyword("yes", 0.9, {"yes": 0.9}),
    Keyword(None, 0.1, {"yes": 0.1}),
    Labels([ScoredLabel("b", 0.5), ScoredLabel("a", 0.25)], False),
    Cluster("idle", "idle", 0.5),
    Embedding("anna", 0.9, [ScoredLabel("anna", 0.9)]),
    Embedding(None, None, []),
]


@pytest.mark.parametrize("output", OUTPUTS, ids=lambda one: type(one).__name__)
def test_it_is_the_workers_own_answer(output: msgspec.Struct) -> None:
    found = short(msgspec.json.encode(output))
    assert found is not None
    assert found.answer.value == answer(output).value


def test_an_abstention_keeps_the_best_label_and_its_score() -> None:
    found = short(msgspec.json.encode(Classification(None, 0.4, [ScoredLabel("run", 0.4)], True)))
    assert found is not None
    assert (found.answer.value, found.best, found.score, found.abstained) == (None, "run", 0.4, True)


def test_sets_and_intervals_hold_the_truth_or_not() -> None:
    classes = short(msgspec.json.encode(Classification("walk", 0.9, [], False, set=["walk", "run"])))
    none = short(msgspec.json.encode(Classification("walk", 0.9, [], False)))
    values = short(msgspec.json.encode(Regression({"t": 2.0}, {}, True, [], intervals={"t": (1.0, 3.0)})))
    assert classes is not None
    assert none is not None
    assert values is not None
    assert [classes.holds(truth) for truth in ("run", "rest", 3)] == [True, False, None]
    assert [values.holds(truth) for truth in (1.0, 3.5, "run")] == [True, False, None]
    assert none.holds("walk") is None


@pytest.mark.parametrize(
    "output", [b"", b"{}", b"[]", b'{"tensors":[]}', b'{"label":3}', b'{"values":[1]}', b"\xff"]
)
def test_an_output_of_an_unknown_form_says_nothing(output: bytes) -> None:
    assert short(output) is None


@settings(max_examples=40)
@given(
    st.recursive(
        st.none() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(st.text() | st.sampled_from(["label", "top", "values", "labels"]), inner)
        ),
    )
)
def test_no_output_breaks_it(output: object) -> None:
    short(msgspec.json.encode(output))

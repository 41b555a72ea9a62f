"""How far two outputs agree: by the definitions, symmetric, between 0 and 1, and 1 for equal outputs."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.contracts.outputs import (
    Anomaly,
    Classification,
    Cluster,
    Detection,
    Detections,
    Embedding,
    Keypoint,
    Keypoints,
    Keyword,
    Labels,
    Pose,
    Regression,
    ScoredLabel,
    Segmentation,
    Tensors,
    TensorValues,
)
from limpet.errors import UnreadableError
from limpet.inference.agreement import agreement, answer, kind_of, matched, overlap, read
from limpet.updates.answers import Answer

label = st.sampled_from(["cat", "dog", "person"])
maybe = st.none() | label
share = st.floats(0, 1)
number = st.floats(allow_nan=False, allow_infinity=False)
scored = st.builds(ScoredLabel, label, st.none() | share)
box = st.tuples(share, share, share, share)
point = st.builds(Keypoint, st.sampled_from(["nose", "hand", "foot"]), number, number, st.none() | share)
tensor = st.builds(
    TensorValues,
    st.sampled_from(["a", "b"]),
    st.just([2]),
    st.just("float32"),
    st.lists(st.none() | number, min_size=2, max_size=2),
)
OUTPUTS: dict[type, st.SearchStrategy[Any]] = {
    Classification: st.builds(
        Classification, maybe, st.none() | number, st.lists(scored, max_size=3), st.booleans()
    ),
    Anomaly: st.builds(Anomaly, st.booleans(), st.none() | number, st.none() | number),
    Detections: st.builds(Detections, st.lists(st.builds(Detection, label, share, box), max_size=6), st.just({})),
    Keypoints: st.builds(
        Keypoints,
        st.lists(st.builds(Pose, label, share, box, st.lists(point, max_size=4)), max_size=4),
        st.just({}),
        st.just([]),
    ),
    Segmentation: st.builds(Segmentation, st.dictionaries(label, share, max_size=3), st.just([])),
    Regression: st.builds(
        Regression, st.dictionaries(label, st.none() | number, max_size=3), st.just({}), st.booleans(), st.just([])
    ),
    Keyword: st.builds(Keyword, maybe, st.none() | share, st.just({})),
    Labels: st.builds(Labels, st.lists(scored, max_size=4), st.booleans()),
    Cluster: st.builds(Cluster, maybe, maybe, st.none() | number),
    Embedding: st.builds(Embedding, maybe, st.none() | st.floats(-1, 1), st.just([])),
    Tensors: st.builds(Tensors, st.lists(tensor, max_size=2)),
}


@pytest.mark.parametrize("kind", OUTPUTS, ids=lambda kind: kind.__name__)
def test_agreement_is_symmetric_bounded_and_whole_for_equal_outputs(kind: type) -> None:
    @given(OUTPUTS[kind], OUTPUTS[kind])
    def check(a: Any, b: Any) -> None:
        mutual = agreement(a, b)
        assert mutual is not None
        assert 0 <= mutual <= 1
        assert mutual == agreement(b, a)
        assert agreement(a, read(kind_of(a), msgspec.msgpack.encode(a))) == 1

    check()


@pytest.mark.parametrize("kind", OUTPUTS, ids=lambda kind: kind.__name__)
def test_every_output_has_an_answer_that_can_be_sent(kind: type) -> None:
    @given(OUTPUTS[kind])
    def check(output: Any) -> None:
        short = answer(output)
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(short), type=Answer) == short

    check()


def classified(name: str | None, score: float | None = 0.5) -> Classification:
    return Classification(name, score, [], name is None)


def found(*boxes: tuple[str, tuple[float, float, float, float]]) -> Detections:
    return Detections([Detection(name, 0.9, box) for name, box in boxes], {})


def measured(**values: float | None) -> Regression:
    return Regression(values, {}, True, [])


def posed(*places: tuple[float, float]) -> Keypoints:
    points = [Keypoint(f"p{n}", x, y, None) for n, (x, y) in enumerate(places)]
    return Keypoints([Pose("person", 0.9, (0.0, 0.0, 0.6, 0.8), points)], {}, [])


LEFT, RIGHT = (0.0, 0.0, 0.4, 0.4), (0.6, 0.6, 1.0, 1.0)
NEAR_LEFT = (0.0, 0.0, 0.4, 0.3)


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        (classified("walk"), classified("walk", 0.9), 1.0),
        (classified("walk"), classified("run"), 0.0),
        (classified(None), classified(None), 1.0),
        (
            Anomaly(anomalous=True, score=3.0, threshold=2.0),
            Anomaly(anomalous=False, score=1.0, threshold=2.0),
            0.0,
        ),
        (found(("cat", LEFT), ("dog", RIGHT)), found(("cat", NEAR_LEFT)), 2 / 3),
        (found(("cat", LEFT)), found(("dog", LEFT)), 0.0),
        (found(), found(), 1.0),
        (found(), found(("cat", LEFT)), 0.0),
        (posed((0.1, 0.1), (0.5, 0.5)), posed((0.1, 0.19), (0.9, 0.9)), 1.0),
        (posed((0.1, 0.1), (0.5, 0.5)), posed((0.1, 0.3), (0.9, 0.9)), 0.0),
        (Segmentation({"road": 0.5, "car": 0.2}, []), Segmentation({"road": 0.4}, []), 0.7),
        (measured(t=20.0), measured(t=30.0), 0.8),
        (measured(t=20.0), measured(t=-20.0), 0.0),
        (measured(t=0.0, p=None), measured(t=0.0, p=None), 1.0),
        (measured(t=1.0, p=None), measured(t=1.0, p=5.0), 0.5),
        (measured(Identity=20.0), measured(sum=30.0), 0.8),
        (Keyword("hey", 0.9, {}), Keyword(None, 0.4, {}), 0.0),
        (Labels([ScoredLabel("a", 1), ScoredLabel("b", 1)], False), Labels([ScoredLabel("b", 1)], False), 0.5),
        (Cluster("one", "one", 1.0), Cluster(None, "one", 9.0), 0.0),
        (Embedding("Anna", 0.9, []), Embedding("Anna", 0.7, []), 1.0),
        (
            Tensors([TensorValues("x", [2], "float32", [3.0, 4.0])]),
            Tensors([TensorValues("x", [2], "float32", [0.0, 0.0])]),
            0.0,
        ),
        (
            Tensors([TensorValues("x", [2], "float32", [3.0, 4.0])]),
            Tensors([TensorValues("x", [2], "float32", [6.0, 8.0])]),
            1 - 5 / 15,
        ),
    ],
)
def test_agreement_follows_its_definition(ours: Any, theirs: Any, expected: float) -> None:
    assert agreement(ours, theirs) == pytest.approx(expected)


def test_outputs_that_have_no_definition_are_not_compared() -> None:
    assert agreement(classified("walk"), measured(t=1.0)) is None
    assert agreement({"x": 1}, {"x": 1}) is None
    assert agreement(Anomaly(False, 1.0, None, untrained=True), Anomaly(False, 1.0, 2.0)) is None
    assert answer({"x": 1}) == Answer(None)


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (classified("walk", 0.5), Answer("walk", 0.5)),
        (classified("walk", 7.5), Answer("walk", None)),
        (classified("x\x1b" + "y" * 100), Answer("x " + "y" * 62, 0.5)),
        (Anomaly(anomalous=True, score=3.0, threshold=2.0), Answer("anomalous")),
        (found(("dog", LEFT), ("cat", RIGHT), ("cat", LEFT)), Answer(["cat", "cat", "dog"], 0.9)),
        (found(), Answer([])),
        (Segmentation({"road": 0.5, "car": 0.001}, []), Answer(["road"])),
        (measured(t=20.5, p=3.0), Answer(20.5)),
        (measured(t=None), Answer(None)),
        (Keyword(None, 0.4, {}), Answer(None, 0.4)),
        (Embedding("Anna", -0.5, []), Answer("Anna")),
        (Cluster(None, "one", 9.0), Answer(None)),
    ],
)
def test_an_answer_says_in_short_what_an_output_says(output: Any, expected: Answer) -> None:
    assert answer(output) == expected


@given(st.lists(st.lists(st.integers(0, 4), max_size=5, unique=True), max_size=5))
def test_pairs_are_as_many_as_can_be(near: list[list[int]]) -> None:
    def most(place: int, taken: frozenset[int]) -> int:
        if place == len(near):
            return 0
        used = [1 + most(place + 1, taken | {other}) for other in near[place] if other not in taken]
        return max([most(place + 1, taken), *used])

    assert matched(near) == most(0, frozenset())


def test_overlap_is_the_intersection_over_the_union() -> None:
    assert overlap((0, 0, 1, 1), (0.5, 0, 1.5, 1)) == pytest.approx(1 / 3)
    assert overlap((0, 0, 1, 1), (2, 2, 3, 3)) == 0
    assert overlap((0, 0, 0, 0), (0, 0, 0, 0)) == 1
    assert not math.isnan(overlap((0, 0, math.inf, math.inf), (0, 0, 1, 1)))


@given(st.sampled_from(["", "Classification", "Detections", "Nothing", "int"]), st.binary(max_size=64))
def test_an_output_from_another_process_is_read_or_unreadable(kind: str, data: bytes) -> None:
    try:
        output = read(kind, data)
    except UnreadableError:
        return
    assert kind_of(output) == kind

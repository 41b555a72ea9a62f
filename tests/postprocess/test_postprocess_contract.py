"""What holds for every postprocess stage. A new one adds its cases here."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limpet import plugins
from limpet.contracts.data import FloatArray, Window
from limpet.contracts.detected_events import DetectedEvent
from limpet.contracts.outputs import (
    Anomaly,
    Classification,
    Detection,
    Detections,
    Keypoint,
    Keypoints,
    Labels,
    Pose,
    Regression,
    ScoredLabel,
)
from limpet.contracts.postprocess import Abilities, Idling
from limpet.contracts.stage import Spec, Stage
from limpet.errors import ModelError

SPEC = Spec(shape=(1, 4), dtype=np.dtype(np.float32), rate=10.0)
"""Of a detector or another model without labels."""
NAMED = Spec(shape=(1, 3), dtype=np.dtype(np.float32), rate=10.0, labels=("a", "b", "c"), samples=("x", "y"))
"""Of a model with three classes or quantities, on samples of two channels."""
SECOND = 1_000_000_000


@dataclass(frozen=True)
class Case:
    """A stage that can be opened, and the results that it gets, a tenth of a second after each other."""

    kind: str
    options: dict[str, Any]
    results: tuple[Any, ...]

    @property
    def abilities(self) -> Abilities:
        return plugins.abilities(plugins.load("postprocess", self.kind), Abilities)

    def open(self) -> Any:
        module = plugins.load("postprocess", self.kind)
        named = isinstance(self.results[0], Classification | Regression)
        return module.open(msgspec.convert(self.options, module.Config), NAMED if named else SPEC)


def boxes(*lefts: float, ids: bool = False) -> Detections:
    found = [
        Detection("cat", 0.9, (left, 0.4, left + 0.2, 0.6), id=number + 1 if ids else None)
        for number, left in enumerate(lefts)
    ]
    return Detections(found, {"cat": len(found)})


def poses(left: float) -> Keypoints:
    pose = Pose("person", 0.8, (left, 0.2, left + 0.3, 0.9), [Keypoint("nose", left, 0.3, None)])
    return Keypoints([pose], {"person": 1}, [])


SCENES = (*(boxes(0.1 + step / 50, 0.7) for step in range(6)), boxes(), boxes(0.6))

WALK = tuple(boxes(0.1 + step / 10, 0.9 - step / 10, ids=True) for step in range(7))
LEFT = [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]
ALL = [[0, 0], [1, 0], [1, 1], [0, 1]]


def classes(*scores: float) -> Classification:
    top = sorted((ScoredLabel(label, score) for label, score in zip("abc", scores, strict=False)), key=_falling)
    return Classification(top[0].label, top[0].score, top, False)


def _falling(label: ScoredLabel) -> float:
    return -(label.score or 0.0)


UNSURE = Classification(None, None, [], True)
TALK = (classes(0.7, 0.2, 0.1), classes(0.1, 0.6, 0.3), UNSURE, classes(0.2, 0.7, 0.1))
HEAT = (
    Regression({"a": 20.0, "b": 1.0, "c": None}, {"a": "°C"}, in_range=False, out_of_range=["c"]),
    Regression({"a": 20.5, "b": 1.1, "c": 5.0}, {"a": "°C"}, in_range=True, out_of_range=[]),
    Regression({"a": 90.0, "b": -1.1, "c": 5.0}, {"a": "°C"}, in_range=True, out_of_range=[]),
)
ALARMS = tuple(Anomaly(score == 2.0, score, 1.0) for score in (0.5, 2.0, None, 0.1))
NIGHT = {"hours": [22, 6], "channel": "y", "above": 0.5, "priors": {"a": 0.8, "b": 0.1, "c": 0.1}}
SOUNDS = (Labels([ScoredLabel("dog", 0.9), ScoredLabel("cat", 0.6)], False), Labels([], False), Labels([], True))

WORKING = [
    Case("smooth", {"windows": 3}, TALK),
    Case("smooth", {"windows": 2, "method": "vote", "threshold": 0.6}, TALK),
    Case("smooth", {"windows": 2, "threshold": 0.3}, SOUNDS),
    Case("smooth", {"windows": 2, "method": "vote"}, SOUNDS),
    Case("conformal", {"quantile": 0.5}, TALK),
    Case("conformal", {"quantile": 0.8, "method": "aps", "random": True, "empty": True, "most": 1}, TALK),
    Case("conformal", {"quantiles": {"a": 1.5, "c": 0.1}}, HEAT),
    Case("conformal", {"quantiles": {"a": [1, 2]}, "levels": [0.8, 0.95], "aim": 0.92}, HEAT),
    Case("priors", {"weights": {"a": 0.25, "c": 3}}, TALK),
    Case("priors", {"weights": {"b": 9}, "threshold": 0.6}, TALK),
    Case("bayes", {"stay": 0.9}, TALK),
    Case("bayes", {"stay": 0.9, "threshold": 0.99, "most": 1, "weight": 0.5, "when": [NIGHT]}, TALK),
    Case("bayes", {"transition": [[0.9, 0.1, 0], [0, 0.9, 0.1], [0.1, 0, 0.9]], "seconds": 0.04}, TALK),
    Case("kalman", {"noise": 0.5, "drift": 0.1}, HEAT),
    Case("kalman", {"noise": {"a": 1}, "drift": {"a": 1}, "model": "trend", "outlier": 3, "widest": 2}, HEAT),
    Case("rate", {"labels": ["b"]}, TALK),
    Case("rate", {"labels": ["dog"], "memory": 1, "limit": 0.1}, SOUNDS),
    Case("rate", {}, ALARMS),
    Case("track", {}, SCENES),
    Case("track", {"confirm": 1, "most": 1, "update_seconds": 0.1}, SCENES),
    Case("track", {"confirm": 2}, tuple(poses(step / 50) for step in range(5))),
    Case("zones", {"zones": {"left": LEFT}, "settle": 0}, WALK),
    Case("zones", {"zones": {"left": LEFT, "all": ALL}, "labels": ["cat"]}, WALK),
    Case("zones", {"zones": {"all": ALL}}, tuple(poses(step / 50) for step in range(5))),
    Case("lines", {"lines": {"middle": [[0.5, 0], [0.5, 1]]}}, WALK),
]


def windows(case: Case) -> list[Window]:
    return [
        Window(
            np.zeros((1, 4), np.float32),
            step * SECOND // 10,
            step * SECOND // 10,
            step,
            samples=np.full((5, 2), step, np.float32),
            result=deepcopy(one),
            scores=scores_of(one),
        )
        for step, one in enumerate(case.results)
    ]


def scores_of(result: Any) -> FloatArray | None:
    """Return what a decoder of classes sets beside such a result."""
    if not isinstance(result, Classification) or not result.top:
        return None
    by_label = {one.label: one.score for one in result.top}
    return np.array([by_label.get(label) or 0.0 for label in NAMED.labels], np.float32)


def run(stage: Any, case: Case) -> list[tuple[Any, list[DetectedEvent]]]:
    """Return what a stage makes of the case, with ids in the order in which they appear."""
    return [without_ids(stage(window)) for window in windows(case)]


def without_ids(window: Window) -> Any:
    """Return a result and its events; the ids that track gives depend on the clock."""
    return blanked(msgspec.to_builtins((window.result, window.events)))


def blanked(part: Any) -> Any:
    if isinstance(part, dict):
        return {key: None if key == "id" else blanked(value) for key, value in part.items()}
    return [blanked(one) for one in part] if isinstance(part, list | tuple) else part


def test_every_kind_has_a_case() -> None:
    assert {case.kind for case in WORKING} == set(plugins.built_in("postprocess"))


@pytest.mark.parametrize("case", WORKING, ids=lambda case: case.kind)
def test_it_is_a_stage_and_has_what_it_declares(case: Case) -> None:
    stage = case.open()
    assert isinstance(stage, Stage)
    assert isinstance(stage, Idling) == case.abilities.idles


@pytest.mark.parametrize("case", WORKING, ids=lambda case: case.kind)
def test_the_result_has_the_declared_type_and_encodes_as_a_mapping(case: Case) -> None:
    stage = case.open()
    for window in windows(case):
        given = type(window.result)
        assert not case.abilities.takes or isinstance(window.result, case.abilities.takes)
        result = stage(window).result
        assert type(result) is (case.abilities.gives or given)
        assert isinstance(msgspec.to_builtins(result), dict)


@pytest.mark.parametrize("case", WORKING, ids=lambda case: case.kind)
def test_the_result_that_it_gets_stays_as_it_is(case: Case) -> None:
    stage = case.open()
    for window in windows(case):
        given, before = window.result, msgspec.json.encode(window.result)
        stage(window)
        assert msgspec.json.encode(given) == before


@pytest.mark.parametrize("case", WORKING, ids=lambda case: case.kind)
def test_results_outlive_the_call(case: Case) -> None:
    stage = case.open()
    kept = []
    for window in windows(case):
        result = stage(window).result
        kept.append((result, msgspec.json.encode(result)))
    assert all(msgspec.json.encode(result) == then for result, then in kept)


@pytest.mark.parametrize("case", WORKING, ids=lambda case: case.kind)
def test_after_reset_it_goes_on_as_if_newly_opened(case: Case) -> None:
    stage = case.open()
    first = run(stage, case)
    stage.reset()
    assert run(stage, case) == first


@pytest.mark.parametrize("case", WORKING, ids=lambda case: case.kind)
def test_it_changes_nothing_of_the_window_but_result_and_events(case: Case) -> None:
    stage = case.open()
    for window in windows(case):
        values, rest = window.values, (window.monotonic_ns, window.wall_ns, window.ordinal, window.gap, window.cut)
        found = stage(window)
        assert found.values is values
        assert (found.monotonic_ns, found.wall_ns, found.ordinal, found.gap, found.cut) == rest


@pytest.mark.parametrize("case", WORKING, ids=lambda case: case.kind)
def test_its_events_can_be_sent(case: Case) -> None:
    stage = case.open()
    events = [event for window in windows(case) for event in stage(window).events]
    assert [msgspec.msgpack.decode(msgspec.msgpack.encode(one), type=DetectedEvent) for one in events] == events


@pytest.mark.parametrize("case", WORKING, ids=lambda case: case.kind)
def test_a_result_of_another_type_is_an_error_of_the_window(case: Case) -> None:
    if case.abilities.takes:
        with pytest.raises(ModelError):
            case.open()(Window(np.zeros(4), 0, 0, 0, result={"no": "such thing"}))


numbers = st.floats() | st.sampled_from([0.0, 1.0, -1.0, 0.5, 1e-300, 1e300])
detections = st.builds(
    Detection,
    st.sampled_from(["cat", "dog", "", "a\0b", "x" * 300]),
    numbers,
    st.tuples(numbers, numbers, numbers, numbers),
    st.none() | st.integers(-1, 3),
)
hostile = st.lists(
    st.tuples(st.integers(-SECOND, 20 * SECOND), st.lists(detections, max_size=6)), min_size=1, max_size=8
)


@pytest.mark.parametrize(
    "case", [case for case in WORKING if isinstance(case.results[0], Detections)], ids=lambda case: case.kind
)
@given(scenes=hostile)
@settings(max_examples=25, deadline=None)
def test_whatever_a_model_gives_events_can_be_sent(case: Case, scenes: Any) -> None:
    stage, now = case.open(), 0
    for step, things in scenes:
        now += step
        window = stage(Window(np.zeros(4), now, now, 0, result=Detections(things, {})))
        for event in window.events:
            assert msgspec.msgpack.decode(msgspec.msgpack.encode(event), type=DetectedEvent) == event

"""A gate, a cache, a cascade and early exit save runs of a model, and change no result beyond what they say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from limpet.config import PipelineConfig
from limpet.contracts.data import Samples, SampleSpec, TensorSpec, Window
from limpet.contracts.fields import WindowSpec
from limpet.contracts.outputs import Classification
from limpet.contracts.reference import FeatureReference, Reference
from limpet.contracts.savings import (
    CacheOptions,
    CascadeOptions,
    EarlyExitOptions,
    GateOptions,
    SavingCounts,
)
from limpet.errors import ModelError
from limpet.inference.cascade import is_sure
from limpet.inference.early_exit import EarlyExit
from limpet.inference.economy import Economy
from limpet.inference.gate import Gate, difference
from limpet.inference.monitoring import Monitoring
from limpet.inference.pipeline import Pipeline
from limpet.inference.plan import MonitorPlan
from limpet.inference.planning import plan_pipeline
from limpet.inference.result_cache import ResultCache
from limpet.inference.savings_plan import with_savings
from support import bundles, models
from support.assigned import single

if TYPE_CHECKING:
    from pathlib import Path

    from limpet.inference.plan import PipelinePlan
    from limpet.wire.records import Result

SPEC = SampleSpec((3,), np.dtype(np.float32), ("x", "y", "z"))
LABELS = ("one", "two", "three")
SCORES = {"kind": "classify", "activation": "softmax"}


def classifier(path: Path, name: str, gain: float, *, labels: tuple[str, ...] = LABELS, **fields: Any) -> Path:
    """Write a bundle whose model's scores are its three inputs times ``gain``."""
    model = models.perceptron(path / "model.tflite", [(np.eye(3) * gain, np.zeros(3))])
    members = {"model.tflite": model.read_bytes(), "labels.txt": "\n".join(labels).encode()}
    said = {"model": "model.tflite", "labels": "labels.txt", "decoder": SCORES, "name": name, "version": 1}
    return bundles.bundle(path / f"{name}-1.limpet", members, **{**said, **fields})


def planned(folder: Path, model: Path | str, **wanted: Any) -> PipelinePlan:
    pipeline = PipelineConfig(source="s", model=str(model), **wanted)
    assignment = single(folder, pipeline)
    return with_savings(assignment, "p", plan_pipeline(assignment, "p", SPEC))


def block(rows: Any, index: int = 0, *, gap: bool = False) -> Samples:
    values = np.asarray(rows, np.float32)
    times = np.arange(index, index + len(values), dtype=np.int64) * 1000
    return Samples(values, times, times + 7, index, gap)


def run(plan: PipelinePlan, rows: Any) -> tuple[list[Result[Any]], dict[str, tuple[int, int]]]:
    """Return the results of samples, and how many windows each saver looked at and spared."""
    with Pipeline(plan) as pipeline:
        results = list(pipeline.feed(block(rows)))
        return results, {name: (one.windows, one.spared) for name, one in pipeline.take_savings().items()}


def said(results: list[Result[Any]]) -> list[Any]:
    """Return all that does not depend on how fast it went."""
    return [msgspec.to_builtins(msgspec.structs.replace(result, latency_ns=0)) for result in results]


# --- the gate


@settings(max_examples=30)
@given(arrays.arrays(np.uint8, 4), arrays.arrays(np.uint8, 4))
def test_unsigned_differences_do_not_wrap_around(one: Any, other: Any) -> None:
    assert difference(one, other).tolist() == [
        abs(a - b) for a, b in zip(one.tolist(), other.tolist(), strict=True)
    ]


@settings(max_examples=30)
@given(arrays.arrays(np.int8, 4), arrays.arrays(np.int8, 4))
def test_signed_differences_do_not_wrap_around(one: Any, other: Any) -> None:
    assert difference(one, other).tolist() == [
        abs(a - b) for a, b in zip(one.tolist(), other.tolist(), strict=True)
    ]


def test_the_gate_holds_until_enough_values_changed() -> None:
    gate = Gate(GateOptions(tolerance=2, share=0.25))
    still = np.full(8, 100, np.uint8)
    assert not gate.holds([still])
    gate.ran([still])
    assert gate.holds([still + np.array([2] * 8, np.uint8)])
    assert gate.holds([still + np.array([9, 9] + [0] * 6, np.uint8)])
    assert not gate.holds([still + np.array([9, 9, 9] + [0] * 5, np.uint8)])


def test_slow_changes_add_up_until_they_count() -> None:
    gate = Gate(GateOptions(tolerance=1.0))
    gate.ran([np.zeros(2, np.float32)])
    held = [gate.holds([np.full(2, value, np.float32)]) for value in (0.4, 0.8, 1.2)]
    assert held == [True, True, False]


def test_nan_another_shape_or_another_type_is_a_change() -> None:
    gate = Gate(GateOptions(tolerance=1e9))
    gate.ran([np.zeros(2, np.float32)])
    assert gate.holds([np.ones(2, np.float32)])
    assert not gate.holds([np.array([0, np.nan], np.float32)])
    assert not gate.holds([np.zeros(3, np.float32)])
    assert not gate.holds([np.zeros(2, np.float64)])


def test_the_model_runs_again_after_the_longest_hold() -> None:
    gate = Gate(GateOptions(longest=3))
    still = [np.zeros(2, np.float32)]
    gate.ran(still)
    assert [gate.holds(still) for _ in range(4)] == [True, True, True, False]


def test_a_held_window_has_its_own_result_with_the_last_outputs(tmp_path: Path) -> None:
    model = classifier(tmp_path, "large", 1.0)
    rows = [[1, 0, 0], [1.05, 0, 0], [0, 2, 0], [0, 2, 0]]
    results, counts = run(planned(tmp_path, model, gate=GateOptions(tolerance=0.1)), rows)
    plain, _ = run(planned(tmp_path, model), rows)
    assert counts == {"gate": (4, 2)}
    assert [result.sample for result in results] == [0, 1, 2, 3]
    assert [result.output.label for result in results] == ["one", "one", "two", "two"]
    assert results[1].output.score == results[0].output.score != plain[1].output.score
    assert said(results)[2:] == said(plain)[2:]


# --- the cache


@settings(max_examples=12)
@given(st.lists(st.sampled_from([(1, 0, 0), (0, 1, 0), (0, 0, 1), (2, 1, 0)]), max_size=30), st.integers(1, 4))
def test_with_a_cache_results_are_the_same(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, ...]], entries: int
) -> None:
    folder = tmp_path_factory.mktemp("cache")
    model = classifier(folder, "large", 1.0)
    rows = rows or [(0, 0, 0)]
    results, counts = run(planned(folder, model, cache=CacheOptions(entries=entries)), rows)
    plain, _ = run(planned(folder, model), rows)
    assert said(results) == said(plain)
    looked, spared = counts["cache"]
    assert looked == len(rows)
    assert spared <= len(rows) - len(set(rows))
    if entries == 4:
        assert spared == len(rows) - len(set(rows))


def test_the_key_of_a_quantized_input_is_what_the_model_stores(tmp_path: Path) -> None:
    model = models.dense(tmp_path / "dense.tflite", 3, 3)
    decoder = {"kind": "classify", "labels": list(LABELS)}
    near = models.SCALE / 4
    results, counts = run(
        planned(tmp_path, model, decoder=decoder, cache=CacheOptions()),
        [[1, 0, 0], [1 + near, near, -near], [1 + models.SCALE, 0, 0]],
    )
    assert counts == {"cache": (3, 1)}
    assert results[0].output == results[1].output != results[2].output


def test_without_tensors_all_bits_of_an_input_count() -> None:
    stored = TensorSpec("x", (1,), np.dtype(np.int8), (0.1,), (0,))
    one, other = np.array([1.0], np.float32), np.array([1.01], np.float32)
    by_integers: ResultCache[str] = ResultCache(CacheOptions(), [stored])
    assert by_integers.key([one]) == by_integers.key([other])
    by_bits: ResultCache[str] = ResultCache(CacheOptions(), [])
    assert by_bits.key([one]) != by_bits.key([other])


def test_steps_make_inputs_the_same() -> None:
    cache: ResultCache[str] = ResultCache(CacheOptions(step=0.5), [TensorSpec("x", (2,), np.dtype(np.float32))])

    def key(*values: float) -> bytes:
        return cache.key([np.array(values, np.float32)])

    assert key(0.9, -0.1) == key(1.1, 0.2)
    assert key(0.9, 0) != key(1.3, 0)


def test_a_cache_is_bounded_in_number_and_in_bytes() -> None:
    tensors = [TensorSpec("x", (1,), np.dtype(np.float32))]
    few: ResultCache[int] = ResultCache(CacheOptions(entries=2), tensors)
    keys = [few.key([np.array([n], np.float32)]) for n in range(3)]
    few.keep(keys[0], 0, 10)
    few.keep(keys[1], 1, 10)
    assert few.find(keys[0]) == 0
    few.keep(keys[2], 2, 10)
    assert [few.find(key) for key in keys] == [0, None, 2]
    small: ResultCache[int] = ResultCache(CacheOptions(bytes=1024), tensors)
    for n, key in enumerate(keys):
        small.keep(key, n, 400)
    assert (len(small), small.nbytes) == (2, 832)
    small.keep(b"large", 9, 2000)
    assert small.find(b"large") is None
    small.forget()
    assert (len(small), small.nbytes) == (0, 0)


# --- the cascade


def cascade(folder: Path, margin: float | None = 0.5, **light: Any) -> PipelinePlan:
    """Plan a model with a gain of 4, and a light one with a gain of 1."""
    (folder / "light").mkdir()
    small = classifier(folder / "light", "light", 1.0, **light)
    return planned(
        folder, classifier(folder, "large", 4.0), cascade=CascadeOptions(model=str(small), margin=margin)
    )


def test_the_light_model_answers_where_it_is_sure_and_the_other_one_elsewhere(tmp_path: Path) -> None:
    rows = [[5, 0, 0], [0, 0.2, 0], [0, 0, 4]]
    results, counts = run(cascade(tmp_path), rows)
    assert [(result.model, result.output.label) for result in results] == [
        ("light", "one"),
        ("large", "two"),
        ("light", "three"),
    ]
    assert counts == {"cascade": (3, 2)}
    alone, _ = run(planned(tmp_path, tmp_path / "large-1.limpet"), rows)
    assert said(results)[1] == said(alone)[1]
    light, _ = run(planned(tmp_path, tmp_path / "light" / "light-1.limpet"), rows)
    assert said(results)[::2] == said(light)[::2]


def test_stages_behind_a_cascade_see_each_window(tmp_path: Path) -> None:
    (tmp_path / "light").mkdir()
    small = classifier(tmp_path / "light", "light", 1.0)
    plan = planned(
        tmp_path,
        classifier(tmp_path, "large", 4.0),
        cascade=CascadeOptions(model=str(small), margin=0.5),
        postprocess=[{"kind": "smooth", "windows": 3, "method": "vote"}],
    )
    results, _ = run(plan, [[5, 0, 0], [5, 0, 0], [0, 0.2, 0]])
    assert [(result.model, result.output.label) for result in results][-1] == ("large", "one")


def test_a_gate_and_a_cache_know_which_model_answered(tmp_path: Path) -> None:
    (tmp_path / "light").mkdir()
    small = classifier(tmp_path / "light", "light", 1.0)
    plan = planned(
        tmp_path,
        classifier(tmp_path, "large", 4.0),
        cascade=CascadeOptions(model=str(small), margin=0.5),
        gate=GateOptions(),
        cache=CacheOptions(),
    )
    sure, unsure = [5, 0, 0], [0, 0.2, 0]
    results, counts = run(plan, [sure, sure, unsure, unsure, sure, unsure])
    assert [result.model for result in results] == ["light", "light", "large", "large", "light", "large"]
    assert counts == {"gate": (6, 2), "cache": (4, 2), "cascade": (2, 1)}


CONFORMAL = {"kind": "conformal", "coverage": 0.9, "quantile": 0.3}


def test_a_conformal_set_says_when_the_light_model_is_sure(tmp_path: Path) -> None:
    # Of (5, 0, 0) one class has at least 0.7, of the others none has: their set would be filled with the best one.
    results, counts = run(cascade(tmp_path, margin=None, postprocess=[CONFORMAL]), [[5, 0, 0], [0.5, 0, 0]])
    assert [result.model for result in results] == ["light", "large"]
    assert results[0].output.set == ["one"]
    assert results[1].output.set is None
    assert counts == {"cascade": (2, 1)}


def test_each_model_of_a_cascade_has_the_conformal_stage_of_its_own_bundle(tmp_path: Path) -> None:
    (tmp_path / "light").mkdir()
    small = classifier(tmp_path / "light", "light", 1.0, postprocess=[CONFORMAL])
    # Behind the large model all three classes are in the set, whatever the scores.
    large = classifier(tmp_path, "large", 4.0, postprocess=[{**CONFORMAL, "quantile": 1.0}])
    plan = planned(tmp_path, large, cascade=CascadeOptions(model=str(small)))
    results, _ = run(plan, [[5, 0, 0], [0.5, 0, 0]])
    assert [(result.model, result.output.set) for result in results] == [
        ("light", ["one"]),
        ("large", ["one", "two", "three"]),
    ]


def test_a_stage_for_one_model_comes_before_those_of_both(tmp_path: Path) -> None:
    (tmp_path / "light").mkdir()
    small = classifier(tmp_path / "light", "light", 1.0)
    stages = [{"kind": "smooth", "windows": 3}, CONFORMAL]
    large = classifier(tmp_path, "large", 4.0, postprocess=stages)
    with pytest.raises(ModelError, match="'conformal' holds for one model alone; put it before the others"):
        planned(tmp_path, large, cascade=CascadeOptions(model=str(small), margin=0.5))


def test_a_threshold_holds_for_both_models(tmp_path: Path) -> None:
    with Pipeline(cascade(tmp_path)) as pipeline:
        pipeline.set_threshold(0.995)
        results = list(pipeline.feed(block([[5, 0, 0], [8, 0, 0], [0.2, 0, 0]])))
    assert [(one.model, one.output.label) for one in results] == [
        ("large", "one"),
        ("light", "one"),
        ("large", None),
    ]


def test_a_test_window_leaves_no_trace(tmp_path: Path) -> None:
    with Pipeline(cascade(tmp_path)) as pipeline:
        pipeline.try_once(noise=True)
        assert {name: one.windows for name, one in pipeline.take_savings().items()} == {"cascade": 0}


def test_a_light_model_needs_the_same_classes(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="its classes are a, b, c, and those of large are one, two, three"):
        cascade(tmp_path, labels=("a", "b", "c"))


def test_something_must_say_when_the_light_model_is_sure(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cascade.margin: missing; the bundle of .* has no `conformal` stage"):
        cascade(tmp_path, margin=None)


def test_a_light_model_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cascade: the light model .*light-1.limpet: .*'regress'"):
        cascade(tmp_path, decoder={"kind": "regress"})


def test_a_pipeline_with_a_cascade_feeds_no_other(tmp_path: Path) -> None:
    plan = cascade(tmp_path)
    with Pipeline(plan) as pipeline, Pipeline(plan) as other, pytest.raises(ModelError, match="has a cascade"):
        pipeline.then(other)


def test_monitors_of_results_do_not_run_behind_a_cascade(tmp_path: Path) -> None:
    quantiles = np.linspace(-9, 9, 33).tolist()
    features = [
        FeatureReference(name=f"{name}.mean", mean=0.0, std=1.0, quantiles=quantiles, effective=100)
        for name in SPEC.channels
    ]
    thresholds: dict[str, dict[str, Any]] = {"adwin": {}, "sensor": {}}
    path = tmp_path / "reference.json"
    path.write_bytes(msgspec.json.encode(Reference(windows=100, features=features, thresholds=thresholds)))
    with Pipeline(cascade(tmp_path)) as pipeline:
        states = Monitoring(pipeline, MonitorPlan(0.05, (), ()), path).figures().monitors
    assert "it looks at results, and a cascade or early exit changes" in states["adwin"].problem
    assert "looks at results" not in states["sensor"].problem


def answer(score: float = 0.9, **more: Any) -> Classification:
    return Classification("one", score, [], abstained=False, **more)


@pytest.mark.parametrize(
    ("result", "scores", "options", "sure"),
    [
        (answer(), [0.8, 0.2, 0.0], CascadeOptions(model="m", margin=0.6), True),
        (answer(), [0.7, 0.3, 0.0], CascadeOptions(model="m", margin=0.6), False),
        (answer(), [np.nan, 0.3, 0.0], CascadeOptions(model="m", margin=0.0), False),
        (answer(), None, CascadeOptions(model="m", margin=0.0), False),
        (answer(set=["one"]), None, CascadeOptions(model="m"), True),
        (answer(set=["one", "two"]), None, CascadeOptions(model="m"), False),
        (answer(set=["one", "two"]), None, CascadeOptions(model="m", largest_set=2), True),
        (answer(set=[]), None, CascadeOptions(model="m"), False),
        (answer(), None, CascadeOptions(model="m"), False),
        (Classification(None, 0.9, [], abstained=True), [1.0, 0.0], CascadeOptions(model="m", margin=0.5), False),
        ({"label": "one"}, [1.0, 0.0], CascadeOptions(model="m", margin=0.5), False),
    ],
)
def test_when_a_light_model_is_sure(result: Any, scores: Any, options: CascadeOptions, *, sure: bool) -> None:
    assert is_sure(result, None if scores is None else np.array(scores, np.float32), options) is sure


# --- early exit


def test_the_rest_of_a_round_is_left_out_once_a_class_is_sure(tmp_path: Path) -> None:
    plan = planned(
        tmp_path, classifier(tmp_path, "large", 1.0), early_exit=EarlyExitOptions(windows=4, confidence=0.9)
    )
    results, counts = run(plan, [[9, 0, 0]] * 4 + [[0, 1.5, 0]] * 4 + [[0, 0, 0]] * 4)
    # One window of the first round is enough. Of the second, two together are sure; of the third, none is.
    assert [result.sample for result in results] == [0, 4, 5, 8, 9, 10, 11]
    assert counts == {"early_exit": (12, 5)}


def test_a_gap_begins_a_new_round(tmp_path: Path) -> None:
    plan = planned(
        tmp_path, classifier(tmp_path, "large", 1.0), early_exit=EarlyExitOptions(windows=4, confidence=0.9)
    )
    with Pipeline(plan) as pipeline:
        samples = [result.sample for result in pipeline.feed(block([[9, 0, 0]] * 2))]
        samples += [result.sample for result in pipeline.feed(block([[9, 0, 0]] * 2, 5, gap=True))]
    assert samples == [0, 5]


def seen(early_exit: EarlyExit, *scores: list[float], **more: Any) -> int:
    """Return how many windows of a round are run that have these scores, all of them if it is not sure."""
    windows = iter([Window(np.zeros(1), 0, 0, n) for n in range(len(scores))])
    count = 0
    for window, given_scores in zip(early_exit.chosen(windows), scores, strict=False):
        count += 1
        window.scores = np.array(given_scores, np.float32)
        early_exit.see(window, answer(**more), 1000.0)
    return count


def test_windows_that_overlap_count_less() -> None:
    options = EarlyExitOptions(windows=10, confidence=0.95)
    likely = [0.8, 0.2]
    # 0.8 / 0.2 = 4: 4 to the power of 1 + weight * (n - 1) must reach 19.
    assert seen(EarlyExit(options, 1.0), *[likely] * 10) == 3
    assert seen(EarlyExit(options, 0.25), *[likely] * 10) == 6


def test_scores_that_are_no_numbers_are_no_evidence() -> None:
    assert seen(EarlyExit(EarlyExitOptions(windows=4), 1.0), *[[np.nan, 1.0]] * 4) == 4


def test_a_posterior_counts_in_place_of_scores() -> None:
    early_exit = EarlyExit(EarlyExitOptions(windows=4), 1.0)
    assert seen(early_exit, *[[1.0, 0.0]] * 4, posterior={"one": 0.6, "two": 0.4}) == 4
    assert seen(early_exit, *[[0.5, 0.5]] * 4, posterior={"one": 0.97, "two": 0.03}) == 1
    assert early_exit.take().saved_ns == 3000


# --- whether it pays


def test_a_saver_that_costs_more_than_it_saves_is_reported_once() -> None:
    economy = Economy()
    poor = {"gate": SavingCounts(600, 6, 1_000_000, 9_000_000)}
    rich = {"gate": SavingCounts(1200, 600, 99_000_000, 9_000_000)}
    assert list(economy.see(poor)) == []
    (news,) = economy.see(poor)
    assert news == (
        "`gate` costs more than it saves: 18 ms against 2 ms over 1,200 windows, of which it spared 12; "
        "change its options, or remove it"
    )
    assert [list(economy.see(poor)) for _ in range(4)] == [[]] * 4
    assert list(economy.see(rich)) == []
    assert [len(list(economy.see(poor))) for _ in range(2)] == [0, 1]


# --- what they do not suit


def test_a_model_that_keeps_state_runs_on_each_window(tmp_path: Path) -> None:
    model = models.accumulator(tmp_path / "sum.tflite", 3)
    decoder = {"kind": "regress"}
    with pytest.raises(ModelError, match="`gate` and `cache`: the model keeps state from window to window"):
        planned(tmp_path, model, decoder=decoder, stateful=True, gate=GateOptions(), cache=CacheOptions())


def test_early_exit_and_a_cascade_need_probabilities(tmp_path: Path) -> None:
    model = models.dense(tmp_path / "dense.tflite", 3, 3)
    with pytest.raises(ModelError, match="early_exit: the decoder 'regress' gives no probabilities"):
        planned(tmp_path, model, decoder={"kind": "regress"}, early_exit=EarlyExitOptions(windows=4))


def test_stages_that_need_each_sample_refuse_early_exit(tmp_path: Path) -> None:
    model = classifier(tmp_path, "large", 1.0)
    with pytest.raises(ModelError, match=r"early_exit: it leaves windows out. .*keeps its state"):
        planned(
            tmp_path,
            model,
            window=WindowSpec(size=1),
            transforms=[{"kind": "filter", "taps": [0.5, 0.5]}],
            early_exit=EarlyExitOptions(windows=4),
        )

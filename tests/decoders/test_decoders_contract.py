"""What holds for every decoder. A new one adds its cases here."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import jsonschema
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limpet import plugins
from limpet.contracts.data import FloatArray, TensorSpec, Window
from limpet.contracts.decoder import Abilities, Scoring
from support.memory import keeps_no_memory_of_others
from support.stages import decoded, output_spec, window

FLOAT = np.dtype(np.float32)


@dataclass(frozen=True)
class Case:
    """A decoder that can be opened and, with ``refusal``, one that cannot be."""

    kind: str
    options: dict[str, Any]
    shapes: tuple[tuple[int, ...], ...]
    labels: tuple[str, ...] = ()
    refusal: str = ""
    types: tuple[str, ...] = ()
    scale: tuple[float, ...] = ()
    zero_point: tuple[int, ...] = ()

    @property
    def abilities(self) -> Abilities:
        return plugins.abilities(plugins.load("decoders", self.kind), Abilities)

    def open(self) -> Any:
        module = plugins.load("decoders", self.kind)
        outputs = [
            TensorSpec(f"out{number}", shape, np.dtype(kind), self.scale, self.zero_point)
            for number, (shape, kind) in enumerate(zip(self.shapes, self.kinds, strict=True))
        ]
        return module.open(msgspec.convert(self.options, module.Config), output_spec(outputs, self.labels))

    @property
    def kinds(self) -> tuple[str, ...]:
        return self.types or ("float32",) * len(self.shapes)

    @property
    def sizes(self) -> list[tuple[int, ...]]:
        return [tuple(1 if size == -1 else size for size in shape) for shape in self.shapes]

    def outputs(self, seed: int = 0) -> list[FloatArray]:
        rng = np.random.default_rng(seed)
        reals = [rng.uniform(-3, 3, shape) for shape in self.sizes]
        if self.scale:  # what the runtime gives of a quantized output
            return [values.astype(np.float32) for values in reals]
        return [
            values.astype(kind) if kind.startswith("float") else np.asarray(np.abs(values) // 1 % 2).astype(kind)
            for values, kind in zip(reals, self.kinds, strict=True)
        ]


ABC = ("a", "b", "c")

WORKING = [
    Case("classify", {}, ((1, 3),), ABC),
    Case("classify", {"labels": ["x", "y"], "top_k": 5, "activation": "softmax"}, ((-1, 2),), ABC),
    Case("classify", {"threshold": 0.4, "activation": "sigmoid", "top_k": 2}, ((3,),), ABC),
    Case("classify", {}, ((1, 1, 1000), (1, 7))),
    Case("classify", {"activation": "sigmoid"}, ((1, 1),), ("no", "yes")),
    Case("classify", {"activation": "sigmoid", "top_k": 2, "threshold": 0.8}, ((-1,),), ("no", "yes")),
    Case("classify", {"activation": "sigmoid"}, ((),), ("no", "yes"), types=("float64",)),
    Case("classify", {"threshold": 0.5}, ((1, 1, 1),), ("wake",)),
    Case("classify", {}, ((1, 3),), ABC, types=("float16",)),
    Case("classify", {"top_k": 2}, ((1, 3),), ABC, types=("int8",), scale=(0.1,), zero_point=(3,)),
    Case("classify", {"output": "scores"}, ((1, 3),), ABC, types=("uint8",)),
    Case("classify", {}, ((1,),), ABC, types=("int64",)),
    Case("classify", {}, ((1, 1),), types=("int32",)),
    Case("classify", {}, ((),), ("no", "yes"), types=("bool",)),
    Case("classify", {"output": "index", "top_k": 2}, ((1, 3),), ABC, types=("int32",)),
    Case("classify", {"top_k": 2}, ((1, 3), (1, 3)), ABC, types=("float32", "int32")),
    Case("classify", {"threshold": 0.5}, ((1,), (1, 3)), ABC, types=("int64", "float32")),
    Case("classify", {"temperature": 2, "activation": "softmax", "top_k": 3}, ((1, 3),), ABC),
    Case("classify", {"temperature": 0.5, "activation": "sigmoid", "threshold": 0.7}, ((1, 1),), ("no", "yes")),
    Case("anomaly", {"threshold": 0.5}, ((1, 9),)),
    Case("anomaly", {"threshold": 0.5}, ((1, 9),), types=("uint8",)),
    Case("anomaly", {"threshold": 2, "release": 1, "rise": 2, "fall": 3, "metric": "mae"}, ((-1, 16, 3), (1, 4))),
    Case("anomaly", {"threshold": -1, "metric": "output"}, ((1, 1),)),
    Case("anomaly", {"metric": "learning"}, ((1,), (1,), (1,))),
    Case("anomaly", {"metric": "learning", "threshold": 2, "release": 1, "rise": 2}, ((1,), (1, 1), (-1,))),
    Case("detect", {}, ((1, 7, 40),), ABC),
    Case("detect", {"pixels": [3, 3], "activation": "sigmoid", "threshold": 0.1, "most": 3}, ((-1, 40, 8),), ABC),
    Case("detect", {"labels": ["x"], "overlap": 1}, ((30, 6),), ABC),
    Case("detect", {"layout": "yolov8"}, ((1, 40, 9),)),
    Case("detect", {}, ((1, 4, 40), (1, 40, 3)), ABC),
    Case("detect", {"layout": "yolov5"}, ((1, 40, 6), (1, 40, 4))),
    Case("detect", {"threshold": -1}, ((1, 5, 4), (1, 5), (1, 5), (1,)), ABC),
    Case("detect", {"threshold": 0}, ((1, 5), (1, 5, 4), (1,), (1, 5))),
    Case("detect", {"anchors": {"strides": [32]}, "pixels": [64, 64]}, ((1, 8, 4), (1, 8, 4)), ABC),
    Case("detect", {"layout": "yolox", "pixels": [32, 32], "suppression": "all"}, ((1, 21, 8),), ABC),
    Case("detect", {}, ((1, 7, 40),), ABC, types=("int8",), scale=(0.02,), zero_point=(3,)),
    Case("keypoints", {"threshold": -3}, ((1, 1, 17, 3),)),
    Case("keypoints", {}, ((1, 6, 56),)),
    Case("keypoints", {"threshold": 0}, ((1, 56, 44),), ("person",)),
    Case("keypoints", {"threshold": -3, "names": ["a", "b", "c"]}, ((1, 8, 9, 3),)),
    Case("keypoints", {"threshold": -3}, ((1, 195), (1, 1), (1, 117))),
    Case("keyword", {"windows": 2, "threshold": 0.1}, ((1, 1),), ("okay nabu",)),
    Case("keyword", {"activation": "softmax", "refractory": 0}, ((-1, 4),), ("silence", "yes", "no", "unknown")),
    Case("keyword", {}, ((1, 2),), ("yes", "no"), types=("uint8",), scale=(1 / 256,), zero_point=(0,)),
    Case("keyword", {"temperature": 3}, ((1, 1),), ("okay nabu",)),
    Case("multilabel", {"threshold": 0, "thresholds": {"b": -1}, "most": 2}, ((1, 1, 3),), ABC),
    Case("multilabel", {"activation": "sigmoid"}, ((5,),)),
    Case("multilabel", {"activation": "sigmoid", "temperature": 2}, ((1, 3),), ABC),
    Case("embed", {}, ((1, 4),)),
    Case("embed", {"prototypes": {"x": [1, 0], "y": [0, 2]}, "vector": False, "top_k": 1}, ((-1, 1, 2),)),
    Case("cluster", {"centres": [[0, 0], [1, 1]], "radius": 0.5, "labels": ["x", "y"]}, ((1, 2),)),
    Case("cluster", {"centres": [[1, 0, 1]], "metric": "cosine", "mean": [1, 2, 3], "std": [1, 1, 2]}, ((-1, 3),)),
    Case("cluster", {"centres": [[0], [1]], "radius": [1, 2]}, ((1,),), types=("int32",)),
    Case("tensor", {}, ((1, 3), (2, 2), ())),
    Case("tensor", {"outputs": ["out1"], "most": 4}, ((1, 3000), (2, 2)), types=("float32", "bool")),
    Case("tensor", {}, ((-1, 3),), types=("float16",)),
    Case("segment", {"least": 0}, ((1, 12, 16, 3),), ABC),
    Case("segment", {"form": "rle", "png": True}, ((1, 3, 12, 16),), ABC),
    Case("segment", {"activation": "sigmoid", "threshold": 0.4}, ((1, 12, 16, 1),)),
    Case("segment", {"png": True, "form": "none"}, ((1, 12, 16),), ABC, types=("int64",)),
    Case("segment", {"threshold": 0, "png": True}, ((1, 7 + 4, 40), (1, 12, 16, 4)), ABC),
    Case("segment", {"threshold": 0, "form": "rle"}, ((1, 40, 7 + 4), (1, 4, 12, 16)), ABC),
    Case("regress", {}, ((1, 1),)),
    Case("regress", {"names": ["t", "h"], "unit": ["°C", ""], "scale": [0.1, 1], "offset": 2}, ((-1, 2),)),
    Case("regress", {"range": [[0, 1], [-1, 0], [-2, 2]]}, ((1, 2), (1,)), ABC),
]

REFUSED = [
    Case("keyword", {}, ((1, 2),), ("silence", "unknown"), "are background"),
    Case("keyword", {}, ((1, 2),), ABC, "3 labels for 2 scores"),
    Case("keyword", {}, ((4, 2),), ("a", "b"), "one row of numbers"),
    Case("keyword", {}, (), (), "has no output"),
    Case("keyword", {"threshold": float("nan")}, ((1, 1),), (), "threshold must be a number"),
    Case("multilabel", {}, ((1, 2),), ("a", "a"), "'a' appears twice"),
    Case("multilabel", {"thresholds": {"d": 1}}, ((1, 3),), ABC, "'d', which is no label"),
    Case("multilabel", {}, ((1, 3),), ABC, "has |S", types=("S",)),
    Case("embed", {"prototypes": {"x": [1]}}, ((1, 2),), (), "'x' has 1 numbers, and the model gives 2"),
    Case("embed", {"prototypes": {"x": [0, 0]}}, ((1, 2),), (), "that are not all 0"),
    Case("embed", {}, ((1, 5000),), (), "at most 4096 numbers"),
    Case("cluster", {"centres": [[0, 0]]}, ((1, 3),), (), "a centre has 2 numbers"),
    Case("cluster", {"centres": [[0], [1, 2]]}, ((1, 1),), (), "equally many numbers, not 1 and 2"),
    Case("cluster", {"centres": [[0]], "radius": [1, 2]}, ((1, 1),), (), "radius has 2 numbers for 1 centres"),
    Case("cluster", {"centres": [[0]], "metric": "cosine"}, ((1, 1),), (), "has no direction"),
    Case("cluster", {"centres": [[float("inf")]]}, ((1, 1),), (), "must be finite"),
    Case("tensor", {"most": 5}, ((2, 3),), (), "have 6 numbers, and `most` is 5"),
    Case("tensor", {"outputs": ["x"]}, ((2, 3),), (), "no output 'x'"),
    Case("tensor", {}, (), (), "it has none"),
    Case("classify", {}, ((1, 4),), ABC, "3 labels for the 4 classes"),
    Case("classify", {"labels": ["x"]}, ((1, 3),), ABC, "1 labels for the 3 classes"),
    Case("classify", {}, ((8, 3),), ABC, "one row of scores"),
    Case("classify", {}, ((1, -1),), ABC, "one row of scores"),
    Case("classify", {}, (), ABC, "one row of scores"),
    Case("classify", {}, ((1, 1001),), tuple(map(str, range(1000))), "if its class 0 is the background"),
    Case("classify", {}, ((1, 1000),), tuple(map(str, range(1001))), "if the first label is the background"),
    Case("classify", {}, ((1, 1),), ABC, '3 labels for the 1 classes .* set output = "index"'),
    Case("classify", {}, ((1, 1),), ("wake",), "single score; give two labels"),
    Case("classify", {}, ((1, 1),), (), "single score; give two labels"),
    Case("classify", {"activation": "softmax"}, ((1, 1),), ("no", "yes"), 'softmax makes 1 of it; use "sigmoid"'),
    Case("classify", {}, ((1, 3),), ABC, "3 integers .int32. that are not quantized", types=("int32",)),
    Case("classify", {}, ((1,),), ABC, "one uint8 that is not quantized", types=("uint8",)),
    Case("classify", {"threshold": 0.5}, ((1,),), ABC, "has no score; remove threshold", types=("int64",)),
    Case("classify", {}, ((1,),), ABC, "3 labels for the 2 values of the bool", types=("bool",)),
    Case("classify", {}, ((1, 3),), ABC, "'out0' has text", types=("S",)),
    Case("classify", {}, ((1, 8, 8, 3),), ABC, "one row of scores"),
    Case(
        "classify", {"activation": "softmax"}, ((1, 5), (1, 5)), ABC, "of all classes", types=("float32", "int32")
    ),
    Case("classify", {"threshold": float("nan")}, ((1, 3),), ABC, "threshold must be a number"),
    Case(
        "classify",
        {},
        ((1, 1),),
        ("no", "yes"),
        'no probability; set activation = "sigmoid"',
        types=("int8",),
        scale=(1 / 16,),
        zero_point=(3,),
    ),
    Case(
        "classify",
        {"activation": "softmax"},
        ((1, 3),),
        ABC,
        "already is a probability",
        types=("int8",),
        scale=(1 / 256,),
        zero_point=(-128,),
    ),
    Case(
        "classify",
        {"activation": "sigmoid"},
        ((1, 1),),
        ("no", "yes"),
        "already is a probability",
        types=("int16",),
        scale=(1 / 32768,),
        zero_point=(0,),
    ),
    Case(
        "classify",
        {},
        ((1, 1),),
        ("no", "yes"),
        'no probability; set activation = "sigmoid"',
        types=("int16",),
        scale=(8 / 32768,),
        zero_point=(0,),
    ),
    Case("classify", {"top_k": 0}, ((1, 3),), ABC, "top_k"),
    Case("classify", {"temperature": 0}, ((1, 3),), ABC, "temperature"),
    Case("classify", {"temperature": 2}, ((1,),), ABC, "has no score; remove threshold", types=("int64",)),
    Case("classify", {"temperature": 2}, ((1, 3), (1, 3)), ABC, "temperature needs", types=("float32", "int32")),
    Case("classify", {"activation": "relu"}, ((1, 3),), ABC, "activation"),
    Case("anomaly", {}, ((1, 9),), (), "threshold"),
    Case("anomaly", {"threshold": float("nan")}, ((1, 9),), (), "threshold must be a number"),
    Case("anomaly", {"threshold": 1, "release": 2}, ((1, 9),), (), "must not be above threshold"),
    Case("anomaly", {"threshold": 1, "rise": 0}, ((1, 9),), (), "rise"),
    Case("anomaly", {"threshold": 1, "metric": "output"}, ((1, 9),), (), "takes a score"),
    Case("anomaly", {"threshold": 1}, (), (), "with an output"),
    Case("detect", {}, ((1, 9, 40),), ABC, "with 3 labels. For each box, yolov8 then has 7 numbers, yolov5 8"),
    Case("detect", {}, ((1, 9, 40),), (), "Set labels, one for each class, or layout"),
    Case("detect", {"layout": "yolov5"}, ((1, 7, 40),), ABC, "yolov5 has 4 numbers and 4 scores for each box"),
    Case("detect", {}, ((1, 2, 7, 40),), ABC, "tables of boxes"),
    Case("detect", {}, ((1, 7, -1),), ABC, "tables of boxes"),
    Case("detect", {}, ((7,),), ABC, "tables of boxes"),
    Case("detect", {}, ((1, 4, 9), (1, 3, 8)), ABC, r"shape \[1, 4, 9\], \[1, 3, 8\] is unclear"),
    Case("detect", {}, ((1, 4, 9), (1, 3, 9), (1, 9)), ABC, "unclear"),
    Case("detect", {}, (), ABC, "outputs of shape none"),
    Case("detect", {"layout": "ssd"}, ((1, 7, 40),), ABC, "four outputs"),
    Case("detect", {}, ((1, 5), (1, 5), (1, 5, 4), (1,)), ABC, "in this order"),
    Case("detect", {}, ((1, 5, 4), (1, 5), (1, 6), (1,)), ABC, "in this order"),
    Case("detect", {"pixels": [320]}, ((1, 7, 40),), ABC, "pixels must be"),
    Case("detect", {"threshold": float("nan")}, ((1, 7, 40),), ABC, "threshold must be a number"),
    Case("detect", {"overlap": 2}, ((1, 7, 40),), ABC, "overlap"),
    Case("detect", {"layout": "yolo"}, ((1, 7, 40),), ABC, "layout"),
    Case("anomaly", {"threshold": 1}, ((1, 9),), (), "takes numbers", types=("S",)),
    Case("detect", {}, ((1, 7, 40),), ABC, "int32 without quantization", types=("int32",)),
    Case("keypoints", {}, ((1, 9, 9),), (), "no layout that keypoints knows"),
    Case("keypoints", {}, ((1, 1, 17, 3),), (), "floats or quantized integers", types=("int32",)),
    Case("segment", {}, ((1, 12, 16, 4),), ABC, "unclear with 3 labels"),
    Case("segment", {"layout": "scores"}, ((1, 12, 16, 4),), ABC, "3 labels for the 4 classes"),
    Case("segment", {"layout": "scores"}, ((1, 12, 16),), ABC, "3 dimensions that are not 1"),
    Case("segment", {"layout": "scores"}, ((1, 3, 5000, 5000),), ABC, "at most 4194304 pixels"),
    Case("segment", {"layout": "scores"}, ((1, 512, 512, 300),), (), "at most 256 classes"),
    Case("segment", {}, ((1, 12),), ABC, "takes masks"),
    Case("segment", {}, (), ABC, "unclear"),
    Case("segment", {}, ((1, 11, 40), (1, 12, 16)), ABC, "table of boxes and prototypes"),
    Case("segment", {"layout": "probability"}, ((1, 12, 16),), (), "without quantization", types=("int32",)),
    Case("segment", {"threshold": float("nan")}, ((1, 12, 16, 1),), (), "threshold must be a number"),
    Case("segment", {"points": 2}, ((1, 12, 16, 1),), (), "points"),
    Case("regress", {}, ((1, 2),), (), "takes numbers", types=("S",)),
    Case(
        "regress",
        {},
        ((1, 64, 64, 3),),
        (),
        r"at most 4096 numbers, and .*\[1, 64, 64, 3\] have 12288\. Choose",
    ),
    Case("regress", {"names": ["t"]}, ((1, 2),), (), "1 names for the 2 numbers"),
    Case("regress", {}, ((1, 2),), ABC, "3 names for the 2 numbers"),
    Case("regress", {"names": ["t", "t"]}, ((1, 2),), (), "'t' appears twice"),
    Case("regress", {"scale": [1, 2, 3]}, ((1, 2),), (), "scale has 3 entries for the 2 numbers"),
    Case("regress", {"range": [3, 1]}, ((1, 2),), (), "range must be"),
    Case("regress", {"range": [1]}, ((1, 2),), (), "range must be"),
    Case("regress", {"range": [[0, 1], [0, 1], [0, 1]]}, ((1, 2),), (), "range has 3 entries"),
    Case("regress", {}, ((1, -1),), (), "is open"),
    Case("regress", {}, (), (), "with an output"),
]


def named(case: Case) -> str:
    return f"{case.kind}-{list(case.options)}-{list(case.shapes)}-{list(case.types)}"


working = pytest.mark.parametrize("case", WORKING, ids=named)
each_kind = pytest.mark.parametrize("kind", plugins.names("decoders"))


@cache
def validator(kind: Any) -> Any:
    return jsonschema.Draft202012Validator(msgspec.json.schema(kind))


def conforms(case: Case, output: Any) -> None:
    """Check that an output is what its schema says, on every way that it can leave the device."""
    kind = plugins.load("decoders", case.kind).ABILITIES.output
    text = msgspec.json.encode(output)
    assert msgspec.json.decode(text, type=kind) == output
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(output), type=kind) == output
    validator(kind).validate(msgspec.json.decode(text))


def test_every_decoder_has_cases() -> None:
    kinds = set(plugins.names("decoders"))
    assert {case.kind for case in WORKING} == kinds
    assert {case.kind for case in REFUSED} == kinds


@working
def test_many_windows_are_decoded_as_one_by_one(case: Case) -> None:
    if not case.abilities.batches or any(shape[0] not in {1, -1} for shape in case.shapes):
        return
    alone, together = case.open(), case.open()
    batches = [case.outputs(seed) for seed in range(40)]
    seen = [outputs[0].astype(np.float32) * np.float32(0.5) for outputs in batches]
    one_by_one = [decoded(alone, outputs, [values]) for outputs, values in zip(batches, seen, strict=True)]
    stacked = [np.concatenate(tensors) for tensors in zip(*batches, strict=True)]
    windows = [window(outputs[0]) for outputs in batches]
    together.decode_batch(windows, stacked, [np.stack(seen)])
    assert [one.result for one in windows] == one_by_one


@each_kind
def test_it_says_what_its_output_is(kind: str) -> None:
    assert plugins.load("decoders", kind).ABILITIES.output.__doc__


@pytest.mark.parametrize("case", REFUSED, ids=named)
def test_what_cannot_work_is_refused_with_the_reason(case: Case) -> None:
    with pytest.raises(ValueError, match=case.refusal):
        case.open()


@working
def test_an_output_conforms_to_its_schema(case: Case) -> None:
    conforms(case, decoded(case.open(), case.outputs(), case.outputs(seed=1)))


@working
def test_an_output_does_not_change_with_the_next_call(case: Case) -> None:
    decoder, outputs, inputs = case.open(), case.outputs(), case.outputs(seed=1)
    first = decoded(decoder, outputs, inputs)
    before = msgspec.json.encode(first)
    for output in outputs:
        np.add(output, 1, output, casting="unsafe")
    decoded(decoder, outputs, inputs)
    assert msgspec.json.encode(first) == before


@working
def test_tensors_are_left_as_they_were(case: Case) -> None:
    outputs, inputs = case.outputs(), case.outputs(seed=1)
    decoded(case.open(), outputs, inputs)
    for tensors, seed in ((outputs, 0), (inputs, 1)):
        for tensor, before in zip(tensors, case.outputs(seed), strict=True):
            np.testing.assert_array_equal(tensor, before)


strange = st.sampled_from([float("nan"), float("inf"), float("-inf"), 3e38, -3e38, 1e-45]) | st.floats(width=32)
edits = st.lists(st.tuples(st.integers(0, 10_000), strange), max_size=4)


def spoilt(tensors: list[FloatArray], edits: list[tuple[int, float]]) -> list[FloatArray]:
    for tensor in tensors:
        for position, value in edits:
            if tensor.dtype.kind == "f":
                tensor.flat[position % tensor.size] = value
    return tensors


@working
@settings(max_examples=30)
@given(calls=st.lists(st.tuples(edits, edits), min_size=1, max_size=3))
def test_whatever_the_model_gives_the_output_conforms(
    case: Case, calls: list[tuple[list[tuple[int, float]], list[tuple[int, float]]]]
) -> None:
    decoder = case.open()
    for outputs, inputs in calls:
        with np.errstate(all="ignore"):  # whether numpy warns is the caller's choice
            output = decoded(decoder, spoilt(case.outputs(), outputs), spoilt(case.outputs(), inputs))
        conforms(case, output)


def windows_of(case: Case, count: int) -> list[Window]:
    return [
        window(outputs[0], outputs=outputs, inputs=case.outputs(seed + 100))
        for seed in range(count)
        for outputs in [case.outputs(seed)]
    ]


@working
def test_memory_that_it_gets_is_left_alone_and_not_needed_afterwards(case: Case) -> None:
    keeps_no_memory_of_others(case.open, windows_of(case, 4), lambda found: found.result)


@working
def test_after_a_reset_it_goes_on_as_if_newly_opened(case: Case) -> None:
    used, (*first, last), (*_, same) = case.open(), windows_of(case, 4), windows_of(case, 4)
    for one in first:
        used(one)
    used.reset()
    assert used(last).result == case.open()(same).result


@working
def test_inputs_make_no_difference_to_one_that_does_not_read_them(case: Case) -> None:
    if not case.abilities.reads_inputs:
        with_inputs, without = (decoded(case.open(), case.outputs(), inputs) for inputs in (case.outputs(1), ()))
        assert with_inputs == without


@working
def test_a_threshold_can_be_set_if_it_is_declared(case: Case) -> None:
    decoder = case.open()
    if not case.abilities.threshold:
        assert case.kind in {"cluster", "regress", "tensor"}
        return
    try:
        decoder.set_threshold(1e9)
    except ValueError as error:
        assert "no score" in str(error)  # noqa: PT017 - only some have no threshold as configured
    else:
        found = msgspec.to_builtins(decoded(decoder, case.outputs(), case.outputs(seed=1)))
        assert not any(found.get(key) for key in ("detections", "poses", "anomalous", "label"))


@working
def test_its_own_spec_says_what_the_next_pipeline_would_see(case: Case) -> None:
    decoder, (one,) = case.open(), windows_of(case, 1)
    assert len(decoder.spec.shape) == decoder(one).values.ndim


@working
def test_scores_are_set_for_each_label_once_they_are_wanted(case: Case) -> None:
    decoder = case.open()
    assert isinstance(decoder, Scoring) == case.abilities.scores
    if not case.abilities.scores:
        return
    first, second = windows_of(case, 2)
    assert decoder(first).scores is None
    try:
        decoder.want_scores()
    except ValueError as error:
        assert "not of each class" in str(error) or "no score of each class" in str(error)  # noqa: PT017 - only some
        return
    first, second = decoder(first), decoder(second)
    assert first.scores is not None
    assert second.scores is not None
    assert first.scores.dtype == second.scores.dtype == FLOAT
    assert first.scores.shape == second.scores.shape == (len(decoder.spec.labels),)
    assert not np.shares_memory(first.scores, second.scores)
    broken = [np.full_like(tensor, np.nan) for tensor in case.outputs() if tensor.dtype.kind == "f"]
    if len(broken) == len(case.shapes):
        assert decoder(window(broken[0], outputs=broken)).scores is None

"""Detection: targets from a file, COCO's average precision by hand, and two detectors compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from limpet.errors import ConfigError
from limpet_convert import compare, data, detections, layers, misfit, project
from limpet_convert.data import Windows
from limpet_convert.detections import Boxes, Reader
from limpet_convert.errors import ConvertError
from limpet_convert.project import Bundle, Verify
from support import models

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from limpet.contracts.data import FloatArray

LABELS = ["cat", "dog"]
LEFT, RIGHT = (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0)


def boxes(*found: tuple[Sequence[float], int, float]) -> Boxes:
    ordered = sorted(found, key=lambda one: -one[2])
    return Boxes(
        np.array([one[0] for one in ordered], float).reshape(-1, 4),
        np.array([one[1] for one in ordered], np.int64),
        np.array([one[2] for one in ordered], float),
    )


TRUE = [boxes((LEFT, 0, 1)), boxes((LEFT, 0, 1), (RIGHT, 1, 1))]
FOUND = [boxes((LEFT, 0, 0.9)), boxes((LEFT, 0, 0.8), (RIGHT, 1, 0.9))]


def worth(found: list[Boxes]) -> Any:
    return detections.metrics(found, found, TRUE, LABELS)


def test_what_is_all_found_is_worth_one_and_nothing_nothing() -> None:
    assert (worth(FOUND)["map"], worth(FOUND)["map50"], worth(FOUND)["f1"]) == pytest.approx((1, 1, 1))
    assert worth([boxes(), boxes()])["map"] == 0
    assert worth([boxes((LEFT, 1, 0.9)), boxes()])["map50"] == 0


def test_a_second_box_on_an_object_is_wrong_and_costs_by_where_it_ranks() -> None:
    last = worth([boxes((LEFT, 0, 0.9), (LEFT, 0, 0.1)), FOUND[1]])
    first = worth([boxes((LEFT, 0, 0.9), (LEFT, 0, 0.95)), FOUND[1]])
    assert last["classes"]["cat"]["ap"] == pytest.approx(1)
    # Right, wrong, right: precision 1 up to recall .5, which is 51 of 101 recalls, and 2/3 beyond.
    assert first["classes"]["cat"]["ap"] == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert first["classes"]["cat"]["precision"] == pytest.approx(2 / 3)


def test_a_box_aside_counts_at_the_overlaps_that_it_has() -> None:
    aside = (0.1, 0.0, 0.5, 1.0)  # 0.8 of the union
    found = worth([boxes((aside, 0, 0.9)), boxes((aside, 0, 0.8), (RIGHT, 1, 0.9))])
    assert found["classes"]["cat"]["ap50"] == pytest.approx(1)
    assert found["classes"]["cat"]["ap"] == pytest.approx(0.7)
    assert found["map"] == pytest.approx(0.85)


def test_a_label_that_is_nowhere_does_not_count() -> None:
    found = detections.metrics(FOUND[:1], FOUND[:1], TRUE[:1], LABELS)
    assert (found["map"], found["classes"]["dog"]["count"]) == (1, 0)


def test_agreement_takes_boxes_and_labels_both_ways() -> None:
    assert detections.agreement(FOUND, FOUND) == 1
    assert detections.agreement([boxes()], [boxes()]) == 1
    assert detections.agreement(FOUND, [FOUND[0], boxes()]) == pytest.approx(1 / 3)
    assert detections.agreement([FOUND[0], boxes()], FOUND) == pytest.approx(1 / 3)
    turned = [boxes((LEFT, 1, 0.9)), FOUND[1]]
    assert detections.agreement(FOUND, turned) == pytest.approx(2 / 3)
    assert detections.changes(FOUND, turned, LABELS) == [{"from": "cat", "to": "dog", "detections": 1}]
    gone = detections.changes(FOUND, [boxes(), FOUND[1]], LABELS)
    assert gone == [{"from": "cat", "to": "nothing", "detections": 1}]
    assert detections.changes([boxes(), FOUND[1]], FOUND, LABELS)[0]["from"] == "nothing"


def test_targets_are_lines_of_what_the_device_would_report(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('[{"label": "dog", "box": [0.5, 0, 1, 1], "score": 1}]\n[]\n')
    targets = detections.read_targets(path, LABELS)
    assert targets.tolist() == [[[1, 0.5, 0, 1, 1]], [[-1] * 5]]
    assert detections.truth(targets[0]).kinds.tolist() == [1]
    assert len(detections.truth(targets[1]).kinds) == 0


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('[{"label": "dgo", "box": [0, 0, 1, 1]}]', r"line 2: no label 'dgo' \(did you mean 'dog'\?\)"),
        ('[{"label": "dog", "box": [12, 40, 50, 90]}]', r"line 2: .* is no box: .* as fractions"),
        ('[{"label": "dog", "box": [0.5, 0, 0.5, 1]}]', "line 2: .* is no box"),
        ('[{"label": "dog"}]', "line 2: .*`box`.*a line has what is in one window"),
        ("dog 0 0 1 1", "line 2: .*a line has what is in one window"),
        ("", "line 2: "),
    ],
)
def test_a_line_that_cannot_be_is_named(tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "t.jsonl").write_text(f"[]\n{line}\n[]\n")
    with pytest.raises(ConvertError, match=said):
        detections.read_targets(tmp_path / "t.jsonl", LABELS)


def bundle(**options: Any) -> Bundle:
    decoder = {"kind": "detect", "pixels": [100, 100]} | options
    return Bundle(name="pets", version=1, task="detect", labels=LABELS, decoder=decoder)


def head(*truths: tuple[Sequence[float], int, float]) -> FloatArray:
    """Return one output ``(1, 10, 6)`` of a YOLO in pixels."""
    made = np.zeros((1, 10, 6), np.float32)
    for row, (box, kind, score) in zip(made[0], truths, strict=False):
        left, top, right, bottom = np.array(box) * 100
        row[:4] = (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
        row[4 + kind] = score
    return made


def test_two_detectors_are_compared_as_the_device_reads_them() -> None:
    targets = np.array([[[0, *LEFT], [1, *RIGHT]]] * 2)
    windows = Windows(np.zeros((2, 4), np.float32), targets, {})
    exact = compare.Outputs([np.concatenate([head((LEFT, 0, 0.9), (RIGHT, 1, 0.8))] * 2)], 1000)
    other = compare.Outputs([np.concatenate([head((LEFT, 0, 0.9), (RIGHT, 1, 0.1))] * 2)], 300)
    found = compare.judged(compare.compare("int8", exact, other, windows, bundle(threshold=0.5)), Verify())
    # The dog is still found, if all boxes count, but not reported.
    assert (found.metric, found.agreement) == ("map", 0.5)
    assert found.metric_loss_points == pytest.approx(0)
    assert found.converted["classes"]["dog"]["recall"] == 0
    assert found.changes == [{"from": "dog", "to": "nothing", "detections": 2}]
    assert found.failures == ["agreement 50.00%, at least 98.00%"]
    groups = np.array(["day", "night"])
    by_group = compare.compare("int8", exact, other, windows, bundle(), groups).groups
    assert by_group == {"day": {"map": 1.0, "windows": 1}, "night": {"map": 1.0, "windows": 1}}


def test_detectors_that_find_nothing_agree_without_proof() -> None:
    windows = Windows(np.zeros((1, 4), np.float32), np.array([[[0, *LEFT]]]), {})
    empty, some = compare.Outputs([head()], 1000), compare.Outputs([head((LEFT, 0, 0.9))], 1000)
    found = compare.compare("int8", empty, empty, windows, bundle(threshold=0.5))
    assert found.agreement == 1
    assert found.notes[0].startswith("neither model finds a box in any window, so agreement says nothing")
    assert compare.compare("int8", some, empty, windows, bundle(threshold=0.5)).notes == []


def test_outputs_that_the_decoder_cannot_read_are_refused() -> None:
    with pytest.raises(ConvertError, match="unclear with 2 labels"):
        Reader.of(bundle()).specs([(1, 10, 9)])
    with pytest.raises(ConfigError) as caught:
        Reader.of(bundle(pixel=[100, 100]))
    assert list(caught.value.problems) == ["bundle.decoder.pixel: unknown key (did you mean 'pixels'?)"]


@pytest.mark.parametrize(
    ("shapes", "layout", "sizes"),
    [
        ([(1, 10, 6)], "auto", [40, 20]),
        ([(1, 7, 30)], "auto", [120, 90]),
        ([(1, 8, 6)], "end2end", [32, 16]),
        ([(1, 2, 30), (1, 4, 30)], "auto", [120, 60]),
        ([(1, 5, 4), (1, 5), (1, 5), (1,)], "auto", [20, 5, 5, 1]),
    ],
)
def test_boxes_and_scores_are_measured_apart(shapes: Any, layout: str, sizes: list[int]) -> None:
    parts = Reader.of(bundle(layout=layout)).parts(shapes)
    assert [len(part) for part in parts] == sizes
    assert sorted(np.concatenate(parts)) == list(range(sum(sizes)))
    if shapes == [(1, 10, 6)]:
        assert parts[1].tolist()[:2] == [4, 10]


@pytest.fixture
def joined(tmp_path: Path) -> tuple[bytes, bytes]:
    """A model that joins its input times 100 with its input, in float, and in int8 with one scale for both."""
    return (
        models.joined(tmp_path / "float.tflite", int8=False).read_bytes(),
        models.joined(tmp_path / "int8.tflite").read_bytes(),
    )


def test_boxes_and_scores_on_one_scale_are_named_with_what_to_do(joined: tuple[bytes, bytes]) -> None:
    inputs = np.random.default_rng(0).uniform(0, 1, (20, 1, 4)).astype(np.float32)
    parts = [np.arange(4), np.arange(4, 8)]
    found = layers.diagnose(*joined, inputs, parts=parts)
    assert found.faulty_layer is not None
    assert (found.faulty_layer.kind, found.faulty_layer.cause) == ("CONCATENATION", "shared")
    assert "`boxes` (" in found.faulty_layer.why
    assert "joined in one tensor and share its scale. Its step of 0.4 leaves 2.5 steps" in found.faulty_layer.why
    # As one vector the large ones drown the small ones: that is why they are measured apart.
    assert layers.diagnose(*joined, inputs).faulty_layer is None


def pictures(folder: Path, lines: str) -> project.Project:
    """Return a project with two pictures of 4 x 4 pixels to test with, and what is in them."""
    np.save(folder / "pictures.npy", np.arange(32, dtype=np.uint8).reshape(2, 4, 4, 1))
    (folder / "targets.jsonl").write_text(lines)
    models.dense(folder / "m.tflite", 16, 9, int8=False)
    decoder = {"kind": "detect"}
    tables = {
        "model": {"path": "m.tflite"},
        "data": {"calibration": "pictures.npy", "test": "pictures.npy", "targets": "targets.jsonl"},
        "bundle": {"name": "pets", "version": 1, "task": "detect", "labels": LABELS, "decoder": decoder},
    }
    return project.build(tables, folder / "convert.toml")


def test_each_picture_has_its_line(tmp_path: Path) -> None:
    found = data.held_back(pictures(tmp_path, '[]\n[{"label": "cat", "box": [0, 0, 1, 1]}]\n'))
    assert found.values.shape == (2, 1, 4, 4, 1)
    assert found.targets is not None
    assert [detections.truth(target).kinds.tolist() for target in found.targets] == [[], [0]]
    with pytest.raises(ConvertError, match="1 targets for 2 windows"):
        data.held_back(pictures(tmp_path, "[]\n"))


def test_a_model_that_gives_no_detections_is_refused_before_anything_is_run(tmp_path: Path) -> None:
    wanted = pictures(tmp_path, "[]\n[]\n")
    with pytest.raises(ConvertError, match=r"bundle.decoder: .* shape \[1, 9\] is unclear with 2 labels"):
        misfit.refuse(wanted.model.path.read_bytes(), Windows(np.zeros((1, 16), np.float32), None, {}), wanted)

"""Descriptions read from specifications made by hand: arrays, images, flexible sizes, classifiers, state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from limpet.errors import ModelError
from limpet.models.coreml import specification
from support.coreml import coremltools

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")


@pytest.fixture
def spec() -> Any:
    made = coremltools.proto.Model_pb2.Model()
    made.specificationVersion = 4
    made.neuralNetwork.SetInParent()
    return made


def add_array(features: Any, name: str, shape: tuple[int, ...], kind: str = "FLOAT32") -> Any:
    feature = features.add()
    feature.name = name
    array = feature.type.multiArrayType
    array.shape.extend(shape)
    array.dataType = array.ArrayDataType.Value(kind)
    return array


@pytest.mark.parametrize("kind", ["FLOAT16", "FLOAT32", "INT32"])
def test_arrays(spec: Any, kind: str) -> None:
    add_array(spec.description.input, "motion", (1, 6, 20), kind)
    add_array(spec.description.output, "activity", (1, 4))
    found = specification.describe(spec)
    assert (found.kind, found.macos, found.stateful) == ("neuralNetwork", "10.15", False)
    (motion,) = found.inputs
    assert (motion.spec.name, motion.spec.shape, motion.spec.dtype) == (
        "motion",
        (1, 6, 20),
        np.dtype(kind.lower()),
    )
    assert found.outputs[0].spec.shape == (1, 4)


def test_sizes_that_may_vary(spec: Any) -> None:
    ranged = add_array(spec.description.input, "ranged", (1, 20))
    for low, high in ((1, 1), (10, -1)):
        ranged.shapeRange.sizeRanges.add(lowerBound=low, upperBound=high)
    chosen = add_array(spec.description.input, "chosen", (1, 20, 3))
    for length in (20, 40):
        chosen.enumeratedShapes.shapes.add(shape=[1, length, 3])
    assert [feature.spec.shape for feature in specification.describe(spec).inputs] == [(1, -1), (1, -1, 3)]


@pytest.mark.parametrize(
    ("space", "layout", "shape"),
    [("RGB", "RGB", (48, 64, 3)), ("BGR", "BGR", (48, 64, 3)), ("GRAYSCALE", "GRAYSCALE", (48, 64))],
)
def test_images(spec: Any, space: str, layout: str, shape: tuple[int, ...]) -> None:
    feature = spec.description.input.add()
    feature.name = "photo"
    image = feature.type.imageType
    image.height, image.width, image.colorSpace = 48, 64, image.ColorSpace.Value(space)
    (photo,) = specification.describe(spec).inputs
    assert (photo.layout, photo.spec.shape, photo.spec.dtype) == (layout, shape, np.uint8)


@pytest.mark.parametrize("labels", [["gull", "tern"], [7, 8]])
def test_a_classifier(spec: Any, labels: list[Any]) -> None:
    classes = "stringClassLabels" if isinstance(labels[0], str) else "int64ClassLabels"
    getattr(spec.neuralNetworkClassifier, classes).vector.extend(labels)
    spec.description.output.add(name="label").type.stringType.SetInParent()
    spec.description.output.add(name="scores").type.dictionaryType.stringKeyType.SetInParent()
    found = specification.describe(spec)
    assert found.labels == tuple(map(str, labels))
    (scores,) = found.outputs  # the label follows from them
    assert (scores.spec.name, scores.spec.shape, scores.scores) == ("scores", (2,), True)


@pytest.mark.parametrize(
    ("text", "labels"),
    [('["gull", "tern"]', ("gull", "tern")), ("gull", ()), ('{"0": "gull"}', ()), ("[1, 2]", ("1", "2"))],
)
def test_labels_in_the_metadata(spec: Any, text: str, labels: tuple[str, ...]) -> None:
    spec.description.metadata.userDefined[specification.LABELS] = text
    assert specification.describe(spec).labels == labels


def test_state(spec: Any) -> None:
    spec.description.state.add().name = "memory"
    assert specification.describe(spec).stateful


def test_an_input_that_limpet_cannot_give(spec: Any) -> None:
    spec.description.input.add(name="words").type.stringType.SetInParent()
    with pytest.raises(ModelError, match="'words' is a stringType"):
        specification.describe(spec)


@pytest.mark.parametrize("suffix", [".mlmodel", ".mlpackage"])
@pytest.mark.parametrize("content", [None, b"", b"hello", bytes(64)], ids=["absent", "empty", "short", "zeros"])
def test_what_is_no_model(tmp_path: Path, suffix: str, content: bytes | None) -> None:
    path = tmp_path / f"x{suffix}"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=path.name):
        specification.read(path)


def test_a_saved_mlmodel(spec: Any, tmp_path: Path) -> None:
    add_array(spec.description.input, "motion", (3,))
    path = tmp_path / "old.mlmodel"
    path.write_bytes(spec.SerializeToString())
    assert specification.read(path).inputs[0].spec.name == "motion"

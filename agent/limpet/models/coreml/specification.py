"""The description in a ``.mlpackage`` or ``.mlmodel``, on any system that coremltools installs on.

The messages are those of Apple's ``Model.proto`` and ``FeatureTypes.proto``.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from limpet.contracts.data import TensorSpec
from limpet.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LABELS = "labels"
"""Key of the user's metadata whose value is a JSON list of labels, for a model that is no Core ML classifier."""

_DTYPES = {65552: "float16", 65568: "float32", 65600: "float64", 131104: "int32", 131080: "int8"}
_LAYOUTS = {10: "GRAYSCALE", 20: "RGB", 30: "BGR", 40: "GRAYSCALE"}
_CLASSIFIERS = ("neuralNetworkClassifier", "pipelineClassifier", "glmClassifier", "treeEnsembleClassifier")
_MACOS = {4: "10.15", 5: "11", 6: "12", 7: "13", 8: "14", 9: "15"}
"""Least macOS by version of the specification; each also runs all earlier ones."""


@dataclass(frozen=True)
class Feature:
    """An input or an output. ``layout``: ``RGB``, ``BGR`` or ``GRAYSCALE`` for an image, empty for an array.

    An image is uint8 of shape (height, width, 3), a grey one (height, width). ``scores`` are a classifier's: in
    Core ML a mapping of labels, here a vector in the order of the labels.
    """

    spec: TensorSpec
    layout: str = ""
    scores: bool = False


@dataclass(frozen=True)
class Description:
    """``kind`` is the specification's: ``mlProgram``, ``neuralNetwork``, ``pipeline``. ``macos`` is the least."""

    kind: str
    macos: str
    inputs: tuple[Feature, ...]
    outputs: tuple[Feature, ...]
    labels: tuple[str, ...]
    metadata: dict[str, str]
    stateful: bool


def read(path: Path) -> Description:
    """Read a model's description. ``ModelError`` where it is no Core ML model or coremltools is missing."""
    return describe(load_spec(path))


def load_spec(path: Path) -> Any:
    """Return the model's ``Model`` message. ``ModelError`` as ``read`` has it."""
    coremltools = library()
    try:
        spec = coremltools.utils.load_spec(str(path))
    except Exception as error:  # Plain Exception, protobuf's, OSError: the library promises nothing.
        raise ModelError(f"{path.name} is not a Core ML model: {error}") from error
    if spec.WhichOneof("Type") is None:
        raise ModelError(f"{path.name} is not a Core ML model: it has none in it")
    return spec


def library() -> Any:
    """Import coremltools, without its warnings that macOS is not there. ``ModelError`` where it is missing."""
    logging.getLogger("coremltools").setLevel(logging.ERROR)
    try:
        import coremltools
    except ModuleNotFoundError as error:
        raise ModelError(
            f"Core ML models need the extra 'coreml', whose {error.name} is missing: pip install 'limpet[coreml]'"
        ) from error
    return coremltools


def describe(spec: Any) -> Description:
    """Return the inputs, outputs and labels of a ``Model`` message."""
    description, kind = spec.description, spec.WhichOneof("Type")
    metadata = dict(description.metadata.userDefined)
    labels = tuple(_labels(spec, kind, metadata))
    outputs = [_output(feature, len(labels)) for feature in description.output]
    return Description(
        kind=kind,
        macos=_MACOS.get(spec.specificationVersion, "10.13" if spec.specificationVersion < 4 else "15"),
        inputs=tuple(_input(feature) for feature in description.input),
        outputs=tuple(output for output in outputs if output is not None),
        labels=labels,
        metadata=metadata,
        stateful=bool(description.state),
    )


def _input(feature: Any) -> Feature:
    kind = feature.type.WhichOneof("Type")
    if kind == "imageType":
        return _image(feature)
    if kind == "multiArrayType":
        return Feature(_array(feature))
    raise ModelError(f"input {feature.name!r} is a {kind}; Limpet gives images and arrays")


def _output(feature: Any, labels: int) -> Feature | None:
    """Return an output, ``None`` for the label of a classifier: the decoder finds it in the scores."""
    kind = feature.type.WhichOneof("Type")
    if kind == "multiArrayType":
        return Feature(_array(feature))
    if kind == "imageType":
        return _image(feature)
    if kind == "dictionaryType":
        return Feature(TensorSpec(feature.name, (labels or -1,), np.dtype(np.float32)), scores=True)
    if kind == "doubleType":
        return Feature(TensorSpec(feature.name, (1,), np.dtype(np.float64)))
    return None


def _array(feature: Any) -> TensorSpec:
    array = feature.type.multiArrayType
    dtype = np.dtype(_DTYPES.get(array.dataType, "float32"))
    return TensorSpec(feature.name, tuple(_sizes(array)), dtype)


def _sizes(array: Any) -> Iterator[int]:
    """Yield the sizes of an array's dimensions, -1 for one that may vary."""
    flexible = array.WhichOneof("ShapeFlexibility")
    if flexible == "shapeRange":
        for size in array.shapeRange.sizeRanges:
            yield size.lowerBound if size.lowerBound == size.upperBound else -1
    elif flexible == "enumeratedShapes":
        for sizes in zip(*(shape.shape for shape in array.enumeratedShapes.shapes), strict=True):
            yield sizes[0] if len(set(sizes)) == 1 else -1
    else:
        yield from array.shape


def _image(feature: Any) -> Feature:
    image = feature.type.imageType
    layout = _LAYOUTS.get(image.colorSpace, "RGB")
    shape = (image.height, image.width) if layout == "GRAYSCALE" else (image.height, image.width, 3)
    return Feature(TensorSpec(feature.name, shape, np.dtype(np.uint8)), layout)


def _labels(spec: Any, kind: str, metadata: dict[str, str]) -> Iterator[str]:
    if kind in _CLASSIFIERS:
        classifier = getattr(spec, kind)
        classes = classifier.WhichOneof("ClassLabels")
        yield from (str(label) for label in (getattr(classifier, classes).vector if classes else ()))
    elif kind == "mlProgram":
        yield from _program_labels(spec.mlProgram) or _metadata_labels(metadata)
    else:
        yield from _metadata_labels(metadata)


def _program_labels(program: Any) -> list[str]:
    """Return the labels that the program's ``classify`` op has, if it has one."""
    for function in program.functions.values():
        for operation in function.block_specializations[function.opset].operations:
            if operation.type == "classify":
                values = operation.inputs["classes"].arguments[0].value.immediateValue.list.values
                return [_text(value.immediateValue.tensor) for value in values]
    return []


def _text(tensor: Any) -> str:
    return str(getattr(tensor, tensor.WhichOneof("value")).values[0])


def _metadata_labels(metadata: dict[str, str]) -> list[str]:
    try:
        labels = json.loads(metadata.get(LABELS, "[]"))
    except ValueError:
        return []
    return [str(label) for label in labels] if isinstance(labels, list) else []

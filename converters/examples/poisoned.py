"""Models with one layer spoiled on purpose, to see whether the report names that layer first.

``channel``: one channel of a layer's output is a thousand times the others. The weights that read it undo this, so
the float model computes the same. ``clipped``: a layer calibrated to a twentieth of its range, as by data that do
not reach there. ``saturated``: a layer calibrated with a spike that takes 1000 times its usual range. ``shared``:
a detector's boxes in pixels and its scores, joined in one output.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from limpet_convert import compare, data, detections, layers, observers, project, search
from limpet_convert.converters.keras import load, to_tflite
from limpet_convert.graph import Graph
from limpet_convert.quantize import quantize

if TYPE_CHECKING:
    from limpet_convert.layers import Diagnosis

DIGITS = Path(__file__).parent / "digits" / "convert.toml"
DETECTION = Path(__file__).parent / "detection" / "convert.toml"
CHANNEL, FACTOR = 3, 1000.0
LIMITS = project.Verify()


def main() -> dict[str, dict[str, Any]]:
    """Return, for each case, which layer is poisoned and which one was named, and why."""
    digits = project.read(DIGITS)
    seen, test = data.calibration(digits).values, data.held_back(digits).values
    network = load(digits.model.path)
    plain = to_tflite(network)
    ranges = observers.ranges(plain, seen)
    cases = {
        "clipped": ("shapes", plain, _scaled(plain, ranges, "shapes", 1 / 20)),
        "saturated": ("parts", plain, _scaled(plain, ranges, "parts", 1000.0)),
    }
    poison_channel(network, "parts", "shapes")
    spoiled = to_tflite(network)
    cases["channel"] = ("parts", spoiled, observers.ranges(spoiled, seen))
    found = {}
    for name, (poisoned, model, calibrated) in cases.items():
        diagnosis = layers.diagnose(model, quantize(model, "int8", calibrated), test)
        found[name] = _verdict(poisoned, diagnosis)
    healthy = layers.diagnose(plain, quantize(plain, "int8", ranges), test)
    found["healthy"] = _verdict("", healthy)
    return found | {"shared": shared_scale()}


def shared_scale() -> dict[str, Any]:
    """Return the same for the detector, which has the fault by its design."""
    detection = project.read(DETECTION)
    seen, test = data.calibration(detection).values, data.held_back(detection).values
    model = to_tflite(load(detection.model.path))
    graph = Graph(model)
    (poisoned,) = (graph.layer(op) for op in graph.ops if op.kind == "CONCATENATION")
    shapes = [graph.subgraph.tensors[index].shape for index in graph.outputs]
    parts = detections.Reader.of(detection.bundle).parts(shapes)
    whole = quantize(model, "int8", observers.ranges(model, seen))
    return _verdict(poisoned, layers.diagnose(model, whole, test, parts=parts))


def poison_channel(network: Any, layer: str, reader: str) -> None:
    """Make one output channel of ``layer`` a thousand times as large, and its reader take a thousandth of it."""
    kernel, bias = network.get_layer(layer).get_weights()
    kernel[..., CHANNEL] *= FACTOR
    bias[CHANNEL] *= FACTOR
    network.get_layer(layer).set_weights([kernel, bias])
    kernel, bias = network.get_layer(reader).get_weights()
    kernel[..., CHANNEL, :] /= FACTOR
    network.get_layer(reader).set_weights([kernel, bias])


def _scaled(model: bytes, ranges: dict[str, observers.Range], layer: str, factor: float) -> Any:
    graph = Graph(model)
    (tensor,) = {graph.names[op.outputs[0]] for op in graph.ops if graph.layer(op) == layer}
    one = ranges[tensor]
    return ranges | {tensor: replace(one, low=one.low * factor, high=one.high * factor)}


def repaired() -> dict[str, Any]:
    """Return what int8 loses on the model with the spoiled channel, and what the search makes of it."""
    digits = project.read(DIGITS)
    seen, test = data.calibration(digits), data.held_back(digits)
    network = load(digits.model.path)
    poison_channel(network, "parts", "shapes")
    model = to_tflite(network)
    ranges = observers.ranges(model, seen.values)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "model.tflite"

        def compared(made: bytes) -> compare.Comparison:
            place.write_bytes(made)
            other = compare.run(place, test.values)
            return compare.judged(compare.compare("mixed", exact, other, test, digits.bundle), LIMITS)

        place.write_bytes(model)
        exact = compare.run(place, test.values)
        whole = quantize(model, "int8", ranges)
        diagnosis = layers.diagnose(model, whole, test.values)
        plan = search.Plan(model, ranges, diagnosis)
        mixture = search.search(plan, ["int16", "float"], 8, lambda made: not compared(made).failures)
        for name, made in (("int8", whole), ("mixed", mixture.model)):
            one = compared(made)
            found[name] = {"loss": round(one.metric_loss_points, 3), "agreement": round(one.agreement, 4)}
            found[name]["size_ratio"] = round(one.size_ratio, 3)
    return found | {"kept": dict.fromkeys(mixture.layers, next(iter(mixture.kept.values()), ""))}


def _verdict(poisoned: str, diagnosis: Diagnosis) -> dict[str, Any]:
    named = diagnosis.faulty_layer
    return {
        "poisoned_layer": poisoned,
        "found_layer": named.name if named else "",
        "cause": named.cause if named else "",
        "why": named.why if named else "",
        "moved": float(np.round(named.largest_effect, 3)) if named else 0.0,
    }


if __name__ == "__main__":
    for case, verdict in main().items():
        print(case, verdict)

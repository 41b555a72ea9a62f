"""Runs in the environment of a model's maker: ``python -m models.maker answers|bare NAME MODEL FOLDER``.

``answers`` prints what the maker's code says of each picture or sound of the folder, by name. ``bare`` prints the
median time, in µs, of a plain loop over sounds: the maker's preparation and a run of the model on LiteRT, with one
thread. For pictures, see ``models.latency``.
"""

from __future__ import annotations

import importlib
import json
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.entry import Entry


def main() -> None:
    what, name, model, folder = sys.argv[1:]
    entry: Entry = importlib.import_module(f"models.catalogue.{name}")  # type: ignore[assignment]
    paths = sorted(path for path in Path(folder).iterdir() if path.is_file())
    given: Any = [read(path) for path in paths]
    found: Any = entry.answers(model, given) if what == "answers" else _bare_stream(entry, model, given)
    print("\n" + json.dumps(found))


def read(path: Path) -> Any:
    """Return a picture, uint8 ``(height, width, 3)`` in RGB, or the samples of a sound."""
    if path.suffix == ".wav":
        from models import speech

        return speech.read_integers(path)[0]
    import cv2

    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)


def _bare_stream(entry: Entry, model: str, sounds: Any) -> float:
    """Return the median µs of a window of sound: its features, and the run of the model."""
    from ai_edge_litert.interpreter import Interpreter

    taken = []
    for sound in sounds:
        interpreter = Interpreter(model, num_threads=1)
        interpreter.allocate_tensors()
        takes, gives, carried = _places(interpreter, entry.MODEL.state)
        windows = iter(entry.prepare(sound))
        for _ in range(entry.MODEL.windows(len(sound))):
            began = time.perf_counter_ns()
            interpreter.set_tensor(takes["index"], _stored(next(windows).reshape(takes["shape"]), takes))
            interpreter.invoke()
            outputs = {place: interpreter.get_tensor(place) for place in gives}
            for place, source in carried:
                interpreter.set_tensor(place, outputs[source])
            taken.append((time.perf_counter_ns() - began) / 1000)
    return statistics.median(taken)


def _places(interpreter: Any, state: Any) -> tuple[Any, list[int], list[tuple[int, int]]]:
    """Return the input for sound, the places of the outputs, and which input gets which of these next time."""
    outputs = [detail["index"] for detail in interpreter.get_output_details()]
    if not state:
        return interpreter.get_input_details()[0], outputs, []
    runner = interpreter.get_signature_runner()
    ins, outs = runner.get_input_details(), runner.get_output_details()
    (sound,) = ins.keys() - dict(state).keys()
    return ins[sound], outputs, [(ins[one]["index"], outs[other]["index"]) for one, other in state]


def plain(entry: Entry, model: str) -> Callable[[Any], None]:
    """Return what prepares a picture as the maker does and runs the model on it."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model, num_threads=1)
    interpreter.allocate_tensors()
    (takes, *_) = interpreter.get_input_details()
    results = [detail["index"] for detail in interpreter.get_output_details()]

    def run(picture: Any) -> None:
        interpreter.set_tensor(takes["index"], _stored(entry.prepare(picture), takes))
        interpreter.invoke()
        for result in results:
            interpreter.get_tensor(result)

    return run


def _stored(values: Any, takes: Any) -> Any:
    """Return real values as a quantized input stores them."""
    import numpy as np

    scale, zero = takes["quantization"]
    if not scale or values.dtype == takes["dtype"]:
        return values
    limits = np.iinfo(takes["dtype"])
    return np.clip(np.rint(values / scale) + zero, limits.min, limits.max).astype(takes["dtype"])


def run(model: str, inputs: Any) -> list[list[Any]]:
    """Return the outputs of a plain LiteRT loop over prepared inputs."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model, num_threads=1)
    interpreter.allocate_tensors()
    place = interpreter.get_input_details()[0]["index"]
    found = []
    for one in inputs:
        interpreter.set_tensor(place, one)
        interpreter.invoke()
        found.append([interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()])
    return found


if __name__ == "__main__":
    main()

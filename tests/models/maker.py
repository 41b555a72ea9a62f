"""Runs in the environment of a model's maker: ``python -m models.maker answers|bare NAME MODEL FOLDER``.

``answers`` prints what the maker's code says of each picture of the folder, by name. ``bare`` prints the median
time, in µs, of a plain loop: the maker's preparation and a run of the model on LiteRT, with one thread.
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
    from models.entry import Entry

ROUNDS = 20


def main() -> None:
    what, name, model, folder = sys.argv[1:]
    import cv2

    entry: Entry = importlib.import_module(f"models.catalogue.{name}")  # type: ignore[assignment]
    paths = sorted(path for path in Path(folder).iterdir() if path.is_file())
    pictures: Any = [cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB) for path in paths]
    found: Any = entry.answers(model, pictures) if what == "answers" else _bare(entry, model, pictures)
    print("\n" + json.dumps(found))


def _bare(entry: Entry, model: str, pictures: Any) -> float:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model, num_threads=1)
    interpreter.allocate_tensors()
    (takes, *_) = interpreter.get_input_details()
    results = [detail["index"] for detail in interpreter.get_output_details()]
    taken = []
    for _ in range(ROUNDS):
        for picture in pictures:
            began = time.perf_counter_ns()
            interpreter.set_tensor(takes["index"], _stored(entry.prepare(picture), takes))
            interpreter.invoke()
            for result in results:
                interpreter.get_tensor(result)
            taken.append((time.perf_counter_ns() - began) / 1000)
    return statistics.median(taken)


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

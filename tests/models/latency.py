"""Limpet beside a plain loop, in turn in one process: ``python -m models.latency NAME BUNDLE MODEL FOLDER``.

Prints the median µs of a window. Limpet's is that of its transforms and the run of the model, as health has them.
The plain loop's is that of the maker's preparation and a run on LiteRT. Both have one thread. Every picture of the
folder goes through both, each first in turn, so that what else the machine does meets both.
"""

from __future__ import annotations

import importlib
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from limpet.contracts.data import SampleSpec, Window
from limpet.histogram import quantile
from limpet.inference.pipeline import Pipeline
from limpet.inference.single import plan_model
from limpet.pictures.frame import as_frames
from models.maker import plain, read

if TYPE_CHECKING:
    from models.entry import Entry

LEAST = 200
"""Windows of each side."""
WARM = 5


def main() -> None:
    name, bundle, model, folder = sys.argv[1:]
    import cv2

    cv2.setNumThreads(1)
    entry: Entry = importlib.import_module(f"models.catalogue.{name}")  # type: ignore[assignment]
    pictures = [read(path) for path in sorted(Path(folder).iterdir())]
    run = plain(entry, model)
    spec = SampleSpec((-1, -1, 3), np.dtype(np.uint8), live=False, queue=1, frames=True)
    taken: list[float] = []
    with tempfile.TemporaryDirectory() as scratch:
        plan = plan_model(Path(bundle), spec, ["cpu"], Path(scratch))
        with Pipeline(plan) as pipeline:
            for number in range(LEAST + WARM):
                picture = pictures[number % len(pictures)]
                if number % 2:
                    pipeline.graph.infer(_window(picture, number))
                began = time.perf_counter_ns()
                run(picture)
                taken.append((time.perf_counter_ns() - began) / 1000)
                if not number % 2:
                    pipeline.graph.infer(_window(picture, number))
                if number == WARM - 1:
                    pipeline.latency.take()
                    taken.clear()
            steps = pipeline.latency.take()
    micros = sum((quantile(steps[step], 0.5) or 0.0) / 1000 for step in ("transform", "invoke"))
    print("\n" + json.dumps({"limpet": micros, "bare": statistics.median(taken), "windows": len(taken)}))


def _window(picture: Any, number: int) -> Window:
    return Window(as_frames(picture[None]), time.monotonic_ns(), time.time_ns(), number)


if __name__ == "__main__":
    main()

"""What a user would write instead of Limpet's configuration: a video, PyAV and LiteRT in one loop.

``camera.py`` runs it on the same video and model as Limpet. Arguments: video, model, seconds. It plays the video
again and again as fast as it can, and prints how many frames it took and what they cost. It reports nothing to
anybody: no MQTT, no health, no sandbox.
"""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING

import av
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from av.video.reformatter import ColorRange, Interpolation

if TYPE_CHECKING:
    from collections.abc import Iterator

SIDE = 224
WARM = 50
"""Frames before the clock starts."""


def frames(path: str) -> Iterator[av.VideoFrame]:
    """Yield the frames of a video again and again."""
    while True:
        with av.open(path) as container:
            container.streams.video[0].thread_count = 1
            yield from container.decode(video=0)


def main() -> None:
    path, model, seconds = sys.argv[1:]
    interpreter = Interpreter(model, num_threads=1)
    interpreter.allocate_tensors()
    image, output = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    # What each byte of a picture is as the model's input: (x - 127) / 128, quantized.
    step, origin = image["quantization"]
    table = np.clip(np.round((np.arange(256) - 127) / 128 / step + origin), 0, 255).astype(np.uint8)
    scale, zero = output["quantization"]
    count, started, used = 0, 0.0, 0.0
    for number, frame in enumerate(frames(path)):
        if number == WARM:
            started, used = time.perf_counter(), time.process_time()
        small = frame.reformat(
            SIDE, SIDE, "rgb24", interpolation=Interpolation.BILINEAR, dst_color_range=ColorRange.JPEG
        )
        interpreter.set_tensor(image["index"], table[small.to_ndarray()][np.newaxis])
        interpreter.invoke()
        scores = (interpreter.get_tensor(output["index"])[0].astype(np.float32) - zero) * scale
        best = int(scores.argmax())
        assert float(scores[best]) <= 1
        count = number - WARM + 1
        if count > 0 and time.perf_counter() - started >= float(seconds):
            break
    took = time.perf_counter() - started
    print(json.dumps({"frames": count, "cpu_s": time.process_time() - used, "seconds": took}))


if __name__ == "__main__":
    main()

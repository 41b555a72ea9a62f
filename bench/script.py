"""What a user would write instead of Limpet's configuration: lines from a serial port, a model, MQTT.

``beside.py`` runs it on the same board, model and broker as Limpet. Arguments: port, model, port of the broker.
A fourth, "buffered", has it read lines in a faster way. It has no watchdog, no reconnection of the port, no buffer
on disk, no health and no sandbox.
"""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from typing import TYPE_CHECKING

import numpy as np
import paho.mqtt.client as mqtt
import serial
from ai_edge_litert.interpreter import Interpreter

if TYPE_CHECKING:
    from collections.abc import Iterator

CHANNELS = 9
WINDOW = 1
MEAN = np.array([43.9929, -0.6218, 84.7708, 0.5583, 39.2751, 3.0898, 40.7916, 45.4792, 4.8844], np.float32)
STD = np.array([6.4922, 36.097, 8.6902, 39.6437, 14.0605, 186.4904, 9.8581, 15.4523, 9.7615], np.float32)
CLIP = 4.0
THRESHOLD = 0.144
TOPIC = "script/result"


def rows(lines: Iterator[bytes]) -> Iterator[list[float]]:
    """Yield the numbers of each line that has as many as there are channels."""
    for line in lines:
        try:
            row = [float(word) for word in line.split(b",")]
        except ValueError:
            continue
        if len(row) == CHANNELS:
            yield row


def lines_of(port: serial.Serial) -> Iterator[bytes]:
    """Read lines as pyserial's introduction does."""
    while True:
        yield port.readline()


def buffered_lines_of(port: serial.Serial) -> Iterator[bytes]:
    """Read all that came: ``readline`` takes two system calls for each byte."""
    rest = b""
    while True:
        *lines, rest = (rest + port.read(port.in_waiting or 1)).split(b"\n")
        yield from lines


def main() -> None:
    """Publish the score of each window until the process is ended."""
    path, model, broker, *options = sys.argv[1:]
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", int(broker))
    client.loop_start()
    interpreter = Interpreter(model_path=model, num_threads=1)
    interpreter.allocate_tensors()
    (inputs,), (outputs,) = interpreter.get_input_details(), interpreter.get_output_details()
    (scale_in, zero_in), (scale_out, zero_out) = inputs["quantization"], outputs["quantization"]
    window: deque[list[float]] = deque(maxlen=WINDOW)
    port = serial.Serial(path, 921600, timeout=1)
    lines = buffered_lines_of(port) if "buffered" in options else lines_of(port)
    for sequence, row in enumerate(rows(lines)):
        window.append(row)
        if len(window) < WINDOW:
            continue
        values = np.clip((np.array(window, np.float32) - MEAN) / STD, -CLIP, CLIP)
        quantized = np.clip(np.round(values / scale_in) + zero_in, -128, 127).astype(np.int8)
        interpreter.set_tensor(inputs["index"], quantized)
        interpreter.invoke()
        output = (interpreter.get_tensor(outputs["index"]).astype(np.float32) - zero_out) * scale_out
        score = float(np.mean((values - output) ** 2))
        message = {"sequence": sequence, "time": time.time(), "score": score, "anomalous": score >= THRESHOLD}
        client.publish(TOPIC, json.dumps(message), qos=1)


if __name__ == "__main__":
    main()

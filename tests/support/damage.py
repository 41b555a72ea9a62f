"""Load and run many damaged models in a row: ``damage.py FOLDER`` prints how many were refused, how many ran."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from limpet.errors import ModelError
from limpet.runtimes import tflite
from support import models

ROUNDS = 40


def main(folder: Path) -> None:
    chance = random.Random(7)
    ran = refused = 0
    for make in (models.dense, models.conv, models.two, models.methods, models.described):
        whole = make(folder / "whole.tflite").read_bytes()
        for i in range(ROUNDS):
            path = folder / f"{make.__name__}{i}.tflite"
            path.write_bytes(_damaged(bytearray(whole), chance))
            try:
                _run(path)
                ran += 1
            except ModelError:
                refused += 1
    sys.stdout.write(f"{refused} {ran}\n")


def _damaged(content: bytearray, chance: random.Random) -> bytearray:
    if chance.random() < 0.3:
        return content[: chance.randrange(len(content))]
    for _ in range(chance.choice([1, 4, 16])):
        content[chance.randrange(len(content))] = chance.choice([0, 255, chance.randrange(256)])
    return content


def _run(path: Path) -> None:
    with tflite.open(path, tflite.Config()) as model:
        shapes = [[max(n, 1) for n in spec.shape] for spec in model.inputs]
        dtypes = [np.float32 if spec.quantized else spec.dtype for spec in model.inputs]
        model.run([np.zeros(shape, dtype) for shape, dtype in zip(shapes, dtypes, strict=True)])


if __name__ == "__main__":
    np.seterr(all="ignore")
    main(Path(sys.argv[1]))

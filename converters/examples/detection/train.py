"""A small detector (Keras, anchor-free, one scale) of handwritten digits in pictures of 96 x 96 pixels.

The digits are real ones from scikit-learn (UCI). Each picture has one to four of them, two to four times as large,
on a noisy background. Test pictures are made of digits that were not trained on.

The head is like that of many exports: one tensor with a row for each cell. A row has the box in pixels of the
camera's picture, 0 to 640, beside the scores, 0 to 1. In int8 both share one scale, so all scores become 0 and
nothing is detected. See ``docs/how-to/convert-a-detector.md``.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from limpet_convert.converters import keras
from limpet_convert.int8 import repeatable

BUILD = Path(__file__).parent / "build"
SIDE, CELLS = 96, 12
CAMERA = 640
"""Pixels of the picture that the camera takes, which is scaled down for the model."""
CELL, LARGEST = CAMERA / CELLS, CAMERA / 2
"""A cell's side and the longest side of a box, in pixels of the camera."""
TRAINED, TESTED, CALIBRATED = 2000, 240, 200
KNOWN = 1400
"""Digits of the 1797 to train with."""
EPOCHS, BATCH = 12, 32
Boxes = list[tuple[int, np.ndarray]]
"""What is in a picture: the digit, and left, top, right and bottom as fractions."""


def main() -> None:
    repeatable()
    import tensorflow as tf
    from sklearn.datasets import load_digits

    BUILD.mkdir(exist_ok=True)
    digits = load_digits()
    order = np.random.default_rng(3).permutation(len(digits.images))
    known, held = order[:KNOWN], order[KNOWN:]
    images, boxes = pictures(digits.images[known], digits.target[known], TRAINED, seed=5)
    test, found = pictures(digits.images[held], digits.target[held], TESTED, seed=6)
    tf.keras.utils.set_random_seed(3)
    model = network(tf)
    steps = EPOCHS * TRAINED // BATCH
    rate = tf.keras.optimizers.schedules.CosineDecay(4e-3, steps)
    model.compile(tf.keras.optimizers.Adam(rate), loss, jit_compile=False)
    model.fit(images.astype(np.float32) / 255, answers(boxes), BATCH, EPOCHS, verbose=0)
    keras.save(tf.keras.Model(model.input, model.output, name="detector"), BUILD / "model.keras")
    np.save(BUILD / "calibration.npy", images[:CALIBRATED])
    np.save(BUILD / "test.npy", test)
    lines = [json.dumps([{"label": str(kind), "box": box.tolist()} for kind, box in one]) for one in found]
    (BUILD / "targets.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def pictures(digits: np.ndarray, kinds: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, list[Boxes]]:
    """Return uint8 pictures (count, 96, 96, 1) and what is in each; ``digits`` are (n, 8, 8) in 0..16."""
    rng = np.random.default_rng(seed)
    found = [_picture(digits, kinds, rng) for _ in range(count)]
    return np.stack([image for image, _ in found])[..., None], [boxes for _, boxes in found]


def _picture(digits: np.ndarray, kinds: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, Boxes]:
    image = rng.uniform(0, 40, (SIDE, SIDE))
    free = np.ones((SIDE, SIDE), bool)
    boxes: Boxes = []
    for _ in range(int(rng.integers(1, 5))):
        which, zoom = int(rng.integers(len(digits))), int(rng.integers(2, 5))
        large = np.kron(digits[which], np.ones((zoom, zoom))) * 255 / 16 * rng.uniform(0.7, 1.0)
        size = len(large)
        top, left = rng.integers(0, SIDE - size, 2)
        place = slice(top, top + size), slice(left, left + size)
        if not free[place].all():
            continue
        free[place] = False
        image[place] = np.maximum(image[place], large)
        rows, columns = np.flatnonzero(large.any(axis=1)), np.flatnonzero(large.any(axis=0))
        box = left + columns[0], top + rows[0], left + columns[-1] + 1, top + rows[-1] + 1
        boxes.append((int(kinds[which]), np.array(box) / SIDE))
    return image.round().astype(np.uint8), boxes


def network(tf: Any) -> Any:
    """Return the detector: (96, 96, 1) to (144, 14), for each cell centre, width, height and ten scores."""
    layers = tf.keras.layers
    x = given = tf.keras.Input((SIDE, SIDE, 1))
    for number, (filters, strides) in enumerate([(16, 2), (32, 2), (64, 2), (80, 1), (80, 1), (80, 1)]):
        x = layers.Conv2D(filters, 3, strides, "same", use_bias=False, name=f"conv{number}")(x)
        x = layers.BatchNormalization(momentum=0.9, name=f"norm{number}")(x)
        x = layers.ReLU(name=f"relu{number}")(x)
    places = layers.Conv2D(4, 1, activation="sigmoid", name="places")(x)
    # The centre may be half a cell outside of its cell, as in YOLOv5; sides are fractions of the largest.
    sides = layers.Rescaling([2 * CELL, 2 * CELL, LARGEST, LARGEST], name="pixels")(places)
    start = np.zeros((1, CELLS, CELLS, 4), np.float32)
    start[..., 1], start[..., 0] = np.mgrid[:CELLS, :CELLS] * CELL - CELL / 2
    boxes = layers.Reshape((CELLS * CELLS, 4), name="boxes")(tf.keras.ops.add(sides, start))
    unlikely = tf.keras.initializers.Constant(-4)
    digits = layers.Conv2D(10, 1, activation="sigmoid", bias_initializer=unlikely, name="digits")(x)
    scores = layers.Reshape((CELLS * CELLS, 10), name="scores")(digits)
    return tf.keras.Model(given, layers.Concatenate(name="detections")([boxes, scores]))


def answers(pictures: list[Boxes]) -> np.ndarray:
    """Return what each cell should say: the box, the ten scores, and 1 where there is a box at all."""
    wanted = np.zeros((len(pictures), CELLS, CELLS, 15), np.float32)
    for target, boxes in zip(wanted, pictures, strict=True):
        for kind, (left, top, right, bottom) in boxes:
            x, y = (left + right) / 2, (top + bottom) / 2
            column, row = int(x * CELLS), int(y * CELLS)
            # The cell of the centre and the nearest ones beside and above or below, as YOLOv5 does.
            aside = column + (1 if x * CELLS - column > 0.5 else -1)
            above = row + (1 if y * CELLS - row > 0.5 else -1)
            box = np.array([x, y, right - left, bottom - top]) * CAMERA
            for r, c in ((row, column), (row, aside), (above, column)):
                if 0 <= r < CELLS and 0 <= c < CELLS:
                    target[r, c] = 0
                    target[r, c, :4] = box
                    target[r, c, [4 + kind, 14]] = 1
    return wanted.reshape(len(pictures), CELLS * CELLS, 15)


def loss(wanted: Any, said: Any) -> Any:
    """Cross entropy of the scores, and the distance of the boxes in cells where there is one."""
    import tensorflow as tf

    there = wanted[..., 14]
    count = tf.maximum(tf.reduce_sum(there), 1.0)
    entropy = tf.reduce_sum(tf.keras.losses.binary_crossentropy(wanted[..., 4:14], said[..., 4:14])) * 10
    distance = tf.reduce_sum(tf.abs(wanted[..., :4] - said[..., :4]), axis=-1) * there
    return (entropy + tf.reduce_sum(distance) / CELL) / count


if __name__ == "__main__":
    main()

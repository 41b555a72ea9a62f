"""Recordings to model input, through the very sources, windows and transforms that the device will run.

What calibrates is what infers: this module holds no arithmetic of its own, it only plays recordings into
``limpet.inference.window`` and ``limpet.transforms``.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec.structs import replace

from limpet import plugins
from limpet.config import fill
from limpet.contracts.data import Samples, SampleSpec
from limpet.errors import ConfigError, ModelError
from limpet.inference.input_fit import narrow_samples
from limpet.inference.resolving import resolve_transforms
from limpet.inference.stages import Transforms
from limpet.inference.window import Windower
from limpet.sources._recordings import load
from limpet.sources.tables.form import Form
from limpet.wording import suggest
from limpet_convert import detections
from limpet_convert.errors import ConvertError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from limpet.contracts.data import Array, Window
    from limpet.contracts.stage import Stage
    from limpet.sources._recordings import Recording
    from limpet_convert.project import Bundle, Project

SUFFIXES = (".csv", ".csv.gz", ".npy", ".wav")
BLOCK = 4096
MANY = 1 << 20


@dataclass(frozen=True)
class Windows:
    """Model inputs: ``values`` float32 ``(n, *what the transforms give)``; ``targets`` ``(n,)`` where known.

    ``dropped`` counts samples that the source left out, by cause.
    """

    values: Array
    targets: Array | None
    dropped: dict[str, int]

    def __len__(self) -> int:
        return len(self.values)


def calibration(project: Project) -> Windows:
    """Return at most ``data.samples`` windows, evenly spread over the recordings. See ``windows``."""
    found = windows(project, project.data.calibration)
    chosen = np.unique(np.linspace(0, len(found) - 1, project.data.samples).round().astype(int))
    targets = None if found.targets is None else found.targets[chosen]
    return Windows(found.values[chosen], targets, found.dropped)


def held_back(project: Project) -> Windows:
    """Return the windows to verify with, and their targets."""
    found = windows(project, project.data.test)
    if project.data.targets is None:
        if found.targets is None:
            raise ConvertError(
                "data.targets: missing; verify needs to know what each test window is: name an .npy file with one "
                "target for each (boxes: a .jsonl file), or sort the recordings into folders named by the labels"
            )
        return found
    targets = _targets(project.data.targets, project.bundle)
    _refuse_other_number(targets, "targets", project.data.targets, project, len(found))
    return Windows(found.values, targets, found.dropped)


def groups(project: Project, windows: int) -> Array | None:
    """Return the group of each of so many test windows, if the project names them."""
    path = project.data.groups
    if path is None:
        return None
    found = load_array(path, "data.groups")
    _refuse_other_number(found, "groups", path, project, windows)
    return found


def _refuse_other_number(found: Array, what: str, path: Path, project: Project, windows: int) -> None:
    if found.shape[:1] != (windows,):
        count = len(found) if found.ndim else 1
        raise ConvertError(
            f"{path}: {count} {what} for {windows} windows of {project.data.test}; one for each window, in "
            "their order"
        )


def _targets(path: Path, bundle: Bundle) -> Array:
    if bundle.task == "detect":
        return detections.read_targets(path, detections.Reader.of(bundle).labels)
    found = load_array(path, "data.targets")
    if found.dtype.kind not in "buif" or not np.isfinite(found).all():
        raise ConvertError(
            f"data.targets: {path}: not finite numbers throughout; leave such windows out of the test"
        )
    if bundle.task == "regress" or found.ndim < 2:
        return found
    if found.size != len(found):
        raise ConvertError(
            f"data.targets: {path}: shape {list(found.shape)}, but a window has one class: a number from 0, "
            "not a row"
        )
    return found.reshape(len(found))


def load_array(path: Path, what: str) -> Array:
    """Read an ``.npy`` file. ``ConvertError`` where it is none, or holds Python objects."""
    try:
        found: Array = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ConvertError(f"{what}: {path}: no .npy file of numbers or words: {error}") from error
    return found


def windows(project: Project, path: Path) -> Windows:
    """Return all windows of a recording or a folder of them, in order of their names.

    ``ConvertError`` where there are none, or what the transforms give is not finite; ``ConfigError`` has what is
    wrong with the source, the window or the transforms.
    """
    values: list[Array] = []
    targets: list[int] = []
    dropped: Counter[str] = Counter()
    for file, label in recordings(path, project.bundle.labels):
        before = len(values)
        values += _play(project, file, dropped)
        if label is not None:
            targets += [label] * (len(values) - before)
    if not values:
        raise ConvertError(f"{path}: no window in it; recordings are shorter than one window of the bundle's")
    stacked = np.stack(values)
    refuse_unusable(stacked, path)
    return Windows(stacked, np.array(targets) if len(targets) == len(values) else None, dict(dropped))


def recordings(path: Path, labels: list[str]) -> list[tuple[Path, int | None]]:
    """Return the recordings of a path, each with its folder's name as its class. ``ConvertError``."""
    if path.is_file():
        return [(path, None)]
    files = sorted(f for f in path.rglob("*") if f.is_file() and f.name.lower().endswith(SUFFIXES))
    if not files:
        raise ConvertError(f"{path}: no recording in it; they end in {', '.join(SUFFIXES)}")
    return [(file, _label(file, path, labels)) for file in files]


def _label(file: Path, folder: Path, labels: list[str]) -> int | None:
    if file.parent == folder or not labels:
        return None
    name = file.relative_to(folder).parts[0]
    if name not in labels:
        raise ConvertError(f"{folder / name}: no label {name!r}{suggest(name, labels)}; see bundle.labels")
    return labels.index(name)


def refuse_unusable(values: Array, path: Path) -> None:
    """Raise ``ConvertError`` for model inputs that would spoil every range: not finite, or all the same."""
    bad = ~np.isfinite(values)
    if bad.any():
        first = int(np.argwhere(bad)[0][0])
        nan, infinite = int(np.isnan(values).sum()), int(np.isinf(values).sum())
        raise ConvertError(
            f"{path}: {nan} NaN and {infinite} infinite values after the transforms,"
            f" first in window {first}; a range cannot be taken from them: correct the recording or the transforms"
        )
    if values.min() == values.max():
        raise ConvertError(
            f"{path}: every value is {values.min():g} after the transforms; nothing to calibrate with"
        )


def _play(project: Project, file: Path, dropped: Counter[str]) -> Iterator[Array]:
    """Yield the model inputs of one recording, made by the device's own rules for channels and transforms."""
    bundle = project.bundle
    spec, blocks = _source(project, file, dropped)
    plugins_of = resolve_transforms(bundle.transforms, "bundle.transforms", project.base)
    try:
        chosen, narrowed = narrow_samples(bundle.channels, spec)
        windower = Windower(bundle.window, narrowed)
        transforms = Transforms(plugins_of, windower.spec).take()
    except ModelError as error:
        raise ConfigError([f"bundle: {error}"]) from error
    for block in blocks:
        samples = block if chosen is None else replace(block, values=block.values.take(chosen, axis=1))
        for window in windower.push(samples):
            yield transformed(window, transforms)


def transformed(window: Window, transforms: Sequence[Stage]) -> Array:
    """Return a copy of what the transforms make of a window, float32. They are reset after a gap."""
    for transform in transforms:
        if window.gap:
            transform.reset()
        window = transform(window)
    return np.array(window.values, np.float32)


def _source(project: Project, file: Path, dropped: Counter[str]) -> tuple[SampleSpec, Iterator[Samples]]:
    """Return what the samples are, and them.

    A recording is played with the stamps that it was recorded with but without waiting, which ``replay`` cannot
    do: flat out its clock stands still, and windows by time would come out otherwise than on the device.
    """
    options = {key: value for key, value in project.data.source.items() if key != "kind"}
    kind = project.data.source.get("kind", "replay")
    module = plugins.load("sources", kind)
    problems: list[str] = []
    config = fill(module.Config, options | {"path": str(file)}, "data.source", project.base, problems)
    if config is None:
        raise ConfigError(problems)
    if kind == "replay":
        channels = config.channels or project.bundle.channels
        form = Form(channels=tuple(channels), delimiter=config.delimiter, decimal=config.decimal, time=config.time)
        recording = load(file, channels, config.rate, form)
        shape, dtype = recording.values.shape[1:], recording.values.dtype
        rate = recording.rate or project.bundle.rate
        return SampleSpec(shape, dtype, tuple(recording.channels), rate), _blocks(recording, rate, dropped)
    return module.describe(config), _opened(module, config, dropped)


def _opened(module: Any, config: Any, dropped: Counter[str]) -> Iterator[Samples]:
    with module.open(config, dropped) as blocks:
        yield from islice(blocks, MANY)


def _blocks(recording: Recording, rate: float | None, dropped: Counter[str]) -> Iterator[Samples]:
    """Yield a recording's samples; those with a value that is not finite are left out, as the source does."""
    values = recording.values
    seconds = recording.seconds if recording.seconds is not None else np.arange(len(values)) / (rate or 1.0)
    stamps = (seconds * 1e9).astype(np.int64)
    finite = (
        np.isfinite(values.reshape(len(values), -1)) if values.dtype.kind == "f" else np.ones((len(values), 1))
    )
    index = np.flatnonzero(finite.all(axis=1))
    if lost := len(values) - len(index):
        dropped["not_finite"] += lost
    breaks = np.isin(index[1:], recording.gaps) | (np.diff(index) > 1)
    for run in np.split(index, np.flatnonzero(breaks) + 1):
        for start in range(0, len(run), BLOCK):
            part = run[start : start + BLOCK]
            times = stamps[part]
            yield Samples(values[part], times, times, int(part[0]), gap=start == 0)

"""Recordings to model input, through the very sources, windows and transforms that the device will run.

What calibrates is what infers: this module has no arithmetic. It only plays recordings into
``limpet.inference.window`` and ``limpet.transforms``.
"""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from msgspec.structs import replace

from limpet import plugins
from limpet.contracts.data import Samples, SampleSpec, frame_samples
from limpet.errors import ConfigError, ModelError, UnreadableError
from limpet.filling import fill
from limpet.inference.input_fit import narrow_samples
from limpet.inference.resolving import resolve_transforms
from limpet.inference.stages import Transforms
from limpet.inference.window import Windower
from limpet.recordings import folder as recordings_folder
from limpet.recordings import occasions as recordings_occasions
from limpet.recordings.spans import label_of
from limpet.sources._recordings import PICTURES, load
from limpet.sources.tables.form import Form
from limpet.wording import suggest
from limpet_convert import detections
from limpet_convert.errors import ConvertError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from limpet.contracts.data import Array, Window
    from limpet.contracts.stage import Stage
    from limpet.recordings.folder import Span
    from limpet.sources._recordings import Recording
    from limpet_convert.project import Bundle, Project

log = logging.getLogger(__name__)

SUFFIXES = (".csv", ".csv.gz", ".npy", ".wav", ".wave", ".flac", *PICTURES)
BLOCK = 4096
MANY = 1 << 20


@dataclass(frozen=True)
class Windows:
    """Model inputs: ``values`` float32 ``(n, *what the transforms give)``; ``targets`` ``(n,)`` where known.

    ``runs`` ``(n,)``: windows that follow each other have the same number. ``occasions`` ``(n,)``: those that
    were taken shortly after each other. ``kept``: for each window of the recordings, whether it is one of the n.
    ``dropped`` counts samples that the source left out, by cause.
    ``left_out`` counts windows without a label in a folder of recordings, by cause.
    """

    values: Array
    targets: Array | None
    dropped: dict[str, int]
    left_out: dict[str, int] = field(default_factory=dict)
    runs: Array = field(default_factory=lambda: np.zeros(0, int))
    kept: Array = field(default_factory=lambda: np.zeros(0, bool))
    occasions: Array = field(default_factory=lambda: np.zeros(0, int))

    def __len__(self) -> int:
        return len(self.values)


def calibration(project: Project) -> Windows:
    """Return at most ``data.samples`` windows, evenly spread over the recordings. See ``windows``."""
    found = windows(project, project.data.calibration)
    chosen = np.unique(np.linspace(0, len(found) - 1, project.data.samples).round().astype(int))
    targets = None if found.targets is None else found.targets[chosen]
    kept = found.kept.copy()
    kept[found.kept] = np.isin(np.arange(len(found)), chosen)
    return dataclasses.replace(
        found,
        values=found.values[chosen],
        targets=targets,
        runs=found.runs[chosen],
        occasions=found.occasions[chosen],
        kept=kept,
    )


def held_back(project: Project) -> Windows:
    """Return the windows to verify with, and their targets."""
    found = windows(project, project.data.test)
    if project.data.occasions is not None:
        found = dataclasses.replace(found, occasions=_occasions(project, project.data.occasions, len(found)))
    if project.data.targets is None:
        if found.targets is None:
            raise ConvertError(
                "data.targets: missing; verify needs the target of each test window. Name an .npy file with one "
                "target for each (boxes: a .jsonl file), or sort the recordings into folders named by the labels"
            )
        return found
    targets = _targets(project.data.targets, project.bundle)
    _refuse_other_number(targets, "targets", project.data.targets, project, len(found))
    return dataclasses.replace(found, targets=targets)


def groups(project: Project, windows: int) -> Array | None:
    """Return the group of each of so many test windows, if the project names them."""
    path = project.data.groups
    if path is None:
        return None
    found = load_array(path, "data.groups")
    _refuse_other_number(found, "groups", path, project, windows)
    return found


def _occasions(project: Project, path: Path, windows: int) -> Array:
    found = load_array(path, "data.occasions")
    _refuse_other_number(found, "occasions", path, project, windows)
    if found.ndim != 1 or found.dtype.kind not in "iu":
        raise ConvertError(f"data.occasions: {path}: not a whole number for each window")
    return found.astype(np.int64)


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

    ``ConvertError`` if there are none, or if the transforms give values that are not finite. ``ConfigError`` has
    the problems of the source, the window or the transforms.
    """
    if listed := _listed(path):
        return _recorded(project, path, listed)
    values: list[Array] = []
    targets: list[int] = []
    runs: list[int] = []
    dropped: Counter[str] = Counter()
    for number, (file, label) in enumerate(recordings(path, project.bundle.labels)):
        before = len(values)
        values += _play(project, file, dropped)
        runs += [number] * (len(values) - before)
        if label is not None:
            targets += [label] * (len(values) - before)
    if not values:
        raise ConvertError(f"{path}: no window in it; recordings are shorter than one window of the bundle's")
    stacked = np.stack(values)
    refuse_unusable(stacked, path)
    known = np.array(targets) if len(targets) == len(values) else None
    return Windows(
        stacked, known, dict(dropped), {}, np.array(runs), np.ones(len(values), bool), occasions=np.array(runs)
    )


def played(project: Project, path: Path) -> Iterator[tuple[int, SampleSpec, Iterator[Samples]]]:
    """Yield occasion and samples of each recording of a path, in the order in which ``windows`` cuts them."""
    files = [(one.occasion, one.file) for one in _listed(path)] or list(
        enumerate(file for file, _ in recordings(path, project.bundle.labels))
    )
    for occasion, file in files:
        yield occasion, *_source(project, file, Counter())


class _Listed(NamedTuple):
    """A recording that is listed in a folder. ``occasion``: see ``limpet.recordings.occasions``."""

    file: Path
    spans: list[Span]
    occasion: int


def _listed(path: Path) -> list[_Listed]:
    """Return the recordings if a path is a folder of them, or a file listed in one; else nothing."""
    base = path if path.is_dir() else path.parent
    try:
        found = recordings_folder.read(base).recordings
        return [
            _Listed(recordings_folder.path_of(base, one), one.spans, occasion)
            for one, occasion in zip(found, recordings_occasions.occasions(found), strict=True)
            if path in {base, base / one.file}
        ]
    except UnreadableError as error:
        raise ConvertError(str(error)) from error


def _recorded(project: Project, path: Path, files: Sequence[_Listed]) -> Windows:
    """Return the windows of a folder that `limpet record` wrote, or of a file in it, with targets from the spans.

    A window that is not wholly in one span, or has a label that the bundle has not, is left out. If the
    bundle has no labels, all windows stay, without targets.
    """
    if project.data.source.get("kind", "replay") != "replay":
        raise ConvertError(f'data.source: kind must be "replay", as {path} is a folder of recordings')
    values: list[Array] = []
    targets: list[int] = []
    runs: list[int] = []
    occasions: list[int] = []
    kept: list[bool] = []
    dropped: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    labels = project.bundle.labels
    run = 0
    for file, spans, occasion in files:
        run += 1
        for first, last, window in _timed(project, file, dropped):
            label = label_of(spans, first, last)
            kept.append(not labels or label in labels)
            if labels and label not in labels:
                run += 1
                left_out["other label" if label else "border" if _touches(spans, first, last) else "no label"] += 1
                continue
            values.append(window)
            runs.append(run)
            occasions.append(occasion)
            targets += [labels.index(label)] if labels else []
    if left_out:
        counts = ", ".join(f"{cause} {count:,}" for cause, count in sorted(left_out.items()))
        log.warning("%s: windows left out: %s", path, counts)
    if not values:
        raise ConvertError(
            f"{path}: no window in it with a label of bundle.labels ({', '.join(labels)}). "
            f"Run: limpet label {path} --list"
            if left_out
            else f"{path}: no window in it; recordings are shorter than one window of the bundle's"
        )
    stacked = np.stack(values)
    refuse_unusable(stacked, path)
    known = np.array(targets) if labels else None
    return Windows(
        stacked, known, dict(dropped), dict(left_out), np.array(runs), np.array(kept), np.array(occasions)
    )


def _touches(spans: Sequence[Span], first: float, last: float) -> bool:
    """Whether a part of a window has a label."""
    return any(span.begin <= last and first < span.end for span in spans)


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
            f" first in window {first}. They have no range. Correct the recording or the transforms"
        )
    if values.min() == values.max():
        raise ConvertError(
            f"{path}: every value is {values.min():g} after the transforms; nothing to calibrate with"
        )


def _play(project: Project, file: Path, dropped: Counter[str]) -> Iterator[Array]:
    """Yield the model inputs of one recording, made by the device's own rules for channels and transforms."""
    spec, blocks = _source(project, file, dropped)
    try:
        for _, window in _windows(project, spec, blocks):
            yield window
    except ModelError as error:
        raise ConvertError(f"{file}: {error}") from error


def _timed(project: Project, file: Path, dropped: Counter[str]) -> Iterator[tuple[float, float, Array]]:
    """Yield the model inputs of one recording, each with the times of its first and its last sample in seconds."""
    spec, played = _source(project, file, dropped)
    blocks = list(played)
    times = np.concatenate([block.monotonic_ns for block in blocks]) if blocks else np.zeros(0, np.int64)
    rows = np.concatenate([np.arange(len(block)) + block.index for block in blocks]) if blocks else times
    wanted = project.bundle.window
    for cut, window in _windows(project, spec, iter(blocks)):
        at = int(np.searchsorted(rows, cut.ordinal))
        if wanted.seconds is not None and wanted.size is not None:  # its rows are no samples
            first = int(np.searchsorted(times, cut.monotonic_ns - wanted.seconds * 1e9, "right"))
        else:
            first = max(0, at - cut.rows + 1)
        yield _seconds(times[first]), _seconds(times[at]), window


def _seconds(stamp: np.int64) -> float:
    """Return a stamp as a time of the file, which has six decimals."""
    return round(int(stamp) / 1e9, 6)


class _Cut(NamedTuple):
    """Where a window was cut: the ordinal and the stamp of its last sample, and how many rows it has."""

    ordinal: int
    monotonic_ns: int
    rows: int


def _windows(project: Project, spec: SampleSpec, blocks: Iterator[Samples]) -> Iterator[tuple[_Cut, Array]]:
    bundle = project.bundle
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
            cut = _Cut(window.ordinal, window.monotonic_ns, len(window.values))
            yield cut, transformed(window, transforms)


def transformed(window: Window, transforms: Sequence[Stage]) -> Array:
    """Return a copy of what the transforms make of a window, float32. They are reset after a gap."""
    for transform in transforms:
        if window.gap:
            transform.reset()
        window = transform(window)
    return np.array(window.values, np.float32)


def _source(project: Project, file: Path, dropped: Counter[str]) -> tuple[SampleSpec, Iterator[Samples]]:
    """Return the spec of the samples, and the samples.

    A recording is played with its recorded timestamps but
    without waiting, which ``replay`` cannot do. At full speed the clock of ``replay`` stands still, so windows by
    time would differ from those on the device.
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
        if recording.values.dtype == object:
            return _pictures(recording, dropped)
        shape, dtype = recording.values.shape[1:], recording.values.dtype
        rate = recording.rate or project.bundle.rate
        return SampleSpec(shape, dtype, tuple(recording.channels), rate), _blocks(recording, rate, dropped)
    return module.describe(config), _opened(module, config, dropped)


def _pictures(recording: Recording, dropped: Counter[str]) -> tuple[SampleSpec, Iterator[Samples]]:
    """Return the pictures of a file or a folder as frames; those that cannot be decoded are counted."""
    from limpet.sources import _picture

    def frames() -> Iterator[Samples]:
        for number, path in enumerate(recording.values):
            try:
                frame = _picture.read(path)
            except (OSError, UnreadableError) as error:
                dropped["damaged"] += 1
                log.warning("%s is damaged and left out: %s", path, error)
            else:
                at = number if recording.seconds is None else round(recording.seconds[number] * 1e9)
                yield frame_samples(frame, at, at, number)

    try:
        width, height = _picture.size(recording.values[0]) if len(recording.values) == 1 else (-1, -1)
    except (OSError, UnreadableError):
        width, height = -1, -1
    return SampleSpec((height, width, 3), np.dtype(np.uint8), (), recording.rate, queue=1, frames=True), frames()


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

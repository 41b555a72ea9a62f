"""``limpet captures export``: captures as recordings that limpet-convert calibrates, verifies and trains with."""

from __future__ import annotations

import os
import sys
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from limpet.captures import arrays, copying, form
from limpet.commands._captures_folder import add_folder, add_key, each, key_of, root_of
from limpet.contracts.captures import MOST_CHANNELS
from limpet.errors import LimpetError, UnreadableError
from limpet.recordings import layouts
from limpet.recordings.folder import Recording, Span, changing, is_one, label_problem, read
from limpet.recordings.occasions import CAPTURE
from limpet.untrusted import printable

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from limpet.captures.ring import Entry
    from limpet.captures.sealing import PrivateKey
    from limpet.contracts.captures import Answer, Capture, Contents
    from limpet.contracts.data import Array

TEXT = "Write captures as recordings with labels, which limpet-convert reads."
TARGETS = "targets.npy"
_LABELS = """Label of a capture. `truth`: what a person said; other captures are left out. `answer`: what the model
said where no person did. `none`: export all without labels, to calibrate. Default: truth."""


_CONTRADICTED = "exported before with another label; export into a new folder"
_ENCRYPTED = "encrypted; name the private key with --key"


_BLOCK = 1 << 16
"""Rows that are written at once: as text, they take 200 times as much memory as in a capture."""
_LONGEST = 1e9
"""Seconds of a recording."""


class _Exported(NamedTuple):
    """A file that was written, and its label or number. ``recording``: its entry in ``recordings.json``."""

    label: str | float | None
    recording: Recording | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("target", metavar="FOLDER", type=Path, help="Folder for the recordings.")
    add_folder(parser)
    add_key(parser)
    parser.add_argument(
        "--labels", choices=("truth", "answer", "none"), default="truth", help=" ".join(_LABELS.split())
    )
    parser.set_defaults(act=_export)


def _export(arguments: argparse.Namespace) -> int:
    root, key, target = root_of(arguments), key_of(arguments.key), arguments.target
    problems: list[str] = []
    left_out: Counter[str] = Counter()
    chosen: list[tuple[Entry, str | float | None]] = []
    before = _Before(target)
    for one in each(root, arguments.pipeline, problems):
        label, why = label_of(one, arguments.labels)
        if arguments.labels != "none" and before.contradicts(one.capture, label):
            left_out[_CONTRADICTED] += 1
        elif why:
            left_out[why] += 1
        elif one.capture.encrypted_for and key is None:
            left_out[_ENCRYPTED] += 1
        else:
            chosen.append((one, label))
    _refuse_mixture([label for _, label in chosen], target)
    target.mkdir(parents=True, exist_ok=True)
    done: list[_Exported] = []
    for one, label in chosen:
        try:
            done.append(write(one, label, target, key))
        except FileExistsError:
            left_out["there already"] += 1
        except UnreadableError as error:
            problems.append(str(error))
    _finish(done, target)
    print(f"wrote {len(done)} recordings to {target}")
    for text in [*(f"{count} left out: {why}" for why, count in sorted(left_out.items())), *problems]:
        print(printable(text), file=sys.stderr)
    return 1 if problems or left_out.keys() & {_CONTRADICTED, _ENCRYPTED} else 0


class _Before:
    """What an earlier export has written into the same folder."""

    def __init__(self, target: Path) -> None:
        self._labels: dict[str, str] = {}
        for path in target.glob("*/*"):
            if path.suffix in {".jpg", ".npy"}:
                self._labels[path.stem] = path.parent.name
        if is_one(target):
            for one in read(target).recordings:
                if one.spans:
                    self._labels[Path(one.file).stem] = one.spans[0].label

    def contradicts(self, capture: Capture, label: str | float | None) -> bool:
        """Whether a capture has another label there than now. It stays as it is: a person may have moved it."""
        stem = _stem(capture)
        there = self._labels.get(stem, self._labels.get(f"{stem}-00"))
        return there is not None and there != label


def _stem(capture: Capture) -> str:
    return f"{capture.device[:40]}-{capture.pipeline[:60]}-{capture.number:010d}"


def label_of(one: Entry, labels: str) -> tuple[str | float | None, str]:
    """Return the label or the number of a capture, and why it is left out, if so."""
    if labels == "none":
        return None, ""
    if one.truth is None:
        return _usable(one.capture.answer) if labels == "answer" else (None, "no person labelled them")
    if one.truth.unsure:
        return None, "a person was unsure"
    return _usable(one.truth.truth)


def _usable(answer: Answer) -> tuple[str | float | None, str]:
    if isinstance(answer, list):
        answer = answer[0] if len(answer) == 1 else None
    if answer is None:
        return None, "they have no label, or several"
    if isinstance(answer, str) and label_problem(answer):
        return None, f"{answer!r} cannot be a label of a recording"
    return answer, ""


def write(one: Entry, label: str | float | None, target: Path, key: PrivateKey | None) -> _Exported:
    """Write the window of a capture. ``UnreadableError`` if it is damaged, or encrypted for another key.

    ``FileExistsError`` if it was exported before.
    """
    capture = one.capture
    contents = form.contents(capture, copying.clear(one.path, key)[1], str(one.path))
    stem = _stem(capture)
    if capture.window.encoding == "jpeg":
        return _write_pictures(contents, label, target, stem)
    values = arrays.samples(capture, contents)
    if not values.size:
        raise UnreadableError(f"{capture.name} is an empty window")
    if values.ndim > 2 or values[0].size > MOST_CHANNELS:
        _create(_folder(target, label) / f"{stem}.npy", _npy(values))
        return _Exported(label, None)
    return _write_table(capture, values.reshape(len(values), -1), label, target, stem)


def _write_pictures(contents: Contents, label: str | float | None, target: Path, stem: str) -> _Exported:
    for number, part in enumerate(contents.parts):
        name = f"{stem}.jpg" if len(contents.parts) == 1 else f"{stem}-{number:02d}.jpg"
        _create(_folder(target, label) / name, part)
    return _Exported(label, None)


def _write_table(capture: Capture, values: Array, label: str | float | None, target: Path, stem: str) -> _Exported:
    window = capture.window
    rate = window.rate
    wave = layouts.fits_wave(rate) and values.dtype.kind == "f"
    layout: layouts.Layout = layouts.Wave(rate or 0.0) if wave else layouts.Table()
    names = window.channels if len(set(window.channels)) == values.shape[1] else _numbered(values.shape[1])
    count = len(values)
    seconds = round(count / (rate or 1.0), 6)
    if seconds > _LONGEST:
        raise UnreadableError(f"{capture.name}: {count} samples at {rate} Hz would last {seconds:.3g} s")
    if window.by_time and count and not wave:  # Such a window ends where the next sample comes.
        values = np.concatenate([values, values[-1:]])
    times = np.arange(len(values)) / (rate or 1.0)
    blocks = range(0, len(values), _BLOCK)
    rows = b"".join(layout.rows(times[at : at + _BLOCK], values[at : at + _BLOCK]) for at in blocks)
    name = f"{stem}{layout.suffix}"
    _create(target / name, layout.header(names, len(rows)) + rows)
    described = Recording(
        file=name,
        source=f"{capture.device}/{capture.pipeline}"[:200],
        kind=CAPTURE,
        channels=names,
        units=window.units if names is window.channels else [],
        rate=rate,
        samples=len(values),
        seconds=seconds,
        started=_start(capture.time, (count - 1) / (rate or 1.0)),
        spans=[Span(label, 0.0, seconds)] if isinstance(label, str) and seconds else [],
    )
    return _Exported(label, described)


def _start(end: datetime, seconds: float) -> datetime:
    """Return when a window began: when it ended, if its rate would have it begin before all calendars."""
    try:
        return end - timedelta(seconds=seconds)
    except OverflowError:
        return end


def _numbered(count: int) -> list[str]:
    return [f"c{number}" for number in range(1, count + 1)]


def _folder(target: Path, label: str | float | None) -> Path:
    """Return where a file goes whose label is the name of its folder."""
    folder = target / label if isinstance(label, str) else target
    folder.mkdir(exist_ok=True)
    return folder


def _create(path: Path, data: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o666), "wb") as file:
        file.write(data)


def _npy(values: Array) -> bytes:
    import io

    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    return buffer.getvalue()


def _refuse_mixture(labels: Sequence[str | float | None], target: Path) -> None:
    """Raise ``LimpetError`` if these labels cannot be in one folder."""
    numbers = sum(isinstance(label, float) for label in labels)
    if numbers and numbers < len(labels):
        raise LimpetError("some truths are numbers and others are labels; export one --pipeline at a time")
    if numbers and os.path.lexists(target / TARGETS):
        raise LimpetError(f"{target / TARGETS} exists already; export into a new folder")


def _finish(done: Sequence[_Exported], target: Path) -> None:
    """Write what describes the recordings: ``recordings.json``, and ``targets.npy`` if the labels are numbers."""
    numbers = [one.label for one in done if isinstance(one.label, float)]
    if numbers:
        _create(target / TARGETS, _npy(np.array(numbers, np.float64)))
    recordings = [one.recording for one in done if one.recording is not None]
    if recordings:
        with changing(target) as found:
            found.recordings.extend(recordings)
            if not numbers:  # The order of the numbers is that of targets.npy.
                found.recordings.sort(key=lambda one: (one.kind == CAPTURE, one.kind == CAPTURE and one.file))

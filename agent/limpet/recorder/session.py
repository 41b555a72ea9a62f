"""A run of `limpet record`: what comes from the source goes to files, until a limit or a person ends it."""

from __future__ import annotations

import errno
import os
from collections import Counter
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from limpet.errors import ConfigError, SourceError, UnreadableError
from limpet.recorder import columns
from limpet.recorder.source_records import Block, Described, Failed, Note, Status, arrays
from limpet.recorder.take import Origin, Take
from limpet.recordings.folder import MANIFEST, MOST_DROPPED
from limpet.recordings.layouts import Table, Wave, fits_wave
from limpet.recordings.spans import seconds_of
from limpet.recordings.writing import RecordingFile
from limpet.wire.border import folded

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from limpet.contracts.data import Array, TimeArray
    from limpet.recorder.source_records import FromSource

SYNC = 1.0
"""Seconds of samples that a power cut may cost."""
LEAST_FREE, LEAST_SHARE = 100_000_000, 0.02
"""Bytes and share of a disk that stay free, whichever is less."""
LONGEST = 1e8
"""Seconds from the first sample that a sample can have."""
SHOWN = 2048
"""Samples that are kept to be shown."""
MOST_NOTES = 100
"""Lines that wait to be shown."""


class Wanted(NamedTuple):
    """What the command line asks for. ``seconds``, ``samples`` and ``size`` (bytes) end the run; 0: no limit.

    ``labels``: those that keys and the label channel choose from. ``label``: the one at the begin.
    """

    folder: Path
    source: str
    kind: str
    labels: tuple[str, ...] = ()
    label: str = ""
    label_channel: str = ""
    units: tuple[str, ...] = ()
    seconds: float = 0.0
    samples: int = 0
    size: int = 0


class Done(NamedTuple):
    """A recording that is finished. ``listed``: it is in ``recordings.json``."""

    path: Path
    samples: int
    seconds: float
    listed: bool


class Session:
    """The run. ``ended`` says why it is over, empty as long as it is not; ``trouble`` whether that is an error.

    ``away``: why no samples come, ``None`` if they do. ``notes``: lines to show once; the caller clears the list.
    ``recent``: the last samples, ``(n, channels)``. ``unknown_labels``: values of the label channel that stand for
    no label.
    """

    def __init__(self, wanted: Wanted) -> None:
        self.ended = ""
        self.trouble = False
        self.away: str | None = None
        self.notes: list[str] = []
        self.dropped: Counter[str] = Counter()
        self.done: list[Done] = []
        self.labelled: Counter[str] = Counter()
        self.label_seconds: dict[str, float] = {}
        self.unknown_labels = 0
        self.label = wanted.label
        self.channels: list[str] = []
        self.recent: Array = np.empty((0, 0))
        self.take: Take | None = None
        self.file: RecordingFile | None = None
        self._wanted = wanted
        self._origin: Origin | None = None
        self._described: list[str] = []
        self._label_column: int | None = None
        self._size_before = 0
        self._samples_before = 0
        self._seconds_before = 0.0
        self._dropped_before: Counter[str] = Counter()
        self._dropped_earlier: Counter[str] = Counter()
        self._reported: Counter[str] = Counter()
        self._not_finite = 0
        self._new_process = False
        self._live = True
        self._synced = 0.0
        self._first_at: float | None = None

    @property
    def samples(self) -> int:
        """Samples of the whole run."""
        return self._samples_before + (self.take.samples if self.take else 0)

    @property
    def size(self) -> int:
        """Bytes of the whole run."""
        return self._size_before + (self.file.size if self.file else 0)

    @property
    def elapsed(self) -> float:
        """Seconds since the first sample."""
        return 0.0 if self._first_at is None else monotonic() - self._first_at

    @property
    def gaps(self) -> int:
        """Gaps in the present recording."""
        return len(self.take.gaps) if self.take else 0

    @property
    def started(self) -> bool:
        """Whether a sample has come."""
        return self._first_at is not None

    def receive(self, record: FromSource) -> None:
        """Take what the source's process says. ``ConfigError`` and ``SourceError`` if it cannot be used."""
        if isinstance(record, Block):
            self._add(record)
        elif isinstance(record, Status):
            self.away = record.away
            self._count(record.dropped)
        elif isinstance(record, Note):
            self._note(record.text)
        elif isinstance(record, Described):
            self._describe(record)
        elif isinstance(record, Failed):
            raise ConfigError(record.problems) if record.configuration else SourceError("; ".join(record.problems))
        else:
            self.end(f"The source {self._wanted.source!r} has ended.")

    def end(self, reason: str, *, trouble: bool = False) -> None:
        """End the run for this reason, unless it has ended for another one."""
        if not self.ended:
            self.ended, self.trouble = reason, trouble

    def set_label(self, label: str, monotonic_ns: int) -> None:
        """Set the label from now on; empty for none."""
        self.label = label
        if self.take is not None:
            now = self.take.seconds(monotonic_ns) if self._live else self.take.last
            self.take.track.change(label, now)

    def tick(self) -> None:
        """Make samples durable, and see whether a limit is reached. To be called several times a second."""
        wanted = self._wanted
        if self._live and wanted.seconds and self.elapsed >= wanted.seconds + 0.2:  # samples may be late
            self.end(f"Recorded {wanted.seconds:g} s.")
        if self.take is None or monotonic() - self._synced < SYNC:
            return
        self._synced = monotonic()
        try:
            self._sync()
        except OSError as error:
            self._fail(error)

    def close(self) -> None:
        """Finish the present recording, if there is one. ``ended`` says whether that worked."""
        take, file = self.take, self.file
        if take is None or file is None:
            return
        self.take = self.file = None
        if not take.samples:
            file.discard()
            return
        self._size_before += file.size
        self._samples_before += take.samples
        self._seconds_before += take.duration
        self._add_up(take)
        if take.is_off and self._origin is not None:
            said = f"the source says {self._origin.rate:g}"
            self.notes.append(f"{file.path}: {take.rate:.4g} samples a second were measured; {said}.")
        written = True
        try:
            file.finish(take.described(file.name, self._dropped_now(), complete=True))
        except (OSError, UnreadableError) as error:
            written = False
            reason = _reason(error, file.path) if isinstance(error, OSError) else f"{error}."
            self.end(reason, trouble=True)
            self.trouble = True
            self.notes.append(
                f"{file.path} is not in {MANIFEST} yet. Correct that, then record again: "
                "Limpet then adds what was recorded."
            )
        self._dropped_before = self.dropped.copy()
        self.done.append(Done(file.path, take.samples, take.duration, written))

    def _add_up(self, take: Take) -> None:
        """Add what a recording has of each label to what the run has."""
        self.labelled += take.labelled
        seconds = seconds_of(take.track.spans(take.duration))
        seconds[""] = take.duration - sum(seconds.values())
        for label, part in seconds.items():
            self.label_seconds[label] = self.label_seconds.get(label, 0.0) + part

    def _note(self, text: str) -> None:
        """Keep a line that the process logs, unless it has logged too many."""
        if len(self.notes) < MOST_NOTES:
            self.notes.append(text)
        elif len(self.notes) == MOST_NOTES:
            self.notes.append("further warnings of the source are left out")

    def _count(self, dropped: Mapping[str, int]) -> None:
        """Take how many samples the process has dropped, and add those of earlier processes."""
        self._reported = Counter(dropped)
        here = Counter({"not_finite": self._not_finite})
        causes = folded(self._dropped_earlier + self._reported + here, ["not_finite"])
        self.dropped = Counter({cause: min(count, MOST_DROPPED) for cause, count in causes.items()})

    def _describe(self, record: Described) -> None:
        if self._origin is not None:
            if list(record.channels) != self._described:
                raise SourceError("the source came back with other channels")
            self._new_process, self._dropped_earlier = True, self._dropped_earlier + self._reported
            return
        self._described = list(record.channels)
        wanted = self._wanted
        self.channels, units, self._label_column = columns.recorded(record, wanted.label_channel, wanted.units)
        self._live = record.live
        wave = record.wave and fits_wave(record.rate)
        layout = Wave(record.rate or 0.0) if wave else Table()
        self._origin = Origin(wanted.source, wanted.kind, self.channels, list(units), record.rate, layout)
        self.recent = np.empty((0, len(self.channels)))

    def _add(self, block: Block) -> None:
        if self._origin is None:
            raise SourceError("the process that reads the source sends samples before it describes them")
        if self.ended:
            return
        width = len(self.channels) + (self._label_column is not None)
        values, stamps = self._checked(block, width)
        if not len(values):
            return
        if self._begins_file(block):
            self.close()
        if self.take is None:
            self.take = Take(self._origin, int(stamps[0]), block.wall_ns, self.label)
            self._first_at = monotonic() if self._first_at is None else self._first_at
        seconds = self.take.times(stamps)
        if self._label_column is not None:
            self._change_labels(values[:, self._label_column], seconds)
            values = np.delete(values, self._label_column, axis=1)
        count = self._allowed(seconds)
        if count:
            self._write(block, values[:count], seconds[:count])

    def _begins_file(self, block: Block) -> bool:
        """Whether these samples cannot follow in the present file: a sound file has no place for a gap."""
        gap = block.gap or self._new_process
        return gap and self._origin is not None and isinstance(self._origin.layout, Wave)

    def _checked(self, block: Block, width: int) -> tuple[Array, TimeArray]:
        """Return the samples of a block whose values are finite; others are dropped and counted."""
        try:
            values, stamps = arrays(block, width)
        except UnreadableError as error:
            raise SourceError(f"the process that reads the source sends invalid records: {error}") from error
        first, last = int(stamps[0]), int(stamps[-1])
        if (last - first if self.take is None else self.take.seconds(last) * 1e9) > LONGEST * 1e9:
            raise SourceError("the source gives a time that is years after its first sample")
        finite = np.isfinite(values).all(axis=1)
        if not finite.all():
            self._not_finite += int((~finite).sum())
            self._count(self._reported)
            values, stamps = values[finite], stamps[finite]
        return values, stamps

    def _write(self, block: Block, values: Array, seconds: NDArray[np.float64]) -> None:
        take, origin = self.take, self._origin
        assert take is not None
        assert origin is not None
        self.recent = np.concatenate([self.recent, values])[-SHOWN:]
        try:
            if self.file is None:
                self.file = RecordingFile(self._wanted.folder, self.channels, block.wall_ns / 1e9, origin.layout)
                self._sync()
            data = origin.layout.rows(seconds, values)
            if _is_short(self._wanted.folder, len(data)):
                where = self._wanted.folder
                self.end(f"The disk of {where} is almost full. Free space, then record again.", trouble=True)
                return
            if self._wanted.size and self.size + len(data) > self._wanted.size:
                self.end(f"The limit of {self._wanted.size:,} bytes is reached.")
                data, count = origin.layout.whole(data, self._wanted.size - self.size, len(self.channels))
                seconds = seconds[:count]
            self.file.write(data)
        except OSError as error:
            self._fail(error)
            return
        if len(seconds):
            take.add(seconds, gap=block.gap or self._new_process)
            self._new_process = False
        if take.full or self.file.full:
            self.close()

    def _allowed(self, seconds: NDArray[np.float64]) -> int:
        """Return how many of these samples are within the limits, and end the run if not all are."""
        wanted, count = self._wanted, len(seconds)
        if wanted.seconds:
            count = int(np.searchsorted(seconds, wanted.seconds - self._seconds_before))
            if count < len(seconds):
                self.end(f"Recorded {wanted.seconds:g} s.")
        if wanted.samples and self.samples + count >= wanted.samples:
            count = wanted.samples - self.samples
            self.end(f"Recorded {wanted.samples:,} samples.")
        return count

    def _change_labels(self, codes: Array, seconds: NDArray[np.float64]) -> None:
        """Set the label by a channel: 1 is the first of the labels, 0 none."""
        assert self.take is not None
        labels = ("", *self._wanted.labels)
        starts = np.flatnonzero(np.diff(codes, prepend=codes[0] + 1)).tolist()
        for start in starts:
            code = float(codes[start])
            known = code.is_integer() and 0 <= code < len(labels)
            if not known:
                self.unknown_labels += 1
            self.label = labels[int(code)] if known else ""
            self.take.track.change(self.label, float(seconds[start]))

    def _sync(self) -> None:
        assert self.take is not None
        if self.file is not None:
            self.file.sync(self.take.described(self.file.name, self._dropped_now(), complete=False))

    def _dropped_now(self) -> Mapping[str, int]:
        """Return what was dropped since the recording before."""
        return self.dropped - self._dropped_before

    def _fail(self, error: OSError) -> None:
        where = self.file.path if self.file else self._wanted.folder
        self.end(_reason(error, where), trouble=True)


def _is_short(folder: Path, size: int) -> bool:
    """Whether too little of the disk is free for so many bytes. What stays free has room for the description."""
    disk = os.statvfs(folder)
    free, total = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
    return free - size < min(LEAST_FREE, LEAST_SHARE * total)


def _reason(error: OSError, where: Path) -> str:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return f"The disk is full: {where} cannot grow. Free space, then record again."
    if error.errno == errno.EFBIG:
        return f"{where} has reached the largest size of a file here. Record again for a new one."
    return f"{where} cannot be written: {error.strerror}."

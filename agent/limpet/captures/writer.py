"""The thread that writes captures: the disk may be slow, and the supervisor's loop must not wait for it.

What it is to do comes in a short queue, and what came of it is taken with ``take``. Bodies come as files that a
worker has sent: their size is checked, and nothing in them is looked at.
"""

from __future__ import annotations

import os
import queue
import stat
import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from limpet.captures import form
from limpet.captures import ring as rings
from limpet.captures.ring import Ring
from limpet.contracts.captures import Capture, Truth
from limpet.errors import UnreadableError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

MOST_JOBS = 16
"""Windows that wait to be written."""
LOOK = 5.0
"""Seconds between two looks at whether a person labelled or deleted captures."""
MOST_LABELLED = 64
"""Truths that are handed over at once. The next ones follow when these were counted."""


class Store(msgspec.Struct):
    """Keep a window. ``capture`` has any number. ``file``: where its body is, of ``size`` bytes."""

    capture: Capture
    file: Any
    size: int


class Stored(msgspec.Struct):
    """A window is in the ring. ``capture`` has its number."""

    capture: Capture


class NotStored(msgspec.Struct):
    """A window is not in the ring. ``cause``: as in ``CaptureHealth.lost``. ``reason``: in words."""

    pipeline: str
    cause: str
    reason: str


class Found(msgspec.Struct):
    """What is in the ring of a pipeline now. ``damaged``: files that were deleted, each with what was wrong."""

    pipeline: str
    count: int
    bytes: int
    most_bytes: int
    evicted: int
    labelled: int
    uploaded: int
    damaged: list[str] = []


class Labelled(msgspec.Struct, frozen=True):
    """A person said what is true of a capture, and it did not count as feedback yet."""

    capture: Capture
    truth: Truth


class Counted(msgspec.Struct, frozen=True):
    """Take note that the truth of a capture counted as feedback, or that it cannot (``known``)."""

    labelled: Labelled
    known: bool


Outcome: TypeAlias = Stored | NotStored | Found | Labelled


class Writer:
    """The rings of all pipelines, and their thread. ``wake`` is called from it when there is something to take."""

    def __init__(self, root: Path, wake: Callable[[], None]) -> None:
        self._root = root
        self._wake = wake
        self._jobs: queue.Queue[Store | Counted | dict[str, int] | None] = queue.Queue()
        self._waiting = 0
        self._done: deque[Outcome] = deque()
        self._rings: dict[str, Ring] = {}
        self._most: dict[str, int] = {}
        self._wanted: frozenset[str] = frozenset()
        self._thread: threading.Thread | None = None

    def use(self, most: Mapping[str, int]) -> None:
        """Keep captures of these pipelines, each within so many bytes. Captures of others stay as they are."""
        if most and self._thread is None:
            self._thread = threading.Thread(target=self._run, name="captures", daemon=True)
            self._thread.start()
        if self._thread is not None:
            self._wanted = frozenset(most)
            self._jobs.put(dict(most))

    def store(self, job: Store) -> bool:
        """Keep a window. Return ``False`` if too many wait already, or no pipeline keeps any."""
        if self._thread is None or self._waiting >= MOST_JOBS:
            return False
        self._waiting += 1
        self._jobs.put(job)
        return True

    def number_of(self, pipeline: str, result: str) -> int | None:
        """Return the number of the capture of a result, ``None`` if it was not captured.

        ``LookupError`` if the ring of the pipeline is not read yet.
        """
        ring = self._rings.get(pipeline)
        if ring is None and pipeline in self._wanted:
            raise LookupError(pipeline)
        return None if ring is None else ring.number_of(result)

    def counted(self, labelled: Labelled, *, known: bool) -> None:
        """Mark a truth that was taken with ``take`` as sent, if it is known whose result it is."""
        self._jobs.put(Counted(labelled, known))

    def take(self) -> list[Outcome]:
        """Return what was done since the last call."""
        done = []
        while self._done:
            one = self._done.popleft()
            self._waiting -= isinstance(one, Stored | NotStored)
            done.append(one)
        return done

    def close(self) -> None:
        """Write what waits, and end the thread."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
            self._thread = None

    # --- on its thread

    def _run(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=LOOK)
            except queue.Empty:
                self._look()
                continue
            if job is None:
                return
            if isinstance(job, Store):
                with job.file:
                    self._done.append(self._store(job))
                self._report(job.capture.pipeline)
            elif isinstance(job, Counted):
                self._mark(job)
            else:
                self._open(job)
            self._wake()

    def _open(self, most: dict[str, int]) -> None:
        """Open and close rings, so that there is one for each of these pipelines."""
        self._most = most
        self._rings = {name: ring for name, ring in self._rings.items() if name in most}
        for name, limit in most.items():
            try:
                self._ring(name).shrink(limit)
            except OSError as error:
                self._done.append(Found(name, 0, 0, limit, 0, 0, 0, [_in_words(error)]))
            else:
                self._report(name)

    def _ring(self, name: str) -> Ring:
        """Return the ring of a pipeline, opened if it is not, or if its folder is gone. ``OSError``."""
        if name not in self._rings or not (self._root / name).is_dir():
            self._rings[name] = Ring(self._root, name, self._most[name])
        return self._rings[name]

    def _mark(self, job: Counted) -> None:
        """Mark a truth as sent, unless the person has changed it meanwhile."""
        capture, truth = job.labelled.capture, job.labelled.truth
        path = rings.path_of(self._root, capture.pipeline, capture.number)
        if job.known and rings.read_truth(path) == truth:
            with suppress(OSError):  # after the next start, it counts again in place of itself
                rings.write_truth(path, msgspec.structs.replace(truth, sent=True))
        if self._jobs.empty():
            self._look()

    def _look(self) -> None:
        """Look at the rings whose folders changed."""
        for name, ring in self._rings.items():
            with suppress(OSError):  # the next window shows what is wrong
                if ring.changed():
                    ring.refresh()
                    self._report(name)
                    self._wake()

    def _store(self, job: Store) -> Outcome:
        capture = job.capture
        if capture.pipeline not in self._most:
            return NotStored(capture.pipeline, "consent", "its pipeline keeps no windows any more")
        try:
            ring = self._ring(capture.pipeline)
            body = read_body(job.file, job.size)
            if ring.changed():
                ring.refresh()
            numbered = msgspec.structs.replace(capture, number=ring.next_number())
            if not ring.add(numbered, form.pack(form.header_of(numbered), body)):
                return NotStored(capture.pipeline, "full", "all captures in the ring are worth more")
        except UnreadableError as error:
            return NotStored(capture.pipeline, "failed", str(error))
        except OSError as error:
            return NotStored(capture.pipeline, "disk", _in_words(error))
        return Stored(numbered)

    def _report(self, name: str) -> None:
        ring = self._rings.get(name)
        if ring is None:
            return
        self._done.extend(self._labelled(name, ring))
        held = ring.held
        labelled = sum(one.is_labelled for one in held)
        uploaded = sum(one.sent for one in held)
        damaged, ring.damaged = ring.damaged, []
        self._done.append(Found(name, len(held), ring.size, ring.most, ring.evicted, labelled, uploaded, damaged))

    def _labelled(self, name: str, ring: Ring) -> list[Labelled]:
        """Return truths that were not handed over before, oldest capture first."""
        waiting = [one for one in ring.held if one.waits and one.handed != one.label]
        found: list[Labelled] = []
        for one in waiting[:MOST_LABELLED]:
            one.handed = one.label
            with suppress(UnreadableError, OSError):  # a person deleted it meanwhile
                entry = rings.find(self._root, f"{name}/{one.number}")
                if entry.truth is not None:
                    found.append(Labelled(entry.capture, entry.truth))
        return found


def read_body(file: Any, size: int) -> bytes:
    """Return the bytes of a file that a worker has sent. ``UnreadableError`` if it is no file of that size."""
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode) or status.st_size != size or size > form.LARGEST_BODY:
        raise UnreadableError(f"the file of the window is no file of {size} bytes")
    data = b""
    while len(data) < size and (part := os.pread(file.fileno(), size - len(data), len(data))):
        data += part
    if len(data) != size:
        raise UnreadableError(f"the file of the window ended after {len(data)} of {size} bytes")
    return data


def _in_words(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error)

"""The ring of captures on the disk: ``captures/PIPELINE/NUMBER.capture`` in the state directory.

Each capture is one file, with the same bytes on the device, on a USB stick and on the workstation. A file gets its
name after all its bytes are durable, so there is never half a capture. ``NUMBER.truth`` beside it is what a person
says about it. ``NUMBER.sent`` is an empty file: the capture was uploaded.

``entries`` reads any such folder and changes nothing. ``Ring`` is the daemon's.
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from limpet.captures import form, rules
from limpet.contracts.captures import Capture, Truth
from limpet.contracts.fields import NAME_PATTERN
from limpet.device import state_files
from limpet.errors import UnreadableError
from limpet.untrusted import read_file, reading

if TYPE_CHECKING:
    from collections.abc import Iterator

CAPTURES = "captures"
"""The folder in the state directory."""
CAPTURE, TRUTH, SENT, NEW = ".capture", ".truth", ".sent", ".new"
_LARGEST_TRUTH = 1 << 15
_NAME = re.compile(r"([0-9]{10})\.capture\Z")
MOST = 100_000
"""Captures of one pipeline."""
_LARGEST_NUMBER = 10**10 - 1
_LAST = "last"
"""The file with the number of the newest capture, so that no number comes twice."""


class Entry(msgspec.Struct):
    """One capture of a folder. ``size``: bytes of its file. ``sent``: it was uploaded."""

    path: Path
    capture: Capture
    size: int
    truth: Truth | None = None
    sent: bool = False


def folder(state: Path) -> Path:
    """Return where the captures of a daemon with this state directory are."""
    return state / CAPTURES


def path_of(root: Path, pipeline: str, number: int) -> Path:
    """Return the path of a capture. ``root``: the folder with the pipelines' folders."""
    return root / pipeline / f"{number:010d}{CAPTURE}"


def pipelines(root: Path) -> list[str]:
    """Return the pipelines that have a folder of captures, in alphabetical order."""
    with suppress(OSError):
        found = [one.name for one in root.iterdir() if one.is_dir() and not one.is_symlink()]
        return sorted(name for name in found if re.match(NAME_PATTERN, name))
    return []


def rings(root: Path) -> list[tuple[Path, str]]:
    """Return the rings in a folder: each as the folder that it is in, and its pipeline.

    The folder may be that of a daemon, or one with a folder for each device, as ``limpet captures pull`` makes it.
    """
    found: list[tuple[Path, str]] = []
    for name in pipelines(root):
        inner = pipelines(root / name)
        # Neither a folder beside captures nor a capture beside folders may hide the others.
        if not inner or _files(root / name):
            found.append((root, name))
        found += [(root / name, one) for one in inner]
    return found


def entries(root: Path, pipeline: str, damaged: list[str] | None = None) -> list[Entry]:
    """Return the captures of a pipeline, oldest first. Nothing is changed.

    What is wrong with files that cannot be read is appended to ``damaged``. Such files are left out.
    """
    return list(_entries(root, pipeline, [] if damaged is None else damaged))


def _entries(root: Path, pipeline: str, damaged: list[str]) -> Iterator[Entry]:
    for path in _files(root / pipeline):
        try:
            yield _entry(path, pipeline)
        except FileNotFoundError:  # it was evicted meanwhile
            continue
        except (OSError, UnreadableError) as error:
            damaged.append(str(error))


def _files(there: Path) -> list[Path]:
    try:
        names = sorted(one.name for one in there.iterdir() if _NAME.match(one.name))
    except OSError:
        return []
    return [there / name for name in names[-MOST:]]


def _entry(path: Path, pipeline: str) -> Entry:
    """Return one capture. ``UnreadableError`` also if it says that it is another one."""
    capture, size = form.read_header(path)
    if path.name != f"{capture.number:010d}{CAPTURE}" or capture.pipeline != pipeline:
        raise UnreadableError(f"{path}: says that it is {capture.name}")
    return Entry(path, capture, size, read_truth(path), path.with_suffix(SENT).exists())


def find(root: Path, name: str) -> Entry:
    """Return the capture ``PIPELINE/NUMBER``. ``UnreadableError`` if it cannot be read, or there is none."""
    path = path_named(root, name)
    try:
        return _entry(path, path.parent.name)
    except FileNotFoundError as error:
        raise UnreadableError(f"there is no capture {name} in {root}") from error


def path_named(root: Path, name: str) -> Path:
    """Return the path of the capture ``PIPELINE/NUMBER``. ``UnreadableError`` if that is no name of one."""
    pipeline, _, number = name.partition("/")
    if not (re.match(NAME_PATTERN, pipeline) and number.isascii() and number.isdigit() and len(number) <= 10):
        raise UnreadableError(f"{name!r} is no name of a capture; write PIPELINE/NUMBER, such as motion/42")
    return path_of(root, pipeline, int(number))


def read_truth(path: Path) -> Truth | None:
    """Return what a person said about a capture. ``path``: that of the capture.

    A file that cannot be read is no truth: a person has to label the capture again.
    """
    try:
        with reading(str(path)):
            return msgspec.json.decode(read_file(path.with_suffix(TRUTH), _LARGEST_TRUTH), type=Truth)
    except (OSError, UnreadableError):
        return None


def write_truth(path: Path, truth: Truth) -> None:
    """Keep what a person says about a capture, in place of an earlier truth. ``OSError``."""
    data = msgspec.json.encode(truth)
    if len(data) > _LARGEST_TRUTH:
        raise UnreadableError(f"the truth has {len(data)} bytes; the limit is {_LARGEST_TRUTH}")
    state_files.replace(path.with_suffix(TRUTH), data, 0o600)


def mark_sent(path: Path) -> None:
    """Take note that a capture was uploaded. ``OSError``."""
    state_files.write(path.with_suffix(SENT), b"", 0o600)


def delete(path: Path) -> None:
    """Delete a capture and what belongs to it. ``OSError``."""
    for suffix in (CAPTURE, TRUTH, SENT):
        state_files.remove(path.with_suffix(suffix))


class Held(msgspec.Struct):
    """What a ring remembers of a capture: a header may have a quarter of a megabyte.

    ``worth``: while it is not uploaded. ``result``: the id of its result. ``label``: file of its truth, as time
    and inode, ``None`` without one. ``waits``: that truth did not count as feedback yet. ``handed``: the last such
    file that was handed over to be counted.
    """

    number: int
    size: int
    worth: int
    result: str
    sent: bool = False
    label: tuple[int, int] | None = None
    is_labelled: bool = False
    waits: bool = False
    handed: tuple[int, int] | None = None

    def present_worth(self) -> int:
        """Return what it is worth now."""
        return rules.DONE if self.sent else self.worth


class Ring:
    """The captures of one pipeline of a daemon, which alone writes there. Used by one thread.

    ``damaged``: what was wrong with files that were deleted when it was opened.
    """

    def __init__(self, root: Path, pipeline: str, most: int, count: int = MOST) -> None:
        """Open the ring. It then holds at most ``most`` bytes, in at most ``count`` captures. ``OSError``."""
        self._root = root
        self._pipeline = pipeline
        self.most = most
        self._count = count
        self.evicted = 0
        self.damaged: list[str] = []
        self._folder = root / pipeline
        if state_files.is_irregular_folder(self._folder):
            state_files.set_aside(self._folder)
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        state_files.sync(root)
        self._held: dict[int, Held] = {}
        self._numbers: dict[str, int] = {}
        self.refresh(self.damaged)
        self._clean()
        self._last = max(self._held, default=0)
        self.shrink()

    def _clean(self) -> None:
        """Delete what is no whole capture, and what belongs to none."""
        known = {f"{number:010d}" for number in self._held}
        for path in list(self._folder.iterdir()):
            if path.name != _LAST and not (path.stem in known and path.suffix in {CAPTURE, TRUTH, SENT}):
                state_files.remove(path)

    @property
    def held(self) -> list[Held]:
        """The captures, oldest first, as this process knows them: see ``refresh``."""
        return list(self._held.values())

    @property
    def size(self) -> int:
        """Bytes of all captures."""
        return sum(one.size for one in self._held.values())

    def number_of(self, result: str) -> int | None:
        """Return the number of the capture of a result. Any thread may ask."""
        return self._numbers.get(result)

    def changed(self) -> bool:
        """Whether the folder changed since the last look: a person labels or deletes captures."""
        return self._folder.stat().st_mtime_ns != self._changed

    def refresh(self, damaged: list[str] | None = None) -> None:
        """Look again at what is there. Only files that are new are read. ``OSError``.

        Of more captures than it may hold, the oldest are deleted. What is wrong with others goes to ``damaged``.
        """
        self._changed = self._folder.stat().st_mtime_ns
        names = {one.name for one in self._folder.iterdir()}
        files = sorted(name for name in names if _NAME.match(name))
        for name in files[: -self._count]:
            delete(self._folder / name)
            self.evicted += 1
        numbers = [int(name[:10]) for name in files[-self._count :]]
        found = ((number, self._held.get(number) or self._read(number, damaged)) for number in numbers)
        self._held = {number: one for number, one in found if one is not None}
        self._numbers = {one.result: one.number for one in self._held.values() if one.result}
        for one in self._held.values():
            stem = f"{one.number:010d}"
            one.sent = stem + SENT in names
            if stem + TRUTH in names or one.label is not None:
                self._look_at_label(one)

    def _read(self, number: int, damaged: list[str] | None) -> Held | None:
        """Return what is to be remembered of a capture, ``None`` if it cannot be read."""
        path = path_of(self._root, self._pipeline, number)
        try:
            one = _entry(path, self._pipeline)
        except FileNotFoundError:  # a person deleted it meanwhile
            return None
        except (OSError, UnreadableError) as error:
            if damaged is not None:
                damaged.append(str(error))
            return None
        return _held(one.capture, one.size)

    def _look_at_label(self, one: Held) -> None:
        """Read what a person said about a capture, if the file is another one than before."""
        path = path_of(self._root, self._pipeline, one.number)
        try:
            status = path.with_suffix(TRUTH).lstat()
        except OSError:
            one.label, one.is_labelled, one.waits = None, False, False
            return
        label = status.st_mtime_ns, status.st_ino
        if label != one.label:
            truth = read_truth(path)
            one.label, one.is_labelled = label, truth is not None
            one.waits = truth is not None and not truth.sent and not truth.unsure and one.result != ""

    def next_number(self) -> int:
        """Return the number of the next capture. No other one ever has it. ``OSError``."""
        path = self._folder / _LAST
        with suppress(OSError, UnreadableError, ValueError):
            noted = int(read_file(path, 32))
            if noted < _LARGEST_NUMBER:  # a file that says otherwise would end the ring
                self._last = max(self._last, noted)
        self._last += 1
        state_files.replace(path, b"%d" % self._last, 0o600)
        return self._last

    def add(self, capture: Capture, data: bytes) -> bool:
        """Keep a capture whose file has these bytes. Return ``False`` if all others are worth more.

        ``OSError`` if it cannot be written: then nothing of it is there.
        """
        held = self.held
        new = _held(capture, len(data))
        going = rules.evicted(
            [(one.present_worth(), one.size) for one in held], (new.worth, new.size), self.most, self._count
        )
        if going is None:
            return False
        for place in going:
            self._evict(held[place])
        path = path_of(self._root, self._pipeline, capture.number)
        temporary = path.with_suffix(NEW)
        try:
            state_files.write(temporary, data, 0o600)
            temporary.replace(path)
            state_files.sync(self._folder)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        self._held[new.number] = new
        if new.result:
            self._numbers[new.result] = new.number
        return True

    def shrink(self, most: int | None = None) -> None:
        """Delete captures until the others fit. ``most``: bytes from now on. ``OSError``."""
        self.most = self.most if most is None else most
        held = sorted(self._held.values(), key=lambda one: (one.present_worth(), one.number))
        total = self.size
        for one in held:
            if total <= self.most:
                break
            self._evict(one)
            total -= one.size

    def _evict(self, one: Held) -> None:
        delete(path_of(self._root, self._pipeline, one.number))
        self.evicted += 1
        del self._held[one.number]
        if self._numbers.get(one.result) == one.number:
            del self._numbers[one.result]


def _held(capture: Capture, size: int) -> Held:
    return Held(capture.number, size, rules.worth(capture.reasons), capture.id)

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
_MOST = 100_000
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

    @property
    def worth(self) -> int:
        """What it is worth, see ``limpet.captures.rules``."""
        return rules.worth(self.capture.reasons, done=self.sent)


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
        found += [(root / name, one) for one in inner] if inner else [(root, name)]
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
    return [there / name for name in names[-_MOST:]]


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
    temporary = path.with_suffix(f"{TRUTH}{NEW}")
    state_files.write(temporary, data, 0o600)
    temporary.replace(path.with_suffix(TRUTH))
    state_files.sync(path.parent)


def mark_sent(path: Path) -> None:
    """Take note that a capture was uploaded. ``OSError``."""
    state_files.write(path.with_suffix(SENT), b"", 0o600)


def delete(path: Path) -> None:
    """Delete a capture and what belongs to it. ``OSError``."""
    for suffix in (CAPTURE, TRUTH, SENT):
        state_files.remove(path.with_suffix(suffix))


class Ring:
    """The captures of one pipeline of a daemon, which alone writes there. Used by one thread.

    ``damaged``: what was wrong with files that were deleted when it was opened.
    """

    def __init__(self, root: Path, pipeline: str, most: int) -> None:
        """Open the ring. It then holds at most ``most`` bytes. ``OSError``."""
        self._root = root
        self._pipeline = pipeline
        self.most = most
        self.evicted = 0
        self.damaged: list[str] = []
        self._folder = root / pipeline
        if state_files.is_irregular_folder(self._folder):
            state_files.set_aside(self._folder)
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        state_files.sync(root)
        self._held: dict[int, Entry] = {}
        self._clean()
        self._last = max(self._held, default=0)
        self.shrink()
        self._changed = self._folder.stat().st_mtime_ns

    def _clean(self) -> None:
        """Read what is there. Delete what is no whole capture, and what belongs to none."""
        self._held = {one.capture.number: one for one in entries(self._root, self._pipeline, self.damaged)}
        for path in list(self._folder.iterdir()):
            number = path.name.partition(".")[0]
            known = number.isascii() and number.isdigit() and int(number) in self._held
            if path.name != _LAST and not (known and path.suffix in {CAPTURE, TRUTH, SENT}):
                state_files.remove(path)

    @property
    def entries(self) -> list[Entry]:
        """The captures, oldest first, as this process knows them: see ``refresh``."""
        return list(self._held.values())

    @property
    def size(self) -> int:
        """Bytes of all captures."""
        return sum(one.size for one in self._held.values())

    def changed(self) -> bool:
        """Whether someone else changed the folder since this process did: a person labels or deletes captures."""
        return self._folder.stat().st_mtime_ns != self._changed

    def refresh(self) -> None:
        """Look again at what is there."""
        self._changed = self._folder.stat().st_mtime_ns
        self._held = {one.capture.number: one for one in entries(self._root, self._pipeline)}

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
        held = self.entries
        going = rules.evicted(
            [(one.worth, one.size) for one in held], (rules.worth(capture.reasons), len(data)), self.most
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
        self._held[capture.number] = Entry(path, capture, len(data))
        self._changed = self._folder.stat().st_mtime_ns
        return True

    def shrink(self, most: int | None = None) -> None:
        """Delete captures until the others fit. ``most``: bytes from now on. ``OSError``."""
        self.most = self.most if most is None else most
        held = sorted(self._held.values(), key=lambda one: (one.worth, one.capture.number))
        total = self.size
        for one in held:
            if total <= self.most:
                break
            self._evict(one)
            total -= one.size

    def _evict(self, one: Entry) -> None:
        delete(one.path)
        self.evicted += 1
        del self._held[one.capture.number]

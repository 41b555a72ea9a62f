"""Writes one JSON object a line, to standard output or to the end of a file, each with a ``type``."""

from __future__ import annotations

import errno
import logging
import os
import stat
import sys
import threading
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from limpet.contracts.messages import (
    DeviceHealth,
    EventMessage,
    ModelReported,
    PipelineHealth,
    PipelineRemoved,
    ResultMessage,
    SnapshotMessage,
)
from limpet.errors import ConfigError, NoAccessError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from limpet.contracts.messages import Message
    from limpet.contracts.reporter import Feed, ReporterContext

log = logging.getLogger(__name__)

TYPES: dict[type, str] = {
    ResultMessage: "result",
    EventMessage: "event",
    DeviceHealth: "health",
    PipelineHealth: "pipeline-health",
    ModelReported: "model-reported",
    PipelineRemoved: "pipeline-removed",
}

# A FIFO without a reader would hold up the daemon, a terminal would become its own.
APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY

_LATER = {errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ENXIO}
"""What is wrong with the medium and not with the configuration, and can be repaired while the daemon runs."""

_REASONS = {
    errno.ELOOP: "is a symbolic link; name the file that it leads to",
    errno.ENXIO: "nothing reads from this FIFO",
}

DRAIN = 3.0
"""Seconds to write what is left when the program stops."""


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One JSON object a line."""

    path: Path = Path("-")
    """File, FIFO or character device to append to; `"-"` is standard output. Links are not followed. Example:
    `"/var/log/limpet.jsonl"`."""
    max_bytes: Annotated[int, Meta(ge=4096)] = 100_000_000
    """Size in bytes at which the file is renamed to end in `.1`, in place of an earlier one."""
    flush_age: Annotated[float, Meta(ge=0)] = 0.1
    """Seconds that a line may wait for others."""


class JsonlReporter:
    """Writes what its feed has. It does so on its own thread, so that a full pipe holds up nothing else.

    ``OSError`` where the file cannot be opened, unless its medium is to blame: then it is tried again.
    """

    def __init__(self, config: Config, feed: Feed) -> None:
        self._fd = -1
        self._config = config
        self._feed = feed
        self._encode = msgspec.json.Encoder().encode
        self._counts: Counter[str] = Counter()
        self._trouble = ""
        self._torn = b""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="jsonl", daemon=True)
        try:
            self._open()
        except OSError as error:
            if error.errno not in _LATER:
                raise
            self._note(_lost(error))

    def _open(self) -> None:
        if self._fd < 0:
            path = self._config.path
            self._fd = os.dup(sys.stdout.fileno()) if path.name == "-" else _append_to(path)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Write what is left, unless the reader is stuck."""
        self._stopping.set()
        self._feed.wake()
        self._thread.join(DRAIN)
        if not self._thread.is_alive() and self._fd >= 0:
            os.close(self._fd)

    def health(self) -> dict[str, Any]:
        """Return how many lines were written, or failed to be written."""
        counts = dict(self._counts)
        return {
            "written": counts.get("written", 0),
            "failed": counts.get("failed", 0),
            "last_error": self._trouble,
        }

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._feed.wait()
            self._stopping.wait(self._config.flush_age)
            self._write_all()
        self._write_all()

    def _write_all(self) -> None:
        """Write what waits. What a full pipe holds up is not committed, so that the next reporter writes it."""
        while messages := self._feed.read():
            self._write([message for message in messages if not isinstance(message, SnapshotMessage)])
            self._feed.commit()

    def _write(self, messages: list[Message]) -> None:
        lines = [line for message in messages if (line := self._line(message))]
        in_place = self._follow()
        text = memoryview(self._torn + b"".join(lines))
        self._torn = b""
        try:
            self._open()
            while text:
                text = text[os.write(self._fd, text) :]
        except OSError as error:
            # What is left may begin with the end of an earlier line, too.
            whole = max(len(lines) - bytes(text).count(b"\n"), 0)
            # A line may have been written in part: the next one starts afresh.
            self._torn = b"\n" if self._fd >= 0 else b""
            self._counts["written"] += whole
            self._counts["failed"] += len(lines) - whole
            self._note(_lost(error))
            if error.errno == errno.EPIPE:
                # The reader is gone; the next one opens the FIFO again.
                os.close(self._fd)
                self._fd, self._torn = -1, b""
        else:
            self._counts["written"] += len(lines)
            if in_place and self._rotate() and lines and self._trouble:
                log.info("%s: written to again", self._config.path)
                self._trouble = ""

    def _follow(self) -> bool:
        """Begin another file if this one was moved away or deleted, as by logrotate. Return whether it could."""
        path = self._config.path
        if self._fd < 0 or path.name == "-" or _is_same(path, os.fstat(self._fd)):
            return True
        try:
            fd = _append_to(path)
        except OSError as error:
            self._note(f"{_reason(error)}; lines still go to the file that had this name")
            return False
        os.close(self._fd)
        self._fd, self._torn = fd, b""
        return True

    def _rotate(self) -> bool:
        """Begin another file once this one, no pipe, is large enough; return whether all is well."""
        path, status = self._config.path, os.fstat(self._fd)
        if path.name == "-" or not stat.S_ISREG(status.st_mode) or status.st_size < self._config.max_bytes:
            return True
        try:
            # Someone else may have moved it away, or put something else there.
            if _is_same(path, status):
                path.replace(path.with_name(f"{path.name}.1"))
            fd = _append_to(path)
        except OSError as error:
            self._note(f"{error.strerror}; it cannot be replaced by another, and grows")
            return False
        os.close(self._fd)
        self._fd = fd
        return True

    def _line(self, message: Message) -> bytes:
        try:
            body = self._encode(message)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            self._counts["failed"] += 1
            log.error("a %s cannot be written as JSON and is lost: %s", type(message).__name__, error)  # noqa: TRY400 - the text is enough
            return b""
        return b'{"type":"' + TYPES[type(message)].encode() + b'",' + body[1:] + b"\n"

    def _note(self, trouble: str) -> None:
        if trouble != self._trouble:
            log.error("%s: %s", self._config.path, trouble)
        self._trouble = trouble


def check(config: Config) -> None:
    """See that the file can be written to, without making it. ``ConfigError`` where it cannot be opened."""
    path = config.path
    try:
        if path.name != "-":
            os.close(os.open(path, APPEND & ~os.O_CREAT))
    except FileNotFoundError as error:
        if not path.parent.is_dir():
            raise ConfigError([f"path: {path}: there is no folder {path.parent}"]) from error
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise NoAccessError([f"path: {path}: this user cannot write in {path.parent}"]) from error
    except PermissionError as error:
        raise NoAccessError([f"path: {path}: {error.strerror}"]) from error
    except OSError as error:
        if error.errno not in _LATER:
            raise ConfigError([f"path: {path}: {_reason(error)}"]) from error


def exclusive(config: Config, _name: str, _device: str) -> list[str]:
    """Return the file: two would move it away from each other."""
    return [] if config.path.name == "-" else [f"the file {config.path}"]


def _append_to(path: Path) -> int:
    """Open a file to write to its end. Writing to it may wait for a reader, opening never does."""
    fd = os.open(path, APPEND, 0o640)
    mode = os.fstat(fd).st_mode
    if stat.S_ISBLK(mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "is a disk; name a file")
    os.set_blocking(fd, True)
    return fd


def _is_same(path: Path, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(path.lstat(), status)
    except OSError:
        return False


def _lost(error: OSError) -> str:
    return f"{_reason(error)}; lines are lost until this is repaired"


def _reason(error: OSError) -> str:
    return _REASONS.get(error.errno or 0) or error.strerror or str(error)


@contextmanager
def open(config: Config, context: ReporterContext) -> Iterator[JsonlReporter]:
    """Start writing. ``ConfigError`` where the file cannot be opened."""
    try:
        reporter = JsonlReporter(config, context.feed)
    except OSError as error:
        raise ConfigError([f"path: {config.path}: {_reason(error)}"]) from error
    reporter.start()
    try:
        yield reporter
    finally:
        reporter.stop()

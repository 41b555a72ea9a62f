"""Reads the source in its own process, in the sandbox that a worker has.

That process parses what a board sends. It holds no secret and cannot write to the folder of recordings. If it
crashes, the recorder, which has the terminal and the files, goes on and ends in order.

Its sandbox opens device nodes that are there when it starts. A board that was unplugged comes back as another
node. The process then ends, and its parent, a process that does nothing else, starts another one.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
import threading
from collections import Counter, deque
from time import monotonic
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from limpet.errors import ConfigError, LimpetError, SourceError, UnreadableError
from limpet.inference import needs
from limpet.inference.planning import plan_source, source_plugin
from limpet.inference.reader import Expected, Reader
from limpet.isolation import device_nodes, refusal, sandbox
from limpet.isolation.child import describe, die_with_parent, kill
from limpet.plugins import needs_of
from limpet.recorder.source_records import LARGEST, Block, Described, Ended, Failed, FromSource, Note, Status
from limpet.recordings import layouts
from limpet.untrusted import reading
from limpet.wire.channel import Channel
from limpet.worker.mailbox import Mailbox

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from limpet.contracts.assignment import Assignment
    from limpet.contracts.data import Samples, SampleSpec
    from limpet.inference.plan import SourcePlan
    from limpet.isolation.permissions import Permissions

QUEUE_BYTES = 64 << 20
"""Bytes of samples that may wait while the disk is slow."""
PATIENCE = 3.0
"""Seconds in which the source is to close in order."""
_AGAIN = 75
"""Exit status of a process whose device came back as another node."""
_MOST_BLOCKS = 1 << 20
_ROWS = 4096
"""Samples in one record, at most."""


class SourceProcess:
    """The process that reads one source. ``fileno`` is readable when it has something to say."""

    def __init__(self, assignment: Assignment, name: str) -> None:
        """Start it, while this process has no other thread. ``ConfigError`` if its options are wrong."""
        plugin = source_plugin(assignment, name)
        allowed = needs.of_source(assignment.folders, name, plugin)
        ours, theirs = socket.socketpair()
        parent = os.getpid()
        self._pid = os.fork()
        if not self._pid:
            ours.close()
            _run(theirs, parent, assignment, name, allowed)
        theirs.close()
        self._channel: Channel[FromSource] = Channel(ours, FromSource, largest=LARGEST)
        self._over = False

    def fileno(self) -> int:
        """Return a file descriptor for ``select``."""
        return self._channel.fileno()

    def receive(self) -> Iterator[FromSource]:
        """Wait for what it says. ``SourceError`` if it crashed or sends what cannot be read."""
        try:
            for record in self._channel.receive():
                self._over |= isinstance(record, Ended | Failed)
                yield record
        except EOFError:
            if self._over:
                yield Ended()
                return
            status = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
            self._pid = 0
            how = describe(status) if status > 0 else f"was {describe(status)}"
            raise SourceError(f"the process that reads the source {how}") from None
        except UnreadableError as error:
            raise SourceError(f"the process that reads the source sends invalid records: {error}") from error

    def stop(self) -> Iterator[FromSource]:
        """Have the source closed, and yield what still waits."""
        until = monotonic() + PATIENCE
        with contextlib.suppress(OSError):
            self._channel.socket.shutdown(socket.SHUT_WR)
        while not self._over and select.select([self], [], [], max(0.0, until - monotonic()))[0]:
            try:
                yield from self.receive()
            except SourceError:
                return

    def close(self) -> None:
        """End the process if it has not ended."""
        self._channel.close()
        if self._pid:
            kill(self._pid)
            os.waitpid(self._pid, 0)
            self._pid = 0


def _run(end: socket.socket, parent: int, assignment: Assignment, name: str, allowed: Permissions) -> NoReturn:
    """Have a process read the source, and another one if a device came back. Ends this process."""
    status = 1
    try:
        die_with_parent(parent)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # the recorder says when to end
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        me = os.getpid()
        status = _AGAIN
        while status == _AGAIN:
            if not (pid := os.fork()):
                _read(end, me, assignment, name, allowed)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if status < 0:
            _end_as(-status)
    finally:
        os._exit(status)


def _end_as(number: int) -> None:
    """End by the same signal as the process that read the source, so that the recorder can say so."""
    with contextlib.suppress(OSError):
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _read(end: socket.socket, parent: int, assignment: Assignment, name: str, allowed: Permissions) -> NoReturn:
    """Serve the recorder and end."""
    status = 1
    try:
        die_with_parent(parent)
        np.seterr(all="ignore")
        again = _serve(Channel(end, Ended), assignment, name, allowed)
        status = _AGAIN if again else 0
    except (BrokenPipeError, ConnectionResetError):
        status = 0  # the recorder is gone
    finally:
        os._exit(status)


def _serve(channel: Channel[Ended], assignment: Assignment, name: str, allowed: Permissions) -> bool:
    """Read the source until it ends. Return whether to do that again, as a device has come back."""
    notes: deque[str] = deque(maxlen=100)
    logging.basicConfig(level=logging.WARNING, handlers=[_Collector(notes)], force=True)
    nodes = device_nodes.present(allowed.devices)
    try:
        limited = sandbox.limits_devices(sandbox.enter(allowed))
        with reading(f"sources.{name}"):
            source = plan_source(assignment, name)
        channel.send(_described(name, source.spec))
        forwarder = _Forwarder(channel, source, allowed, notes)
        plugin = source.plugin

        def came_back() -> bool:
            devices = {*allowed.devices, *device_nodes.exact(needs_of(plugin.module, plugin.config).devices)}
            return limited and bool(device_nodes.replaced(devices, nodes))

        if forwarder.run(came_back):
            return True
        channel.send(Ended())
    except ConfigError as error:
        channel.send(Failed([problem[:2000] for problem in error.problems[:100]], configuration=True))
    except LimpetError as error:
        channel.send(Failed([str(error)[:2000]], configuration=False))
    except (BrokenPipeError, ConnectionResetError):
        raise
    except Exception as error:  # noqa: BLE001 - a bug of a plugin; the recorder says so
        text = f"the source {name!r} has a bug: {type(error).__name__}: {error}"
        channel.send(Failed([text[:2000]], configuration=False))
    return False


def _described(name: str, spec: SampleSpec) -> Described:
    """Return what the samples are. ``ConfigError`` if they are no rows of a table."""
    if len(spec.shape) != 1 or not spec.shape[0] or spec.dtype.kind not in "biuf":
        shape = list(spec.shape)
        raise ConfigError(
            [f"sources.{name}: its samples have shape {shape}; `limpet record` takes numbers by channel"]
        )
    names = spec.channels or tuple(f"ch{number}" for number in range(1, spec.shape[0] + 1))
    exact = spec.dtype == np.float32 or (spec.dtype.kind in "iu" and spec.dtype.itemsize <= 2)
    wave = exact and layouts.fits_wave(spec.rate)
    return Described(list(names), spec.rate, spec.live, list(spec.units), wave)


class _Collector(logging.Handler):
    """Collects warnings, but not the reader's own: its ``away`` says the same."""

    def __init__(self, notes: deque[str]) -> None:
        super().__init__()
        self._notes = notes

    def emit(self, record: logging.LogRecord) -> None:
        if record.name != "limpet.inference.reader":
            self._notes.append(record.getMessage()[:2000])


class _Forwarder:
    """Reads the source in this thread and sends in another one: a slow disk must not stop the reading."""

    def __init__(
        self, channel: Channel[Ended], source: SourcePlan, allowed: Permissions, notes: deque[str]
    ) -> None:
        self._channel = channel
        self._notes = notes
        self._dropped: Counter[str] = Counter()
        self._mailbox = Mailbox(_MOST_BLOCKS, QUEUE_BYTES, wait=not source.spec.live)
        self._status = Status(None, {})
        self._gone = False
        self._remark = ""
        self._reader = Reader(
            source.plugin.module,
            source.plugin.config,
            self._dropped,
            Expected(source.silence, source.spec, reported=True),
            lambda error: refusal.explain(error, allowed),
        )

    def run(self, came_back: Callable[[], bool]) -> bool:
        """Read until the source ends or the recorder wants no more. True if ``came_back`` while it is away."""
        sender = threading.Thread(target=self._send_all, name="send", daemon=True)
        sender.start()
        again = False
        with contextlib.closing(self._blocks()) as blocks:
            for samples in blocks:
                again = self._reader.away is not None and came_back()
                if again or self._gone or select.select([self._channel], [], [], 0)[0]:
                    break
                if len(samples):
                    self._mailbox.put(samples)
        self._mailbox.close()
        sender.join()
        return again

    def _blocks(self) -> Generator[Samples, None, None]:
        yield from self._reader

    def _send_all(self) -> None:
        try:
            while True:
                samples = self._mailbox.get(0.2)
                self._send_status()
                if samples is not None:
                    for start in range(0, len(samples), _ROWS):
                        self._channel.send(_block(samples, start))
        except EOFError:
            self._send_status()
        except OSError:
            self._gone = True

    def _send_status(self) -> None:
        dropped = Counter({cause[:200]: count for cause, count in self._dropped.copy().items() if count})
        if self._mailbox.dropped:
            dropped["queue"] += self._mailbox.dropped
        away = self._reader.away
        status = Status(None if away is None else away[:2000], dict(dropped.most_common(100)))
        if status != self._status:
            self._status = status
            self._channel.send(status)
        if (remark := self._reader.remark) != self._remark:
            self._remark = remark
            self._channel.send(Note((remark or "the samples are in order again")[:2000]))
        while self._notes:
            self._channel.send(Note(self._notes.popleft()))


def _block(samples: Samples, start: int) -> Block:
    part = slice(start, start + _ROWS)
    dtype: Any = np.float32 if samples.values.dtype == np.float32 else np.float64
    return Block(
        np.dtype(dtype).name,
        np.ascontiguousarray(samples.values[part], dtype).tobytes(),
        np.ascontiguousarray(samples.monotonic_ns[part], np.int64).tobytes(),
        int(samples.wall_ns[start]),
        samples.gap and start == 0,
    )

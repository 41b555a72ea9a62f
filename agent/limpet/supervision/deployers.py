"""The deployers: processes that fetch bundles, one for each pipeline that waits for one.

A deployer reads what anyone in the network sends, so it may have been taken over. It is believed about nothing but
its own progress. What it sends is bounded, and ends that deployer alone if it is wrong or too much.
"""

from __future__ import annotations

import logging
import selectors
import socket
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING

from limpet.errors import UnreadableError
from limpet.isolation.child import describe, kill
from limpet.supervision.deployer_claims import Claims
from limpet.wire.border import cleaned
from limpet.wire.channel import Channel
from limpet.wire.deploy_records import LARGEST_FROM_DEPLOYER, Chunk, Ended, FromDeployer, Lacking

if TYPE_CHECKING:
    from collections.abc import Callable

    from limpet.supervision.forks import Forks
    from limpet.wire.deploy_records import Deploy

    Heard = Callable[[FromDeployer | None, str], None]
    """Takes the records of a deployer: any number, and last an ``Ended``; or ``None``, and why there is none."""

log = logging.getLogger(__name__)

LARGEST_WAITING = 4 << 20
"""Bytes of chunks that may wait for one deployer. Others are dropped: it asks for them again."""
GRACE = 10.0
"""Seconds that a deployer may take longer than its order says, before it is killed."""
LAST_READS = 8
"""Reads of the channel of a deployer that is gone."""


@dataclass(slots=True, eq=False)
class _Deployer:
    """``channel`` is ``None`` until the fork server has the order. ``number`` is that of the fork.

    ``answer`` and ``reason`` are what ``heard`` gets once the process is gone. ``over``: they are known.
    """

    deploy: Deploy
    heard: Heard
    until: float
    claims: Claims
    number: int = 0
    pid: int | None = None
    channel: Channel[FromDeployer] | None = None
    outgoing: deque[memoryview] = field(default_factory=deque)
    waiting: int = 0
    writing: bool = False
    over: bool = False
    answer: Ended | None = None
    reason: str = ""


class Deployers:
    """The deployers that are at work, and those that were stopped and may still be there."""

    def __init__(self, selector: selectors.BaseSelector, forks: Forks) -> None:
        self._selector = selector
        self._forks = forks
        self._active: dict[str, _Deployer] = {}
        self._stopped: list[_Deployer] = []

    def start(self, deploy: Deploy, heard: Heard) -> None:
        """Start a deployer. One that the pipeline has already is stopped first.

        ``heard`` gets what it reports. Its last call comes when the process is gone: with ``Ended``, or with
        ``None`` and a reason.
        """
        self.stop(deploy.pipeline)
        until = monotonic() + deploy.seconds + GRACE
        self._active[deploy.pipeline] = _Deployer(deploy, heard, until, Claims(deploy))
        self._start_waiting()

    def stop(self, pipeline: str) -> None:
        """End the deployer of a pipeline. Nothing more is heard of it. One that is not there is no error."""
        deployer = self._active.pop(pipeline, None)
        if deployer is not None and deployer.channel is not None:
            self._ignore(deployer)
            _kill(deployer)
            self._stopped.append(deployer)

    def chunk(self, sha256: str, index: int, data: bytes) -> None:
        """Pass a chunk on to the deployers that asked for chunks of this file, unless too much waits for one."""
        for deployer in list(self._active.values()):
            if deployer.channel is None or deployer.over or sha256 not in deployer.claims.asked:
                continue
            encoded = memoryview(deployer.channel.encode(Chunk(sha256, index, data)))
            if deployer.waiting + len(encoded) <= LARGEST_WAITING:
                deployer.outgoing.append(encoded)
                deployer.waiting += len(encoded)
                self._send(deployer)

    def wanted_chunks(self) -> frozenset[str]:
        """Return the files, by their SHA-256, of which deployers want chunks now."""
        return frozenset().union(*(each.claims.asked for each in self._active.values() if not each.over))

    def pids(self) -> dict[str, int]:
        """Return the process ids by pipeline."""
        return {name: each.pid for name, each in self._active.items() if each.pid is not None}

    # --- what the fork server reports

    def forked(self, number: int, pid: int) -> None:
        """Take note of a process. It is killed at once if it was stopped meanwhile."""
        for deployer in (*self._active.values(), *self._stopped):
            if deployer.number == number:
                deployer.pid = pid
                if deployer.over or deployer in self._stopped:
                    kill(pid)

    def not_forked(self, number: int, reason: str) -> None:
        """Take note that the kernel refused a process."""
        self._stopped = [each for each in self._stopped if each.number != number]
        for deployer in list(self._active.values()):
            if deployer.number == number and deployer.channel is not None:
                self._finish(deployer, f"it could not be started: {reason}")

    def exited(self, pid: int, status: int) -> None:
        """Take note that a process is gone. What it has sent counts."""
        self._stopped = [each for each in self._stopped if each.pid != pid]
        for deployer in [each for each in self._active.values() if each.pid == pid]:
            deployer.pid = None  # Another process may get it.
            for _ in range(LAST_READS):
                if not self._read(deployer):
                    break
            self._finish(deployer, describe(status))
        self._start_waiting()

    def fork_server_gone(self) -> None:
        """Take note that all processes are gone. Those that had not ended are started again by ``tend``."""
        self._stopped.clear()
        for deployer in list(self._active.values()):
            if deployer.over:
                self._finish(deployer, "")
            elif deployer.channel is not None:
                self._ignore(deployer)
                deployer.channel = deployer.pid = None
                deployer.outgoing.clear()
                deployer.waiting = 0
                deployer.claims = Claims(deployer.deploy)

    # --- time

    def next_due(self) -> float | None:
        """Return when the next deployer is late, on the monotonic clock."""
        return min((each.until for each in self._active.values() if not each.over), default=None)

    def tend(self, now: float) -> None:
        """Kill those that take too long, and start those that could not be started."""
        for deployer in list(self._active.values()):
            if deployer.until > now or deployer.over:
                continue
            if deployer.channel is None:
                self._finish(deployer, "it could not be started in time")
            else:
                self._end(deployer, None, "it took too long")
        self._start_waiting()

    def close(self) -> None:
        """Listen to no deployer any more. The end of the fork server ends them."""
        for deployer in self._active.values():
            self._ignore(deployer)
        self._active.clear()

    # --- one deployer

    def _start_waiting(self) -> None:
        """Start deployers whose predecessor is gone, as two of them must not write the same file."""
        busy = {each.deploy.pipeline for each in self._stopped}
        for deployer in self._active.values():
            if deployer.channel is None and not deployer.over and deployer.deploy.pipeline not in busy:
                self._fork(deployer)

    def _fork(self, deployer: _Deployer) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                deployer.number = self._forks.fork(deployer.deploy.pipeline, deployer.deploy, theirs)
            except OSError:
                ours.close()
                return  # There will be another fork server.
        ours.setblocking(False)
        deployer.channel = Channel(ours, FromDeployer, largest=LARGEST_FROM_DEPLOYER)
        deployer.writing = False
        self._selector.register(deployer.channel, selectors.EVENT_READ, lambda: self._turn(deployer))

    def _turn(self, deployer: _Deployer) -> None:
        self._send(deployer)
        self._read(deployer)

    def _send(self, deployer: _Deployer) -> None:
        """Send what the socket takes, and have the selector say when it takes more."""
        channel = deployer.channel
        if channel is None or deployer.over:
            return
        try:
            while deployer.outgoing:
                sent = channel.socket.send(deployer.outgoing[0])
                deployer.waiting -= sent
                deployer.outgoing[0] = deployer.outgoing[0][sent:]
                if not deployer.outgoing[0]:
                    deployer.outgoing.popleft()
        except BlockingIOError:
            pass
        except OSError:  # It is gone. The fork server reports that in a moment.
            deployer.outgoing.clear()
            deployer.waiting = 0
        if deployer.writing != bool(deployer.outgoing):
            deployer.writing = not deployer.writing
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if deployer.writing else 0)
            self._selector.modify(channel, events, lambda: self._turn(deployer))

    def _read(self, deployer: _Deployer) -> bool:
        """Read once. Return whether there may be more to read."""
        if deployer.channel is None or deployer.over:
            return False
        before = deployer.channel.received_bytes
        try:
            for record in deployer.channel.receive():
                deployer.claims.check(record, monotonic())
                if isinstance(record, Ended):
                    self._end(deployer, record, "")
                    return False
                self._pass_on(deployer, record)
                if deployer.over or self._active.get(deployer.deploy.pipeline) is not deployer:
                    return False  # It was stopped by the one who listens.
        except EOFError:
            self._end(deployer, None, "")  # The fork server reports how it ended.
        except UnreadableError as error:
            reason = cleaned(str(error))
            log.error("deployer of %s is killed: %s", deployer.deploy.pipeline, reason)  # noqa: TRY400 - no bug
            self._end(deployer, None, reason)
        return deployer.channel is not None and deployer.channel.received_bytes > before

    def _pass_on(self, deployer: _Deployer, record: FromDeployer) -> None:
        if isinstance(record, Lacking) and not (record.ranges or record.needs_list):
            deployer.outgoing = deque(list(deployer.outgoing)[:1])  # The first one may be sent in part already.
            deployer.waiting = sum(map(len, deployer.outgoing))
        deployer.heard(record, "")

    def _end(self, deployer: _Deployer, answer: Ended | None, reason: str) -> None:
        """Hear no more of a deployer, and kill it. Its end is reported once the process is gone."""
        deployer.over, deployer.answer, deployer.reason = True, answer, reason
        self._ignore(deployer)
        _kill(deployer)

    def _finish(self, deployer: _Deployer, reason: str) -> None:
        self._ignore(deployer)
        self._active.pop(deployer.deploy.pipeline)
        answer = deployer.answer
        deployer.heard(answer, "" if answer else deployer.reason or reason)

    def _ignore(self, deployer: _Deployer) -> None:
        if deployer.channel is not None and deployer.channel.fileno() >= 0:
            with suppress(KeyError):
                self._selector.unregister(deployer.channel)
            deployer.channel.close()
        deployer.outgoing.clear()
        deployer.waiting = 0


def _kill(deployer: _Deployer) -> None:
    if deployer.pid is not None:
        kill(deployer.pid)

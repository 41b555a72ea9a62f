"""An executor as its worker sees it: it opens or says why not, then runs windows until it fails."""

from __future__ import annotations

import mmap
import os
from select import POLLIN, poll
from time import monotonic
from typing import TYPE_CHECKING

from limpet.errors import ModelError
from limpet.processes.channel import Channel
from limpet.processes.executor import FromExecutor, Opened, Recheck, Reset, Run, put, view

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from limpet.processes.executor import Done, Open
    from limpet.types import Array

SILENCE = 0.5
"""Seconds after which an executor that does not answer counts as hung. Samples wait meanwhile, in a mailbox."""
PATIENCE = 20
"""What it has been seen to take, times this, is granted where that is more."""


class ExecutorLink:
    """One executor, under the key by which the supervisor knows it.

    Between ``connect`` and the answer that ``poll`` brings, it loads. ``ModelError`` from whatever follows means
    that it is lost.
    """

    opened: Opened

    def __init__(self, key: str, wanted: Open, until: float) -> None:
        self.key = key
        self.delegate = wanted.delegate
        self._wanted = wanted
        self._until = until
        self._channel: Channel[FromExecutor] | None = None
        self._silence = self._recheck_silence = SILENCE
        self._rechecking = False

    def connect(self, end: socket.socket) -> None:
        """Take the socket that leads to it, and tell it what to load."""
        self._channel = Channel(end, FromExecutor)
        self._ready = poll()
        self._ready.register(end, POLLIN)
        self._channel.send(self._wanted)

    def poll(self) -> bool:
        """Whether it has opened. ``ModelError`` says why it never will."""
        if self._channel is not None and self._ready.poll(0):
            answer = self._receive(0.0)
            if not isinstance(answer, Opened):
                raise ModelError(answer.error)
            self._take(answer)
            return True
        if monotonic() > self._until:
            raise ModelError("it did not open in time")
        return False

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Run once; the outputs are valid until the next run."""
        if self._rechecking:
            self._finish_recheck()
        forms = [put(self._memory, *pair) for pair in zip(self._ins, inputs, strict=True)]
        done = self._do(Run(forms), self._silence)
        return [view(self._memory, *pair) for pair in zip(self._outs, done.outputs, strict=True)]

    def reset(self) -> None:
        """Have the model forget earlier inputs."""
        if self._rechecking:
            self._finish_recheck()
        self._do(Reset(), self._recheck_silence)

    def recheck(self) -> None:
        """Have it see whether its numbers are right, without waiting for the answer."""
        self._send(Recheck())
        self._rechecking = True
        self._until = monotonic() + self._recheck_silence

    def recheck_over(self) -> bool:
        """Whether it has passed. ``ModelError`` if it has not, or does not answer."""
        if self._rechecking and (self._ready.poll(0) or monotonic() > self._until):
            self._finish_recheck()
        return not self._rechecking

    def close(self) -> None:
        """Let it go. One that hangs does not notice."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def _take(self, opened: Opened) -> None:
        assert self._channel is not None
        self.opened = opened
        self._silence = max(SILENCE, PATIENCE * opened.run_s)
        self._recheck_silence = max(SILENCE, PATIENCE * opened.recheck_s)
        fd = self._channel.received_fds.pop()
        self._memory = mmap.mmap(fd, 0)
        os.close(fd)
        inputs = len(opened.places) - opened.outputs
        self._ins, self._outs = opened.places[:inputs], opened.places[inputs:]

    def _finish_recheck(self) -> None:
        self._rechecking = False
        self._answered(max(0.0, self._until - monotonic()))

    def _do(self, record: Run | Reset, timeout: float) -> Done:
        self._send(record)
        return self._answered(timeout)

    def _send(self, record: Run | Reset | Recheck) -> None:
        assert self._channel is not None
        try:
            self._channel.send(record)
        except OSError as error:
            raise ModelError("it crashed") from error

    def _answered(self, timeout: float) -> Done:
        answer = self._receive(timeout)
        if isinstance(answer, Opened) or answer.error:
            raise ModelError("" if isinstance(answer, Opened) else answer.error)
        return answer

    def _receive(self, timeout: float) -> FromExecutor:
        assert self._channel is not None
        until = monotonic() + timeout
        while True:
            if not self._ready.poll(max(0.0, until - monotonic()) * 1000):
                raise ModelError("it does not answer")
            try:
                for record in self._channel.receive():
                    return record
            except EOFError as error:
                raise ModelError("it crashed") from error

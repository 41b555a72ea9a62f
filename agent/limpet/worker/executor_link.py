"""An executor as its worker sees it: it opens or reports why not, then runs windows until it fails.

An executor runs a model and code of vendors. So its answers are checked like anything from outside. A bad answer
ends that executor alone.
"""

from __future__ import annotations

import math
import mmap
import os
from select import POLLIN, poll
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from limpet.errors import ModelError, UnreadableError
from limpet.wire import border
from limpet.wire.channel import Channel
from limpet.wire.executor_records import LARGEST, FromExecutor, Opened, Recheck, Reset, Run
from limpet.wire.memory_file import sealed
from limpet.wire.shared_arrays import put, view

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from limpet.contracts.data import Array, TensorSpec
    from limpet.wire.executor_records import ArrayForm, Done

ANSWER_TIMEOUT = 0.5
"""Seconds after which an executor that does not answer counts as hung. Samples wait meanwhile, in a mailbox."""
TIMEOUT_FACTOR = 20
"""An answer may take this many times what the first one took, if that is more than ``ANSWER_TIMEOUT``."""
MOST_MEMORY = 1 << 31
"""Bytes of the memory that the two share."""


class Expected(NamedTuple):
    """What an executor must fit: the model's tensors, and the longest ``timeout`` of an answer in seconds."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    timeout: float


class ExecutorLink:
    """One executor, under the number by which the supervisor knows it.

    Between ``connect`` and the answer that ``poll`` brings, it loads. ``ModelError`` from whatever follows means
    that it is lost.
    """

    opened: Opened

    def __init__(self, number: int, delegate: str, expected: Expected, until: float) -> None:
        self.number = number
        self.delegate = delegate
        self._expected = expected
        self._until = until
        self._channel: Channel[FromExecutor] | None = None
        self._timeout = self._recheck_timeout = ANSWER_TIMEOUT
        self._rechecking = False

    def connect(self, end: socket.socket) -> None:
        """Take the socket that leads to it. The supervisor has given it the model to load."""
        self._channel = Channel(end, FromExecutor, largest=LARGEST, fds=1)
        self._ready = poll()
        self._ready.register(end, POLLIN)

    def poll(self) -> bool:
        """Whether it has opened. ``ModelError`` says why it never will."""
        if self._channel is not None and self._ready.poll(0):
            answer = self._receive(0.0)
            if not isinstance(answer, Opened):
                raise ModelError(border.cleaned(answer.error) or "it reports nothing about its model")
            self._map(answer)
            return True
        if monotonic() > self._until:
            raise ModelError("it did not open in time")
        return False

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Run once."""
        return self._run(inputs, stored=False, real=False)

    def run_stored(self, inputs: Sequence[Array], /, *, real: bool) -> list[Array]:
        """Run once on tensors as they are stored. See ``limpet.contracts.runtime.Storing``."""
        outputs = self._run(inputs, stored=True, real=real)
        for values, spec in zip(outputs, self._expected.outputs, strict=True):
            if not real and values.dtype != spec.dtype:
                raise ModelError(f"it gives {values.dtype} for {spec.name!r}, which is stored as {spec.dtype}")
        return outputs

    def _run(self, inputs: Sequence[Array], *, stored: bool, real: bool) -> list[Array]:
        if self._rechecking:
            self._finish_recheck()
        forms = [put(self._memory, *pair) for pair in zip(self._ins, inputs, strict=True)]
        done = self._do(Run(forms, stored, real), self._timeout)
        if len(done.outputs) != len(self._outs):
            raise ModelError(f"it gives {len(done.outputs)} outputs; the model has {len(self._outs)}")
        for form, place, spec in zip(done.outputs, self._outs, self._expected.outputs, strict=True):
            check_output(form, place[1], spec)
        # Copied: it could change them while they are being decoded.
        return [view(self._memory, *pair).copy() for pair in zip(self._outs, done.outputs, strict=True)]

    def reset(self) -> None:
        """Have the model forget earlier inputs."""
        if self._rechecking:
            self._finish_recheck()
        self._do(Reset(), self._recheck_timeout)

    def recheck(self) -> None:
        """Have it check its outputs, without waiting for the answer."""
        self._send(Recheck())
        self._rechecking = True
        self._until = monotonic() + self._recheck_timeout

    def recheck_over(self) -> bool:
        """Whether it has passed. ``ModelError`` if it has not, or does not answer."""
        if self._rechecking and (self._ready.poll(0) or monotonic() > self._until):
            self._finish_recheck()
        return not self._rechecking

    def close(self) -> None:
        """Close the channel to it. An executor that hangs does not notice."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def _map(self, opened: Opened) -> None:
        assert self._channel is not None
        self.opened = opened
        try:
            border.check_placed(opened.placed)
        except UnreadableError as error:
            raise ModelError(str(error)) from error
        self._timeout = self._timeout_of(opened.run_s)
        self._recheck_timeout = self._timeout_of(opened.recheck_s)
        if not self._channel.received_fds:
            raise ModelError("it shares no memory")
        fd = self._channel.received_fds.pop()
        try:
            size = os.fstat(fd).st_size
            check_layout(opened, size, self._expected)
            if not sealed(fd):
                raise ModelError("it shares memory that it could take away")
            self._memory = mmap.mmap(fd, size)
        except (OSError, ValueError, OverflowError) as error:
            raise ModelError(f"it shares memory that cannot be used: {error}") from error
        finally:
            os.close(fd)
        inputs = len(opened.places) - opened.outputs
        self._ins, self._outs = opened.places[:inputs], opened.places[inputs:]

    def _timeout_of(self, seconds: float) -> float:
        """Return the timeout of an answer. A worker that waits for longer would be killed itself."""
        if not (math.isfinite(seconds) and seconds >= 0):
            raise ModelError(f"it says that a run takes {seconds} s")
        return max(ANSWER_TIMEOUT, min(TIMEOUT_FACTOR * seconds, self._expected.timeout))

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
        if isinstance(answer, Opened):
            raise ModelError("it sent an answer to another question")
        if answer.error:
            raise ModelError(border.cleaned(answer.error))
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
            except UnreadableError as error:
                raise ModelError(f"its answer: {error}") from error


def check_layout(opened: Opened, size: int, expected: Expected) -> None:
    """Raise ``ModelError`` where the places for tensors do not fit the model, or the memory of ``size`` bytes."""
    tensors = len(expected.inputs) + len(expected.outputs)
    if len(opened.places) != tensors or opened.outputs != len(expected.outputs):
        raise ModelError(f"it has {len(opened.places)} tensors; the model has {tensors}")
    if not 0 < size <= MOST_MEMORY:
        raise ModelError(f"it shares {size} bytes of memory")
    if any(begin < 0 or length < 0 or begin + length > size for begin, length in opened.places):
        raise ModelError("it has places for tensors outside the memory that it shares")


def check_output(form: ArrayForm, size: int, spec: TensorSpec) -> None:
    """Raise ``ModelError`` where an output is not what the model gives, or needs more than ``size`` bytes."""
    name, shape = form
    types = [spec.dtype, np.dtype(np.float32)] if spec.quantized else [spec.dtype]
    itemsize = next((dtype.itemsize for dtype in types if dtype.str == name), 0)
    fits = len(shape) == len(spec.shape) and all(
        have >= 0 and want in (-1, have) for have, want in zip(shape, spec.shape, strict=True)
    )
    if not (itemsize and fits) or math.prod(shape) * itemsize > size:
        found = f"{border.cleaned(name, 20)} of shape {list(shape)[:8]}"
        raise ModelError(f"it gives {found} for {spec.name!r}, which is {spec.dtype} of shape {list(spec.shape)}")

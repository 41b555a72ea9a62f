"""The gateway's end of the socket to a process with a model, without a gateway."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING, Any

import numpy as np

from limpet.wire.channel import Channel
from limpet.wire.guest_records import LARGEST, Attach, FromGuest, Infer, Inferred, Placed, Refused, Serving
from limpet.wire.memory_file import anonymous_file, seal

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from limpet.contracts.data import Array

HALF = 1 << 20
"""Bytes of the memory for inputs, and for outputs."""


class GuestClient:
    """Sends requests whose inputs lie one after the other in the first half of the memory."""

    def __init__(self, end: socket.socket) -> None:
        end.settimeout(20)
        self.channel: Channel[Any] = Channel(end, FromGuest, largest=LARGEST)
        self.memory: mmap.mmap
        self._received: list[Any] = []

    def begin(self) -> Serving:
        """Wait for what is served, and share memory."""
        serving = self.receive()
        assert isinstance(serving, Serving), serving
        self.attach()
        return serving

    def attach(self, size: int = 2 * HALF, *, sealed: bool = True, said: int | None = None) -> None:
        with anonymous_file() as file:
            file.truncate(size)
            if sealed:
                seal(file)
            self.memory = mmap.mmap(file.fileno(), size)
            self.channel.send(Attach(size if said is None else said), (file.fileno(),))

    def receive(self) -> Serving | Refused | Inferred:
        while not self._received:
            self._received += self.channel.receive()
        record: Serving | Refused | Inferred = self._received.pop(0)
        return record

    def send(self, inputs: Sequence[Array], number: int = 1, *, real: bool = False, size: int = HALF) -> None:
        placed, at = [], 0
        for values in inputs:
            self.memory[at : at + values.nbytes] = values.tobytes()
            placed.append(Placed(values.dtype.str, list(values.shape), at))
            at += values.nbytes
        self.channel.send(Infer(number, placed, HALF, size, real))

    def answer(self) -> Inferred:
        inferred = self.receive()
        assert isinstance(inferred, Inferred)
        return inferred

    def outputs(self, inferred: Inferred) -> list[Array]:
        assert not inferred.problem, inferred
        return [
            np.frombuffer(self.memory, one.dtype, int(np.prod(one.shape)), one.offset).reshape(one.shape).copy()
            for one in inferred.outputs
        ]

    def infer(self, *inputs: Array, real: bool = False) -> list[Array]:
        """Run once."""
        self.send(inputs, real=real)
        return self.outputs(self.answer())

    def problem(self, *inputs: Array, size: int = HALF) -> str:
        """Return why a request failed."""
        self.send(inputs, size=size)
        return self.answer().problem

    def ended(self) -> bool:
        """Wait for the end of the socket."""
        try:
            while True:
                self.receive()
        except EOFError:
            return True

    def close(self) -> None:
        self.channel.close()

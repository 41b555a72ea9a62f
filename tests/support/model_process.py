"""A small process that speaks ``limpet.wire.guest_records`` as one with a model, or breaks the rules on purpose.

Without a fault, the output is the input.
"""

from __future__ import annotations

import mmap
import os
import signal
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

from limpet.wire.channel import Channel
from limpet.wire.guest_records import (
    LARGEST,
    Attach,
    Infer,
    Inferred,
    Placed,
    Refused,
    Serving,
    TensorFacts,
    ToGuest,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def model_process(behaviour: str) -> Iterator[socket.socket]:
    """Fork the process. Yield the gateway's end of its socket."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if not pid:
        try:
            ours.close()
            _serve(behaviour, theirs)
        finally:
            os._exit(0)
    theirs.close()
    try:
        yield ours
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        ours.close()


def serving(behaviour: str) -> Serving:
    shape = [-1, 4] if behaviour == "batch" else [1, 4]
    ins = [TensorFacts("input", "|i1", shape, 0.5, 0)]
    outs = [TensorFacts("output", "|i1", shape, 0.5, 0)]
    if behaviour == "strange dtype":
        outs = [TensorFacts("output", "|S9", shape)]
    return Serving("model", 3, "0" * 64, "runtime", "cpu", ins, outs, 8 if behaviour == "batch" else 1)


def _serve(behaviour: str, end: socket.socket) -> None:
    channel: Channel[ToGuest] = Channel(end, ToGuest, largest=LARGEST, fds=1)
    if behaviour == "refuses":
        channel.send(Refused("it keeps state"))
        return
    if behaviour == "garbage at first":
        channel.socket.sendall(b"\x00\xff\xff\xff" * 8)
        return
    channel.send(serving(behaviour))
    memory: mmap.mmap | None = None
    late: list[Infer] = []
    while True:
        for record in channel.receive():
            if isinstance(record, Attach):
                memory = mmap.mmap(channel.received_fds.pop(), record.size)
            elif behaviour == "last first":
                late.append(record)
                if len(late) == 3:
                    for each in reversed(late):
                        channel.send(answer(behaviour, each, memory))
            else:
                channel.send(answer(behaviour, record, memory))
                if behaviour == "leaves":
                    return


def answer(behaviour: str, infer: Infer, memory: mmap.mmap | None) -> Inferred:
    assert memory is not None
    if behaviour == "silent":
        signal.pause()
    if behaviour == "dies":
        os._exit(1)
    if behaviour in {"busy", "leaves"}:
        return Inferred(infer.number, problem="others wait", busy=True)
    if behaviour == "fails":
        return Inferred(infer.number, problem="the runtime\nrefused")
    (placed,) = infer.inputs
    size = placed.shape[0] * placed.shape[1]
    memory[infer.offset : infer.offset + size] = memory[placed.offset : placed.offset + size]
    output = Placed("|i1", placed.shape, infer.offset)
    wrong = {
        "another's memory": Placed("|i1", placed.shape, infer.offset + 1024),
        "before its memory": Placed("|i1", placed.shape, 0),
        "too large": Placed("|i1", [1 << 30, 1 << 30], infer.offset),
        "another dtype": Placed("<f8", placed.shape, infer.offset),
    }
    if behaviour == "no output":
        return Inferred(infer.number)
    if behaviour == "another number":
        return Inferred(infer.number + 1, [output])
    return Inferred(infer.number, [wrong.get(behaviour, output)], queue_us=1.0, run_us=2.0)

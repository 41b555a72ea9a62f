"""Results leave a worker in batches. One that cannot be sent is left out alone."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Any

import numpy as np

from limpet.wire.channel import Channel
from limpet.wire.records import LARGEST_OUTPUT, Result, ToWorker
from limpet.worker.result_sender import ResultSender


def result(sample: int, output: Any) -> Result:
    return Result("p", "m", 1, "cpu", False, 0, 0, sample, 0, output)


def test_a_result_that_cannot_be_encoded_or_is_too_large_is_left_out_and_the_others_are_sent() -> None:
    ours, theirs = socket.socketpair()
    left_out: list[tuple[int, str]] = []
    channel: Channel[ToWorker] = Channel(theirs, ToWorker)
    sender = ResultSender(channel, lambda one, reason: left_out.append((one.sample, reason)))
    outputs = [{"n": 0}, {"n": np.int64(1)}, {"n": 2}, {"n": 1 << 80}, {"n": "x" * (LARGEST_OUTPUT + 1)}, {"n": 5}]
    for sample, output in enumerate(outputs):
        sender.add(result(sample, output))
    sender.flush()
    assert [sample for sample, _ in left_out] == [1, 3, 4]
    assert left_out[0][1].startswith("an output cannot be encoded: ")
    assert left_out[2][1].endswith(f"the limit is {LARGEST_OUTPUT}")
    supervisor: Channel[Any] = Channel(ours, Any)
    theirs.close()
    received: list[Any] = []
    with ours, suppress(EOFError):
        while True:
            received += [record for records in supervisor.receive() for record in records["items"]]
    assert [record[-1]["n"] for record in received] == [0, 2, 5]

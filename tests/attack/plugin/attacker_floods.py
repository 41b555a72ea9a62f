"""Too much of everything: bytes, names, notices, files, and silence."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from attacker_attempts import Attempts
from attacker_records import FORGED, answered, dismiss, heartbeat, need, notice, own, result, swap, transition

if TYPE_CHECKING:
    from attacker_border import Border

ATTEMPTS = Attempts()
FLOOD = 2.0
"""Seconds that a flood lasts unless the supervisor ends it."""


def _flood(border: Border, make: Any) -> str:
    until, count = time.monotonic() + FLOOD, 0
    while time.monotonic() < until:
        border.record(make(count))
        count += 1
    return f"{count} records"


@ATTEMPTS.named("ten outputs of 50 MB")
def _(border: Border) -> None:
    for _ in range(10):
        border.record(result(own(), output={"x": "y" * 50_000_000}))


@ATTEMPTS.named("ten outputs of 2 MB")
def _(border: Border) -> None:
    for _ in range(10):
        border.record(result(own(), output={"x": "y" * 2_000_000}))


@ATTEMPTS.named("200,000 results in one record")
def _(border: Border) -> None:
    one = result(own(), output={"x": 1})
    border.record({**one, "items": one["items"] * 200_000})


@ATTEMPTS.named("100,000 names of pipelines")
def _(border: Border) -> None:
    for number in range(100_000):
        border.record(result(f"new{number}"))


@ATTEMPTS.named("100,000 names of pipelines in states")
def _(border: Border) -> None:
    for number in range(100_000):
        border.record(transition(f"state{number}", "running"))


@ATTEMPTS.named("100,000 causes of drops")
def _(border: Border) -> None:
    for number in range(100):
        border.record(heartbeat(own(), {f"cause{number}.{i}": 1 for i in range(1000)}))


@ATTEMPTS.named("causes of drops of 100 kB each")
def _(border: Border) -> None:
    for number in range(200):
        border.record(heartbeat(own(), {f"{number}".ljust(100_000, "c"): 1}))


@ATTEMPTS.named("a flood of notices")
def _(border: Border) -> str:
    return _flood(border, lambda _: notice(own(), "gap"))


@ATTEMPTS.named("a flood of log lines")
def _(border: Border) -> str:
    del border
    until, count = time.monotonic() + FLOOD, 0
    while time.monotonic() < until:
        os.write(2, b"a line of the intruder\n")
        count += 1
    return f"{count} lines"


@ATTEMPTS.named("a flood of changes of state")
def _(border: Border) -> str:
    return _flood(border, lambda n: transition(own(), ("running", "waiting")[n % 2]))


@ATTEMPTS.named("a flood of swaps")
def _(border: Border) -> str:
    return _flood(border, lambda n: swap(own(), n // 2 % 10, ("begun", "done")[n % 2]))


@ATTEMPTS.named("a flood of refusals")
def _(border: Border) -> str:
    return _flood(border, lambda n: {"type": "Refused", "problems": [f"{n} {FORGED}"], "pipeline": own()})


@ATTEMPTS.named("a flood of heartbeats")
def _(border: Border) -> str:
    return _flood(border, lambda n: heartbeat(own(), errors=n))


@ATTEMPTS.named("a flood of results")
def _(border: Border) -> str:
    return _flood(border, lambda n: result(own(), sample=n, output={"x": n}))


@ATTEMPTS.named("a flood of outputs as large as they may be")
def _(border: Border) -> str:
    return _flood(border, lambda n: result(own(), sample=n, output="\1" * 130_000))


@ATTEMPTS.named("a flood of histograms with every bucket")
def _(border: Border) -> str:
    buckets = dict.fromkeys(range(900), 1 << 31)
    every = dict.fromkeys(("queue", "transform", "invoke", "decode"), buckets)

    def make(number: int) -> dict[str, Any]:
        return (
            heartbeat(own(), latency=every)
            if number % 2
            else transition(own(), ("running", "waiting")[number % 4 // 2])
        )

    return _flood(border, make)


@ATTEMPTS.named("a flood of answers to questions never asked")
def _(border: Border) -> str:
    return _flood(border, answered)


@ATTEMPTS.named("a flood of dismissals")
def _(border: Border) -> str:
    return _flood(border, dismiss)


@ATTEMPTS.named("50 executors")
def _(border: Border) -> None:
    for number in range(50):
        border.record(need(own(), "cpu", number))


@ATTEMPTS.named("1,600 file descriptors")
def _(border: Border) -> str:
    fd = os.open("/dev/null", os.O_RDONLY)
    for _ in range(200):
        border.record_with(heartbeat(own()), [fd] * 8)
    return "1600 descriptors"


@ATTEMPTS.named("253 file descriptors in one message")
def _(border: Border) -> str:
    fd = os.open("/dev/null", os.O_RDONLY)
    border.record_with(heartbeat(own()), [fd] * 253)
    return "253 descriptors"


@ATTEMPTS.named("one byte at a time, for ever")
def _(border: Border) -> str:
    border.silence()
    border.write(b"\xff\xff\x00\x00")
    until = time.monotonic() + 8
    while time.monotonic() < until:
        border.write(b"\x91")
        time.sleep(0.05)
    return "a record that never ends"


@ATTEMPTS.named("nothing, for ever")
def _(border: Border) -> str:
    border.silence()
    border.record(heartbeat(own()))
    time.sleep(30)
    return "30 s of silence"


@ATTEMPTS.named("the end of the channel while the worker lives on")
def _(border: Border) -> str:
    border.silence()
    border.socket.shutdown(1)
    time.sleep(8)
    return "half a channel"

"""Records that no sound worker sends. Pipelines and sources of others are named as the harness configures them."""

from __future__ import annotations

import os
import struct
import time
from typing import TYPE_CHECKING, Any

import msgspec
from attacker_attempts import Attempts

if TYPE_CHECKING:
    from collections.abc import Callable

    from attacker_border import Border

ATTEMPTS = Attempts()
VICTIM = "bystander"
"""A pipeline of another worker."""
VICTIM_SOURCE = "calm"
FORGED = "forged by an intruder"
"""Stands in everything that is said in the name of others: nobody may ever hear it."""


def result(pipeline: Any, **fields: Any) -> dict[str, Any]:
    """Return a record with one result; ``fields`` stand in place of what a sound one has."""
    item = {
        "pipeline": pipeline,
        "model": "evil",
        "version": 0,
        "delegate": "cpu",
        "degraded": False,
        "monotonic_ns": time.monotonic_ns(),
        "wall_ns": time.time_ns(),
        "sample": 1,
        "latency_ns": 1,
        "output": {"forged": FORGED},
    } | fields
    return {"type": "Results", "items": [list(item.values())]}


def heartbeat(pipeline: Any, dropped: Any = None, **figures: Any) -> dict[str, Any]:
    return {"type": "Heartbeat", "pipelines": {pipeline: figures}, "dropped": dropped or {}}


def inputs(pipeline: Any = None, **fields: Any) -> dict[str, Any]:
    """Return a heartbeat with what its source is said to give."""
    shown = {"rate": 1.0, "shape": [2], "channels": [FORGED, "b"], "rows": [[1.0, 2.0]]} | fields
    return heartbeat(own() if pipeline is None else pipeline) | {"inputs": shown}


def transition(pipeline: Any, state: Any, **fields: Any) -> dict[str, Any]:
    return {"type": "Transition", "pipeline": pipeline, "state": state, "reason": FORGED, **fields}


def own() -> str:
    """Return the name of this worker's pipeline, which is that of its source."""
    with open("/proc/self/comm", encoding="utf-8") as file:
        return file.read().strip().removeprefix("limpet:")


RAW: dict[str, Callable[[], bytes]] = {
    "garbage instead of a record": lambda: os.urandom(4096),
    "a text protocol instead of records": lambda: b"GET / HTTP/1.1\r\n\r\n" * 16,
    "half a length": lambda: b"\x01\x00",
    "half a record": lambda: struct.pack("<I", 1000) + b"\x82\xa4type",
    "a record announced as 4 GiB": lambda: b"\xff\xff\xff\xff" + bytes(1 << 22),
    "a record announced as 1 GiB": lambda: struct.pack("<I", 1 << 30) + bytes(1 << 20),
    "a record of no bytes": lambda: bytes(4),
    "a million records of no bytes": lambda: bytes(4 << 20),
}
"""Bytes as they are."""

RECORDS: dict[str, Callable[[], Any]] = {
    "inputs in the name of another worker": lambda: inputs(VICTIM),
    "inputs with orders to a terminal": lambda: inputs(channels=["\x1b[2J", "b"]),
    "inputs at a rate of NaN": lambda: inputs(rate=float("nan")),
    "inputs at a rate of 1e300": lambda: inputs(rate=1e300),
    "inputs of a shape of 2^63": lambda: inputs(shape=[1 << 63]),
    "a million rows of inputs": lambda: inputs(rows=[[1.0]] * 1_000_000),
    "inputs of 10,000 channels": lambda: inputs(channels=["c"] * 10_000),
    "inputs that are NaN, infinite and of other widths": lambda: inputs(
        rows=[[float("nan"), float("inf")], [], [1e308] * 16]
    ),
    "an unknown tag": lambda: {"type": "Shutdown"},
    "a tag of another type": lambda: {"type": 17},
    "no tag": lambda: {"pipeline": VICTIM},
    "a list instead of a record": lambda: [1, 2, 3],
    "nothing but nil": lambda: None,
    "a field of another type": lambda: result(17),
    "a field too few": lambda: {"type": "Results", "items": [["p", "m"]]},
    "100,000 nested lists": lambda: b"\x91" * 100_000 + b"\xc0",
    "an output of 900 nested maps": lambda: result(own(), output=nested(900)),
    "an output of 20,000 nested lists": lambda: _with_output(b"\x91" * 20_000 + b"\xc0"),
    "a map that announces 4 billion entries": lambda: b"\xdf\xff\xff\xff\xff",
    "a text that announces 4 GiB": lambda: b"\x81\xa4type\xdb\xff\xff\xff\xff",
    "invalid UTF-8 in a text": lambda: b"\x82\xa4type\xa6Notice\xa8pipeline\xa2\xff\xfe",
    "invalid UTF-8 in an output": lambda: _with_output(b"\x81\xa1x\xa2\xc3\x28"),
    "a surrogate in an output": lambda: _with_output(b"\x81\xa1x\xa3\xed\xa0\x80"),
    "an extension type of msgpack": lambda: _with_output(b"\x81\xa1x\xc7\x04\x2aevil"),
    "a msgpack time in a far year": lambda: _with_output(b"\x81\xa1x\xc7\x0c\xff" + bytes(4) + b"\x7f" * 8),
    "bytes in an output": lambda: result(own(), output={"x": b"\xff" * 100}),
    "a map whose key is a map": lambda: _with_output(b"\x81\x81\xa1a\x01\x02"),
    "a map whose key is a number": lambda: result(own(), output={1: 2}),
    "an output that is a bare number": lambda: result(own(), output=7),
    "an output that is nil": lambda: result(own(), output=None),
    "NaN and infinity in an output": lambda: result(own(), output={"x": float("nan"), "y": float("inf")}),
    "the largest integer in an output": lambda: result(own(), output={"x": (1 << 64) - 1}),
    "a time in the year 584,000": lambda: result(own(), wall_ns=(1 << 64) - 1),
    "a time of minus 292 years": lambda: result(own(), wall_ns=-(1 << 63)),
    "a time that is NaN": lambda: result(own(), wall_ns=float("nan")),
    "a monotonic time beyond 64 bits": lambda: result(own(), monotonic_ns=(1 << 64) - 1),
    "a latency that is negative": lambda: result(own(), latency_ns=-(1 << 63)),
    "a sample number that is negative": lambda: result(own(), sample=-(1 << 63)),
    "a histogram bucket of 99,999,999": lambda: heartbeat(own(), latency={"invoke": {99_999_999: 1}}),
    "a histogram bucket of -1": lambda: heartbeat(own(), latency={"invoke": {-1: 1}}),
    "a histogram count of 2^64 - 1": lambda: heartbeat(own(), latency={"invoke": {5: (1 << 64) - 1}}),
    "a histogram count that is negative": lambda: heartbeat(own(), latency={"invoke": {5: -5}}),
    "an unknown stage": lambda: heartbeat(own(), latency={"coffee": {5: 5}}),
    "a count of errors that is negative": lambda: heartbeat(own(), errors=-(1 << 62)),
    "a count of drops that is negative": lambda: heartbeat(own(), {"gap": -(1 << 62)}),
    "a cause of drops with a NUL": lambda: heartbeat(own(), {"\0": 1}),
    "a result for the pipeline a/#": lambda: result("a/#"),
    "a result for the pipeline +": lambda: result("+"),
    "a result for a pipeline with a NUL": lambda: result("a\0b"),
    "a result for a pipeline of 70,000 letters": lambda: result("x" * 70_000),
    "a result for a pipeline without a name": lambda: result(""),
    "a result for the pipeline ../../status": lambda: result("../../status"),
    "a result for a pipeline with a surrogate": lambda: (
        b"\x82\xa4type\xa7Results\xa5items\x91\x9a\xa3\xed\xa0\x80"
    ),
    "a result for the pipeline of another worker": lambda: result(VICTIM),
    "a state for the pipeline of another worker": lambda: transition(VICTIM, "failed"),
    "a model for the pipeline of another worker": lambda: transition(VICTIM, "running", model=FORGED, version=9),
    "a state that does not exist": lambda: transition(own(), "on fire"),
    "a state for the pipeline a/#": lambda: transition("a/#", "running"),
    "a reason of 8 MB": lambda: {**transition(own(), "running"), "reason": "x" * 8_000_000},
    "a result of a model that it was not given": lambda: result(own(), model=FORGED, version=9),
    "a result of a version that it was not given": lambda: result(own(), version=1),
    "a model that it was not given": lambda: transition(own(), "running", model=FORGED, version=9),
    "a model's name of 200,000 letters": lambda: transition(own(), "running", model="m" * 200_000),
    "a model's share that is NaN": lambda: transition(own(), "running", model="evil", delegate_share=float("nan")),
    "a sandbox of 100,000 words": lambda: transition(own(), "running", sandbox=["w"] * 100_000),
    "a heartbeat for the pipeline of another worker": lambda: heartbeat(VICTIM, {FORGED: 10**9}, errors=10**9),
    "a notice for the pipeline of another worker": lambda: notice(VICTIM, "crashed"),
    "a notice for the pipeline a/#": lambda: notice("a/#", "gap"),
    "a notice of the whole device": lambda: notice("", "crashed"),
    "a picture of its own pipeline, which takes none": lambda: picture(own()),
    "a picture of the pipeline of another worker": lambda: picture(VICTIM),
    "a picture of the pipeline a/#": lambda: picture("a/#"),
    "a picture that is a web page": lambda: picture(own(), b"<html>" + FORGED.encode()),
    "a picture of 1 MB": lambda: picture(own(), b"\xff\xd8\xff" + bytes(1_000_000) + b"\xff\xd9"),
    "a window for the ring of another worker": lambda: kept(VICTIM),
    "a window for a ring that is not wanted": lambda: kept(own()),
    "a window for the ring of ../..": lambda: kept("../.."),
    "a window of 2^40 bytes": lambda: kept(own(), size=1 << 40),
    "a window with orders to a terminal": lambda: kept(own(), detail="\x1b[2J" + FORGED),
    "a window of the shape [2^24] * 8": lambda: kept(own(), window={**WINDOW, "shape": [1 << 24] * 8}),
    "an object of the pipeline of another worker": lambda: detected(VICTIM),
    "an object of the pipeline a/#": lambda: detected("a/#"),
    "an object with orders to a terminal": lambda: detected(own(), label="\x1b[2J"),
    "an object with a label of 1 MB": lambda: detected(own(), label="x" * 1_000_000),
    "an object whose score is NaN": lambda: detected(own(), score=float("nan")),
    "an object beyond the picture": lambda: detected(own(), box=[-1.0, 0.0, 1e308, float("inf")]),
    "an object with an id of 2^64 - 1": lambda: detected(own(), id=(1 << 64) - 1),
    "an object in the zone ../../status": lambda: detected(own(), zones=["../../status"]),
    "an object in 100,000 zones": lambda: detected(own(), zones=["z"] * 100_000),
    "an object that ends and never came": lambda: detected(own(), type="end", reason=FORGED),
    "an object in the year 584,000": lambda: {**detected(own()), "wall_ns": (1 << 64) - 1},
    "an event of an unknown kind": lambda: detected(own(), event="fire"),
    "a notice with an event of 1 MB": lambda: notice(own(), "e" * 1_000_000),
    "a swap for the pipeline of another worker": lambda: swap(VICTIM, 1, "done"),
    "a swap to an assignment that it was not given": lambda: swap(own(), 1 << 30, "done"),
    "a swap with a reason of 1 MB": lambda: {**swap(own(), 1, "failed"), "reason": "r" * 1_000_000},
    "a refusal for the pipeline of another worker": lambda: {
        "type": "Refused", "problems": [FORGED], "pipeline": VICTIM,
    },
    "a refusal of 100,000 problems": lambda: {
        "type": "Refused", "problems": ["p" * 50] * 100_000, "pipeline": own(),
    },
    "an alarm of the pipeline of another worker": lambda: monitors(VICTIM),
    "an alarm with orders to a terminal": lambda: monitors(own(), reason="\x1b[2J"),
    "an alarm since 1e308 seconds": lambda: monitors(own(), since_s=1e308),
    "an alarm whose p-value is NaN": lambda: monitors(own(), p_value=float("nan")),
    "an alarm of a fault that has no name": lambda: monitors(own(), fault=FORGED),
    "an alarm for what moved to infinity": lambda: monitors(
        own(), moved=[{"name": "ax.mean", "before": 0.0, "now": float("inf")}]
    ),
    "an alarm for 100,000 features": lambda: monitors(
        own(), moved=[{"name": "ax.mean", "before": 0.0, "now": 1.0}] * 100_000
    ),
    "10,000 monitors": lambda: heartbeat(own(), monitors={"monitors": {f"m{n}": {} for n in range(10_000)}}),
    "a sketch of 10,000 counts": lambda: heartbeat(own(), monitors={"sketches": {"ax.mean": [1] * 10_000}}),
    "a sketch whose counts are negative": lambda: heartbeat(own(), monitors={"sketches": {"ax.mean": [-1]}}),
    "10,000 sketches": lambda: heartbeat(own(), monitors={"sketches": {f"s{n}": [1] for n in range(10_000)}}),
    "monitors 900 maps deep": lambda: heartbeat(own(), monitors=nested(900)),
    "sets of 2^64 - 1 labels": lambda: heartbeat(
        own(), uncertainty={"windows": 1, "abstained": 0, "runs": 1, "sets": {(1 << 64) - 1: 1}}
    ),
    "more abstentions than windows": lambda: heartbeat(
        own(), uncertainty={"windows": 1, "abstained": (1 << 64) - 1, "runs": 1, "sets": {}}
    ),
    "savings that are negative": lambda: heartbeat(own(), savings={"gate": {"seen": -1, "spared": -1}}),
    "levels of minus one window": lambda: heartbeat(own(), levels=[-1, [1.0], [1.0]]),
    "levels that are infinite": lambda: heartbeat(own(), levels=[1, [float("inf")], [float("nan")]]),
    "levels of 100,000 channels": lambda: heartbeat(own(), levels=[1, [1.0] * 100_000, [1.0] * 100_000]),
    "a reference of the pipeline of another worker": lambda: expected(VICTIM),
    "a reference with an accuracy of NaN": lambda: expected(own(), accuracy=float("nan")),
    "a reference with a class of 1 MB": lambda: expected(own(), priors={"x" * 1_000_000: 1.0}),
    "a reference with 100,000 slices": lambda: expected(own(), slices={f"g={n}": 0.5 for n in range(100_000)}),
    "a reference with a class that moves the cursor": lambda: expected(own(), priors={"\x1b[2J": 1.0}),
    "a reference with a threshold of 1e308": lambda: expected(own(), threshold=1e308),
    "an answer to a question never asked": lambda: answered(1),
    "an answer with a number of 2^63": lambda: answered(1 << 63),
    "an executor for the pipeline of another source": lambda: need(VICTIM, "cpu"),
    "an executor for a pipeline of 70,000 letters": lambda: need("x" * 70_000, "cpu"),
    "an executor for the pipeline a/#, with a NUL": lambda: need("a/#\0", "cpu"),
    "an executor on a library of its own": lambda: need(own(), "external:/tmp/evil.so"),
    "an executor under a number of 2^63": lambda: need(own(), "cpu", 1 << 63),
    "an executor with a configuration of its own": lambda: {**need(own(), "cpu"), "config": {"base": "/"}},
    "a shadow of its own pipeline, which has none": lambda: shadow(own()),
    "a shadow of the pipeline of another worker": lambda: shadow(VICTIM),
    "a comparison with a model that it was not given": lambda: pairs(own()),
    "a comparison in the pipeline of another worker": lambda: pairs(VICTIM),
    "a comparison of 1,000,000 windows": lambda: pairs(own(), 1_000_000),
    "a comparison with answers of 1 MB": lambda: pairs(own(), label="x" * 1_000_000),
    "stage times of a window of another worker": lambda: {
        "type": "WindowTimes", "pipeline": VICTIM, "sample": 1, "monotonic_ns": 1,
        "transform_ns": 1, "invoke_ns": 1, "decode_ns": 1,
    },
    "a failed shadow of another worker": lambda: {
        "type": "ShadowFailed", "pipeline": VICTIM, "shadow": FORGED, "shadow_version": 1, "reason": FORGED,
    },
    "the dismissal of an executor that is not its own": lambda: dismiss(1),
    "the dismissal of the worker of another source": lambda: dismiss(VICTIM_SOURCE),
    "a birth that only the fork server may tell": lambda: {"type": "Forked", "worker": VICTIM_SOURCE, "pid": 1},
    "a death that only the fork server may tell": lambda: {"type": "Exited", "pid": os.getppid(), "status": 0},
    "an order that only the supervisor may give": lambda: {"type": "Stop"},
}  # fmt: skip
"""One record each: an object to encode, or the bytes of one."""


def nested(depth: int) -> Any:
    tree: Any = 1
    for _ in range(depth):
        tree = {"x": tree}
    return tree


WINDOW = {"encoding": "raw", "shape": [1, 2], "dtype": "float32", "parts": [8]}


def kept(pipeline: str, **fields: Any) -> dict[str, Any]:
    """Return a window for the ring of captures, without the file that should come along."""
    times = {"monotonic_ns": time.monotonic_ns(), "wall_ns": time.time_ns(), "sample": 1}
    about = {"model": "evil", "version": 0, "reasons": ["command"], "answer": FORGED, "window": WINDOW, "size": 20}
    return {"type": "Kept", "pipeline": pipeline, **times, **about, **fields}


def picture(pipeline: str, jpeg: bytes = b"\xff\xd8\xff " + FORGED.encode() + b"\xff\xd9") -> dict[str, Any]:
    stamps = {"monotonic_ns": time.monotonic_ns(), "wall_ns": time.time_ns(), "sample": 1}
    return {"type": "Snapshot", "pipeline": pipeline, "jpeg": jpeg, **stamps}


def notice(pipeline: str, event: str) -> dict[str, Any]:
    return {"type": "Notice", "pipeline": pipeline, "event": event, "reason": FORGED}


def swap(pipeline: str, revision: int, step: str) -> dict[str, Any]:
    return {"type": "SwapReport", "pipeline": pipeline, "revision": revision, "step": step, "reason": FORGED}


def detected(pipeline: str, **changes: Any) -> dict[str, Any]:
    event = {"event": "object", "type": "new", "id": 1, "label": FORGED, "score": 0.5, "box": [0.0, 0.0, 1.0, 1.0]}
    times = {"zones": [], "age_s": 0.0, "unseen_s": 0.0}
    return {"type": "EventDetected", "pipeline": pipeline, "event": {**event, **times, **changes}, "wall_ns": 1}


def need(pipeline: str, delegate: str, number: int = 1) -> dict[str, Any]:
    return {"type": "Need", "number": number, "pipeline": pipeline, "delegate": delegate, "revision": 1}


def shadow(pipeline: str) -> dict[str, Any]:
    return {"type": "NeedShadow", "number": 1, "pipeline": pipeline}


def pairs(pipeline: str, count: int = 1, label: str = FORGED) -> dict[str, Any]:
    pair = [1, 1, [label, 0.5], [label, 0.5], 1.0, 1.0, 1.0]
    models = {"model": "motion", "version": 0, "shadow": FORGED, "shadow_version": 1}
    return {"type": "Pairs", "pipeline": pipeline, "items": [pair] * count, **models}


def monitors(pipeline: str, **alarm: Any) -> dict[str, Any]:
    """Return a heartbeat whose monitor ``univariate`` has this alarm."""
    return heartbeat(pipeline, monitors={"windows": 1, "monitors": {"univariate": {"level": 2.0, "alarm": alarm}}})


def expected(pipeline: str, **fields: Any) -> dict[str, Any]:
    return {"type": "Expected", "pipeline": pipeline, "model": "evil", "version": 0, **fields}


def dismiss(number: Any) -> dict[str, Any]:
    return {"type": "Dismiss", "number": number}


def answered(number: int) -> dict[str, Any]:
    return {"type": "Answered", "number": number, "result": {"forged": FORGED}}


def _with_output(raw: bytes) -> bytes:
    """Return a record with one result whose output is these bytes of msgpack."""
    return bytes(msgspec.msgpack.encode(result(own(), output=None)))[:-1] + raw


def _raw(make: Callable[[], bytes]) -> Callable[[Border], Any]:
    def attack(border: Border) -> str:
        border.silence()
        data = make()
        border.write(data)
        return f"{len(data)} bytes"

    return attack


def _record(make: Callable[[], Any]) -> Callable[[Border], Any]:
    return lambda border: border.record(make())


@ATTEMPTS.named("means of three channels and one variance, twice")
def _(border: Border) -> None:
    for _ in range(2):
        border.record(heartbeat(own(), levels=[5, [1.0, 2.0, 3.0], [1.0]]))


@ATTEMPTS.named("10,000 heartbeats, each with alarms of other monitors")
def _(border: Border) -> None:
    for number in range(10_000):
        alarms = {f"m{number}-{n}": {"level": 2.0, "alarm": {"reason": FORGED[:1]}} for n in range(4)}
        border.record(heartbeat(own(), monitors={"monitors": alarms}))


@ATTEMPTS.named("10,000 references, each with other classes")
def _(border: Border) -> None:
    for number in range(10_000):
        border.record(expected(own(), priors={f"c{number}": 1.0}))


ATTEMPTS.update({name: _raw(make) for name, make in RAW.items()})
ATTEMPTS.update({name: _record(make) for name, make in RECORDS.items()})

"""Messages of a device with one pipeline, as those who watch it get them."""

from __future__ import annotations

import json
from datetime import datetime, timezone

import msgspec

from limpet.contracts.messages import EventMessage, ModelReported, ResultMessage

NOON = datetime(2026, 11, 28, 12, 0, tzinfo=timezone.utc)


def result(number: int, size: int = 10, pipeline: str = "one") -> ResultMessage:
    return ResultMessage(
        id=f"press-07/{pipeline}/4-abc/{number}", device="press-07", pipeline=pipeline, boot="4-abc",
        sequence=number, time=NOON, monotonic_ns=1, sample=number, model="m", version=1, delegate="cpu",
        degraded=False, latency_us=1.5, output=msgspec.Raw(json.dumps({"text": "x" * size}).encode()),
    )  # fmt: skip


def event(name: str) -> EventMessage:
    return EventMessage(device="press-07", boot="4-abc", time=NOON, event=name, pipeline="one")


def reported(version: int) -> ModelReported:
    return ModelReported(
        device="press-07", pipeline="one", time=NOON, model="m", version=version, state="running", reason="",
        delegate="cpu", degraded=False,
    )  # fmt: skip

"""Captures for tests: a header, and the bytes of a whole file."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import numpy as np
from msgspec.structs import replace

from limpet.captures import form
from limpet.contracts.captures import Capture, WindowForm

VALUES = np.arange(6, dtype=np.float32).reshape(3, 2)


def capture(**changes: Any) -> Capture:
    window = WindowForm(
        encoding="raw",
        shape=[3, 2],
        dtype="float32",
        parts=[24],
        channels=["ax", "ay"],
        units=["g", "g"],
        rate=50.0,
    )
    whole = Capture(
        number=7,
        device="press",
        pipeline="motion",
        id="press/motion/b1/12",
        time=datetime(2026, 11, 29, tzinfo=timezone.utc),
        sample=300,
        model="shake",
        version=3,
        reasons=["unsure"],
        detail="margin 0.03",
        answer="idle",
        score=0.5,
        output="Classification",
        window=window,
    )
    return replace(whole, **changes)


def packed(one: Capture, body: bytes | None = None) -> bytes:
    body = form.body_of(b'{"label": "idle"}', [VALUES.astype("<f4").tobytes()]) if body is None else body
    return form.pack(form.header_of(one), body)

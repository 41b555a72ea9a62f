"""The pipeline beside a bare ``invoke()`` loop, in one process, in turn."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import msgspec

from limpet.inference.measure import throughput
from limpet.inference.single import plan_model


def measure(model: Path, seconds: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as cache:
        plan = plan_model(model, None, ["cpu"], Path(cache))
        figures: dict[str, Any] = msgspec.to_builtins(throughput(plan, seconds))
    return figures

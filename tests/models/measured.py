"""What pictures and sounds share: the device's configuration, and the time that a window takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STEPS = ("transform", "invoke")
"""What a window's time is made of, beside a bare model with the same preparation."""


def timed(messages: Any) -> Iterator[tuple[int, float]]:
    """Yield of each health message how many windows it is about, and their median µs."""
    for message in messages:
        stages = message.json["latency_us"] if message.payload else {}
        if all(step in stages for step in STEPS):
            yield stages["invoke"]["count"], sum(stages[step]["p50"] for step in STEPS)


def device(bundle: Path, url: str, state: Path) -> str:
    """Return the configuration of the device."""
    return f"""
[device]
id = "models"
state = "{state}"
models = "{bundle.parent}"
health_interval = 1

[mqtt]
url = "{url}"
"""

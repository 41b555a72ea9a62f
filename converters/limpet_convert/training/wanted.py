"""What a person wants trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from limpet_convert.training.problem import Task


@dataclass(frozen=True)
class Wanted:
    """What the command line says. ``window`` in samples, ``budget`` in seconds."""

    folder: Path
    task: Task
    name: str
    output: Path
    budget: float
    version: int | None = None
    kilobytes: float | None = None
    target: str = ""
    channels: tuple[str, ...] = ()
    window: int | None = None
    framework: str = ""
    test: Path | None = None
    false_alarms: float = 0.01
    force: bool = False

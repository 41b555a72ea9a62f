"""What the boards send: motions of a wrist (BasicMotions of the UEA archive), telemetry of a space shuttle."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

CHANNELS = ("ax", "ay", "az", "gx", "gy", "gz")
LABELS = ("badminton", "running", "standing", "walking")
REST = "0,0,0,0,0,0"


def read(environment: Path, part: str) -> dict[str, list[list[str]]]:
    """Return the recordings of a part (TRAIN or TEST), by label: ten of 100 lines of CSV each.

    They lie in the package aeon, in an environment for converters. Their 10 samples a second become 100 lines.
    """
    (path,) = environment.glob(
        f"lib/python3*/site-packages/aeon/datasets/data/BasicMotions/BasicMotions_{part}.ts"
    )
    lines = path.read_text().splitlines()
    found: dict[str, list[list[str]]] = {label: [] for label in LABELS}
    for line in lines[lines.index("@data") + 1 :]:
        *channels, label = line.strip().split(":")
        rows = zip(*(channel.split(",") for channel in channels), strict=True)
        found[label.lower()].append([",".join(row) for row in rows])
    return found

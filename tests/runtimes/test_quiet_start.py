"""The runtime's greeting is not printed; all else that it prints is."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from support import models

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
import os, sys
from pathlib import Path
from limpet.contracts.delegate import CPU
from limpet.runtimes import tflite
from limpet.runtimes.litert import quiet_start

def other(model_content):
    os.write(2, b"ERROR: of another thread\\n")
    return tflite.Interpreter(model_content=model_content)

if sys.argv[2] == "other":
    quiet_start.hide_greeting(other)
with tflite.open(Path(sys.argv[1]), tflite.Config(), CPU) as model:
    os.write(2, b"ERROR: of a model\\n")
"""


def stderr(model: Path, how: str) -> list[str]:
    command = [sys.executable, "-c", PROGRAM, model, how]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stderr.splitlines()


def test_only_the_greeting_is_dropped(tmp_path: Path) -> None:
    model = models.dense(tmp_path / "m.tflite", 3, 3)
    assert stderr(model, "plain") == ["ERROR: of a model"]
    assert stderr(model, "other") == ["ERROR: of another thread", "ERROR: of a model"]

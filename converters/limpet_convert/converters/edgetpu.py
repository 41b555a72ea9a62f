"""An int8 ``.tflite`` model for the Edge TPU, by the vendor's ``edgetpu_compiler`` where that is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from limpet_convert.errors import ConvertError

SUFFIXES = ()
COMPILER = "edgetpu_compiler"


def convert(model: Path) -> tuple[bytes, str]:
    """Return the compiled model, and the compiler's line on how many ops run on the accelerator.

    ``ConvertError`` where the compiler is not installed or refuses, with what it says.
    """
    compiler = shutil.which(COMPILER)
    if compiler is None:
        raise ConvertError(f"{COMPILER} is not installed; its vendor has it for Debian on x86-64 (coral.ai)")
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [compiler, "-s", "-o", folder, str(model)], capture_output=True, text=True, check=False
        )
        made = Path(folder) / f"{model.stem}_edgetpu.tflite"
        if done.returncode or not made.exists():
            said = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()] or ["nothing"]
            raise ConvertError(f"{COMPILER} refuses {model.name}: {said[-1]}")
        return made.read_bytes(), _share(done.stdout)


def _share(text: str) -> str:
    """Return for instance ``12 of 14 operations``."""
    on, off = (re.search(rf"will run on {where}: (\d+)", text) for where in ("Edge TPU", "CPU"))
    return f"{on[1]} of {int(on[1]) + int(off[1])} operations" if on and off else ""

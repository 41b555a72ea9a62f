"""The fault-injecting TFLite delegate: built with this machine's compiler, steered through a file."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).parent / "fault_delegate" / "fault_delegate.c"


def build(folder: Path) -> Path:
    """Compile the delegate into ``folder`` and return the library."""
    library = folder / "libfault_delegate.so"
    if not library.exists():
        flags = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared"]
        new = library.with_suffix(f".{os.getpid()}")
        subprocess.run([os.environ.get("CC", "cc"), *flags, "-o", new, SOURCE, "-lm"], check=True, timeout=60)
        new.rename(library)
    return library


def ops(interpreter: Any) -> list[dict[str, Any]]:
    """Return the ops that an interpreter has planned; one that a delegate took is named DELEGATE."""
    found: list[dict[str, Any]] = interpreter._get_ops_details()  # noqa: SLF001 - it has no public way
    return found


class Control:
    """Raises faults in delegates that run, and lifts them; the words are explained in the C source."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def options(self, fault: str = "") -> dict[str, str]:
        """Return the options that put a delegate under this control, and give it a fault of its own."""
        return {"control": str(self.path), "fault": fault}

    def raise_(self, words: str) -> None:
        new = self.path.with_suffix(".new")
        new.write_text(words)
        new.rename(self.path)

    def lift(self) -> None:
        self.path.unlink(missing_ok=True)

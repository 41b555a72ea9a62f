"""Cryptography costs 11 MB, so only short-lived processes and commands load it, and only with a root of trust."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("tuf", "securesystemslib", "cryptography")
MODULES = (
    "limpet.supervision.supervisor",
    "limpet.supervision.starting",
    "limpet.worker.process",
    "limpet.worker.examiner",
    "limpet.worker.reader",
    "limpet.executor.process",
    "limpet.fork.server",
    "limpet.doctor.check",
    "limpet.pipeline",
)


def test_processes_without_a_root_load_no_cryptography() -> None:
    program = f"import {', '.join(MODULES)}, sys; print(*(name for name in {HEAVY} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []

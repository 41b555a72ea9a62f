"""Drivers of the virtual machine, and the device nodes that udev makes for them."""

from __future__ import annotations

import subprocess
from pathlib import Path

from support.broker import wait_until

SLOW = 120.0
"""Seconds that something may take in the machine, which is emulated."""


def load(module: str, *options: str) -> None:
    subprocess.run(["modprobe", module, *options], check=True)
    settle()


def unload(module: str) -> None:
    subprocess.run(["modprobe", "--remove", module], check=True)
    settle()


def settle() -> None:
    subprocess.run(["udevadm", "settle"], check=True)


def only(pattern: str) -> Path:
    """Return the only node that a pattern fits, once it is there."""
    found: list[Path] = []

    def look() -> bool:
        found[:] = sorted(Path("/").glob(pattern.lstrip("/")))
        return len(found) == 1

    wait_until(look, SLOW)
    return found[0]

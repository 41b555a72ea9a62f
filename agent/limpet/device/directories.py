"""Directories that whoever starts the service has made for it, as systemd.exec(5) hands them over."""

from __future__ import annotations

import os
from pathlib import Path


def state() -> Path:
    """Return where state is kept unless the configuration says so: it survives a reboot."""
    return _first("STATE_DIRECTORY") or Path("/var/lib/limpet")


def runtime() -> Path | None:
    """Return a directory in memory that survives a restart of the service; ``None`` where there is none."""
    return _first("RUNTIME_DIRECTORY")


def _first(variable: str) -> Path | None:
    given = os.environ.get(variable, "").partition(":")[0]
    return Path(given) if given else None

"""Directories of the service, as systemd.exec(5) passes them in the environment."""

from __future__ import annotations

import os
from pathlib import Path


def state() -> Path:
    """Return the default state directory, which survives a reboot."""
    return _first("STATE_DIRECTORY") or Path("/var/lib/limpet")


def runtime() -> Path | None:
    """Return a directory in memory that survives a restart of the service; ``None`` where there is none."""
    return _first("RUNTIME_DIRECTORY")


CONFIGURATION, RUNTIME = Path("/etc/limpet"), Path("/run")
"""Where the configuration files of services are, and the parent of their runtime directories."""

MONITOR = "monitor.sock"


def monitor(state: Path) -> Path:
    """Return the path of the monitor socket of a daemon with this state directory."""
    return (runtime() or state) / MONITOR


API = "api.sock"


def api(state: Path) -> Path:
    """Return the path of the local API's Unix socket of a daemon with this state directory."""
    return (runtime() or state) / API


CACHE = "cache"
"""Folder in the state directory for files that can be made again."""


def models_cache(state: Path, source: str) -> Path:
    """Return where the models of one source are unpacked. Only the worker of that source may write there."""
    return state / CACHE / "models" / source


def drivers_cache(state: Path, pipeline: str) -> Path:
    """Return where the driver of an accelerator keeps what it compiled for one pipeline.

    Only the executors of that pipeline may write there, as some drivers run what they find.
    """
    return state / CACHE / "drivers" / pipeline


def admissions(state: Path) -> Path:
    """Return where candidates are unpacked and tried, in a folder for each pipeline that is deleted afterwards."""
    return state / CACHE / "admission"


LEARNED = "learned"
"""Folder in the state directory for what models learn on this device: a folder for each pipeline."""


def learned(state: Path, pipeline: str) -> Path:
    """Return where the model of one pipeline keeps what it learns.

    Only the worker of that pipeline may write there.
    """
    return state / LEARNED / pipeline


REPORTERS = "reporters"
"""In the state directory and in the runtime directory: a folder for each reporter."""


def reporter(parent: Path, name: str) -> Path:
    """Return the folder of a reporter in the state directory or in the runtime directory."""
    return parent / REPORTERS / name


def credential(path: Path) -> Path:
    """Return where a secret's file is: by its name among systemd's credentials, else at ``path``.

    In that order, as the file that a credential is loaded from is often there and not for this user to read.
    """
    found = Path(os.environ.get("CREDENTIALS_DIRECTORY", "")) / path.name
    return found if "CREDENTIALS_DIRECTORY" in os.environ and found.is_file() else path


def _first(variable: str) -> Path | None:
    found = os.environ.get(variable, "").partition(":")[0]
    return Path(found) if found else None

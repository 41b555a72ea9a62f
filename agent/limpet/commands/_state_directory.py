"""Which state directory a command is about."""

from __future__ import annotations

from pathlib import Path

from limpet import config
from limpet.device import directories
from limpet.errors import ConfigFileError


def state_of(path: Path) -> Path:
    """Return the state directory of a configuration that may be wrong otherwise, or missing."""
    try:
        _, tables = config.parse(path)
    except ConfigFileError as error:
        if not path.exists():
            return directories.state()
        (problem,) = error.found
        advice = f"{problem.message}. Correct that, or name the directory with --state"
        raise ConfigFileError([problem._replace(message=advice)]) from error
    device = tables.get("device")
    named = device.get("state") if isinstance(device, dict) else None
    return path.absolute().parent / Path(named).expanduser() if isinstance(named, str) else directories.state()

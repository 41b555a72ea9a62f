"""What ``limpet doctor`` checks: a machine, the software on it and a configuration."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from limpet import config
from limpet.device.machine import Machine
from limpet.doctor.runtime_packages import Software, installed
from limpet.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from limpet.config import Config


@dataclass(frozen=True)
class Installation:
    """``config`` is ``None`` if there is no file, or if it cannot be read; ``problems`` then say why.

    ``now`` is in seconds since 1970. Files of the machine are looked up below ``machine.root``.
    """

    path: Path
    config: Config | None = None
    problems: tuple[str, ...] = ()
    machine: Machine = field(default_factory=Machine)
    software: Software = field(default_factory=installed)
    now: float = field(default_factory=time.time)


def read(path: Path, machine: Machine) -> Installation:
    """Return the installation of this Python and a configuration file, which may be missing or wrong."""
    if not path.exists():
        return Installation(path, machine=machine)
    try:
        return Installation(path, config.read(path), machine=machine)
    except ConfigError as error:
        return Installation(path, problems=error.problems, machine=machine)

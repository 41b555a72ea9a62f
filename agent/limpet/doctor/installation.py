"""Who is examined: a machine, the software on it and a configuration."""

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
    """``config`` is ``None`` where there is no file, or ``problems`` say why it cannot be read.

    ``now`` is in seconds since 1970. Files of the machine are looked up below ``machine.root``.
    """

    path: Path
    config: Config | None = None
    problems: tuple[str, ...] = ()
    machine: Machine = field(default_factory=Machine)
    software: Software = field(default_factory=installed)
    now: float = field(default_factory=time.time)


def read(path: Path, machine: Machine) -> Installation:
    """Make a installation of this Python and a configuration file, which may be missing or wrong."""
    if not path.exists():
        return Installation(path, machine=machine)
    try:
        return Installation(path, config.read(path), machine=machine)
    except ConfigError as error:
        return Installation(path, problems=error.problems, machine=machine)

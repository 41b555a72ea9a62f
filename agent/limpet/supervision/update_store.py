"""The state of all updates. It is on the disk before anything is done about it."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from time import monotonic
from typing import TYPE_CHECKING

from msgspec.structs import replace

from limpet.device.clock import PLAUSIBLE, boot_id
from limpet.models import deployed
from limpet.updates.state import NAME, Update, Updates, on_disk

if TYPE_CHECKING:
    from pathlib import Path

WRITE_AGAIN = 1.0
"""Seconds after which a state that could not be written is tried again."""


class UpdateStore:
    """Keeps ``updates``, which is what the disk has. ``state`` is the state directory."""

    def __init__(self, state: Path, updates: Updates) -> None:
        self.updates = updates
        self.problem = ""
        """Why the last state is not on the disk, empty if it is."""
        self.again_at = 0.0
        """When what could not be written is tried again, on the monotonic clock; 0 if there is nothing."""
        self._state = state

    def update(self, pipeline: str) -> Update:
        """Return the update of a pipeline. Without one, it is idle."""
        return self.updates.pipelines.get(pipeline) or Update(pipeline=pipeline)

    def write(self, updates: Updates) -> bool:
        """Take a state, if the disk has it. Return whether that is so."""
        on_it = on_disk(updates)
        if on_it != on_disk(self.updates):
            updates = replace(updates, latest=max(updates.latest, clock()), machine=boot_id())
            try:
                deployed.write(self._state, on_disk(updates))
            except OSError as error:
                self.problem = f"{self._state / NAME}: {error.strerror}"
                self.again_at = monotonic() + WRITE_AGAIN
                return False
        self.problem = ""
        self.updates = updates
        return True


def local_time() -> datetime | None:
    """Return the local time, ``None`` if the clock was never set."""
    return datetime.now(timezone.utc).astimezone() if time.time() >= PLAUSIBLE else None


def clock() -> float:
    """Return the wall clock in seconds since 1970, 0 if it was never set."""
    wall = time.time()
    return wall if wall >= PLAUSIBLE else 0.0

"""What the rules of updates know of this device at one instant."""

from __future__ import annotations

import os
from time import monotonic
from typing import TYPE_CHECKING

from limpet.supervision.update_store import clock, local_time
from limpet.updates import schedule
from limpet.updates.facts import Facts
from limpet.updates.schedule import Conditions

if TYPE_CHECKING:
    from pathlib import Path

    from limpet.config import Config
    from limpet.contracts.updates import ModelName
    from limpet.device.host import Host
    from limpet.supervision.update_store import UpdateStore

DISK_BYTES = 512_000_000
"""Bytes for bundles where the configuration has no table ``[updates]``."""


def facts(  # noqa: PLR0913 - each comes from elsewhere
    config: Config,
    store: UpdateStore,
    host: Host,
    pipeline: str,
    *,
    received: int,
    pinned: bool,
    has_model: bool,
    has_good: bool,
    own: ModelName | None,
) -> Facts:
    """Return the facts for a pipeline. ``received``: bytes from the network that are not in the state yet."""
    table = config.updates
    return Facts(
        now=max(clock(), store.updates.latest),
        steady=monotonic(),
        disk=schedule.Disk(bound=table.disk_bytes if table else DISK_BYTES, free=_free(config.device.state)),
        conditions=_conditions(config, store, host, pipeline),
        window=table.window if table else schedule.ANY_TIME,
        per_day=table.bytes_per_day if table else None,
        spent=schedule.spend(store.updates.spent, local_time(), received),
        pinned=pinned,
        has_model=has_model,
        has_good=has_good,
        own=own,
    )


def _free(state: Path) -> int:
    """Return the free bytes of the file system, 0 if that cannot be found out."""
    try:
        disk = os.statvfs(state)
    except OSError:
        return 0
    return disk.f_bavail * disk.f_frsize


def _conditions(config: Config, store: UpdateStore, host: Host, pipeline: str) -> Conditions:
    local = local_time()
    if store.update(pipeline).stage not in ("staged", "shadow"):
        return Conditions(local=local)  # No window is waited for, so the machine is not read.
    readings = host.readings()
    busy = readings.pressure is not None and readings.pressure >= config.governor.busy
    return Conditions(local=local, busy=busy, on_battery=readings.charge is not None)

"""Orders of a person on this device to the daemon: a file in the state directory, and a signal."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import msgspec

from limpet.device import state_files
from limpet.errors import LimpetError
from limpet.models import deployed, pins
from limpet.tables import UpdatesTable
from limpet.updates.facts import Facts
from limpet.updates.schedule import Conditions, Disk
from limpet.updates.state import REQUESTS, Update
from limpet.wording import listed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from limpet.config import Config
    from limpet.updates.local_orders import LocalOrder
    from limpet.updates.state import Updates


def known_updates(wanted: Config) -> Updates:
    """Return what is known of updates. ``LimpetError`` if this user may not read that."""
    try:
        return deployed.read(wanted.device.state)
    except OSError as error:
        raise LimpetError(f"{error.filename}: {error.strerror}. Run this with sudo") from error


def disk_of(wanted: Config) -> Disk:
    """Return what there is for bundles: nothing is free if the state directory cannot be read."""
    bound = (wanted.updates or UpdatesTable()).disk_bytes
    try:
        disk = os.statvfs(wanted.device.state)
    except OSError:
        return Disk(bound=bound, free=0)
    return Disk(bound=bound, free=disk.f_bavail * disk.f_frsize)


def facts_of(wanted: Config, updates: Updates, pipeline: str) -> Facts:
    """Return what the rules of updates depend on, as the daemon knows it."""
    table = wanted.updates or UpdatesTable()
    return Facts(
        now=max(time.time(), updates.latest),
        steady=0.0,
        disk=disk_of(wanted),
        conditions=Conditions(),
        window=table.window,
        pinned=pipeline in pins.read(wanted.device.state).pipelines,
        highest=updates.highest,
        others=tuple(
            one for name, update in updates.pipelines.items() if name != pipeline for one in update.deployed
        ),
    )


def update_of(updates: Updates, pipeline: str) -> Update:
    """Return the update of a pipeline, an idle one if there was none."""
    return updates.pipelines.get(pipeline) or Update(pipeline=pipeline)


def only_one(pipelines: Sequence[str], none: str, several: str) -> str:
    """Return the pipeline if there is one. ``LimpetError`` with one of these texts otherwise."""
    if len(pipelines) == 1:
        return pipelines[0]
    raise LimpetError(f"{several}: {listed(sorted(pipelines))}" if pipelines else none)


def folder_of(state: Path) -> Path:
    """Return the folder for orders, made if it is not there. ``LimpetError`` if it is no folder itself."""
    folder = state / REQUESTS
    if state_files.is_irregular_folder(folder):
        raise LimpetError(f"{folder} is {state_files.kind(folder)}; a folder is expected. Delete it")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def put(state: Path, pipeline: str, order: LocalOrder) -> Path:
    """Write an order, in place of one that the daemon has not taken yet. Return its file. ``OSError``."""
    path = folder_of(state) / f"{pipeline}.json"
    state_files.replace(path, msgspec.json.encode(order), 0o600)
    return path


def call_daemon(pid: int | None) -> bool:
    """Have the daemon take its orders. Return whether it does so now, and print why not."""
    if pid is None:
        return False
    try:
        os.kill(pid, signal.SIGHUP)
    except ProcessLookupError:
        return False
    except PermissionError:
        print("run: sudo systemctl reload limpet")
        return False
    return True

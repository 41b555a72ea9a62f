"""Models that came by updates: what is kept of them in the state directory, and which ones pipelines run."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
from msgspec.structs import replace

from limpet import config
from limpet.contracts.assignment import FoundModel
from limpet.device import state_files
from limpet.errors import ConfigError
from limpet.models import pins, sealed
from limpet.updates.selection import selection
from limpet.updates.state import DEPLOYED, NAME, Updates, forgotten
from limpet.wording import joined

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from limpet.config import Config
    from limpet.models.pins import Pins
    from limpet.updates.state import Deployed, Update

_THEN = "pipelines run the models of the configuration"
LARGEST = 64 << 20
"""Bytes of the file: each pipeline has its request in it."""


def read(state: Path, damaged: Callable[[str], object] | None = None) -> Updates:
    """Return what is known of updates, nothing if there is no file. ``OSError`` if it may not be read.

    ``damaged`` is called with what is wrong with the file, and the file is set aside. Without it, the file stays.
    """
    return state_files.read(state / NAME, Updates, LARGEST, damaged, _THEN) or Updates()


class Kept(NamedTuple):
    """What the state directory had of updates and pins. ``intact``: whether all of it could be read."""

    updates: Updates
    pins: Pins
    intact: bool


def kept(state: Path, damaged: Callable[[str], object]) -> Kept:
    """Return what is there at the start. ``damaged`` is called for each file that was set aside."""
    reasons: list[str] = []
    try:
        updates = read(state, reasons.append)
    except OSError as error:
        updates = Updates()
        reasons.append(f"{state / NAME}: {error.strerror}; {_THEN}")
    for reason in reasons:
        damaged(reason)
    return Kept(updates, pins.read(state, damaged), not reasons)


def write(state: Path, updates: Updates) -> None:
    """Replace what is known of updates. ``OSError`` if it cannot be written."""
    state_files.replace(state / NAME, msgspec.json.encode(updates))


def reset(state: Path) -> None:
    """Forget all updates and their models. Serials and the highest good versions stay, so nothing is replayed.

    ``OSError``. The latest time is forgotten, too: it stays wrong if the clock was once set far ahead.
    """
    known = read(state, lambda _: None)
    if known != Updates():
        left = Updates(pipelines=forgotten(known.pipelines.values()), highest=known.highest)
        write(state, left)


def folder(state: Path) -> Path:
    """Return where bundles are that came by updates."""
    return state / DEPLOYED


def make_folder(state: Path) -> None:
    """Make the folder, unless it is there. A link or a file in its place is set aside."""
    if state_files.is_irregular_folder(folder(state)):
        state_files.set_aside(folder(state))
    folder(state).mkdir(parents=True, exist_ok=True)


def applied(wanted: Config, updates: Updates, pinned: Pins) -> Config:
    """Return a configuration whose pipelines run what their updates say.

    A pipeline that has its own pin runs that one.
    """
    selected = {
        name: _models(wanted, update)
        for name, update in updates.pipelines.items()
        if name in wanted.pipelines and name not in pinned.pipelines and selection(update) != (None,)
    }
    return replace(wanted, selected=selected)


def _models(wanted: Config, update: Update) -> tuple[FoundModel | None, ...]:
    return tuple(_model(wanted, one) if one else None for one in selection(update))


def _model(wanted: Config, one: Deployed) -> FoundModel:
    path = folder(wanted.device.state) / one.file
    try:
        key = sealed.key_of(wanted, one)
    except ConfigError as error:
        return FoundModel(path, one.model, one.version, one.sha256, joined(error.problems), lower=True)
    return FoundModel(path, one.model, one.version, one.sha256, lower=True, key=key)


def read_config(path: Path | str, damaged: Callable[[str], object] | None = None) -> Config:
    """Read a configuration file, and apply the pins and updates of its device. ``ConfigError`` as ``config.read``.

    ``damaged`` is called with what is wrong with the files of pins and updates.
    """
    return as_chosen(config.read(path), damaged)


def as_chosen(wanted: Config, damaged: Callable[[str], object] | None = None) -> Config:
    """Return a configuration as the pins and updates of its device change it."""
    state = wanted.device.state
    chosen = pins.read(state, damaged)
    try:
        updates = read(state, damaged)
    except OSError:  # Another user may not read it. That user's `check` is about the configuration.
        updates = Updates()
    return applied(pins.applied(wanted, chosen), updates, chosen)

"""``limpet model list``: bundles in the store and those that came by updates, and what runs."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import msgspec

from limpet import config
from limpet.deployment.local import examined
from limpet.device import boot
from limpet.errors import ConfigError
from limpet.models import deployed, history, pins, sealed, starter, store
from limpet.models.bundle import Terms
from limpet.trust.settings import trust_of
from limpet.untrusted import printable
from limpet.updates.state import Updates
from limpet.wording import listed

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from limpet.config import Config
    from limpet.models.history import Runs
    from limpet.models.pins import Pins
    from limpet.models.starter import Starter
    from limpet.updates.state import Deployed, Update

TEXT = "List the bundles in the store and those that came by updates, or the ready-made ones."
_LATEST = 253_402_300_799
"""The last second of the year 9999."""
_KEY = 16
"""Digits of a key's id that are shown."""

State: TypeAlias = Literal["running", "candidate", "good", "previous", "available"]
Where: TypeAlias = Literal["store", "deployed"]


class Row(msgspec.Struct):
    """A version of a bundle. ``problem``: why it may not run. ``untrusted``: the root of trust does not permit it.

    ``stage``: that of its update, if it is a candidate. ``signed_by``: ids of keys.
    """

    model: str
    version: int
    state: State
    pinned: bool
    pipelines: list[str]
    bytes: int
    modified: datetime
    problem: str = ""
    where: Where = "store"
    stage: str = ""
    signed_by: list[str] = []
    untrusted: bool = False


class _Known(NamedTuple):
    config: Config
    ran: dict[str, Runs]
    pins: Pins
    updates: Updates
    terms: Terms


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("--json", action="store_true", help="Print one JSON array.")
    parser.add_argument(
        "--starter",
        action="store_true",
        help="List the ready-made bundles of limpet[starter] instead.",
    )
    parser.add_argument("config", type=Path, metavar="FILE", nargs="?", default=config.usual(), help=config.USUAL)
    parser.set_defaults(act=show)


def show(arguments: argparse.Namespace) -> int:
    """Print the list."""
    if arguments.starter:
        return _list_starters(arguments)
    wanted = config.read(arguments.config)
    known, remarks = _known(wanted)
    rows = rows_of(known)
    if arguments.json:
        print(msgspec.json.encode(rows).decode())
        return 0
    for remark in remarks:
        print(printable(remark))
    if not rows:
        print(f"there is no bundle in {wanted.models}. Copy one there, as NAME-VERSION.limpet")
        return 0
    if boot.holder(wanted.device.state) is None:
        print("the daemon does not run; `running` is what ran last")
    print(printable("\n".join([*_table(rows), *_pins_without_bundle(known, rows), *_hidden(known)])))
    return 0


def _known(wanted: Config) -> tuple[_Known, list[str]]:
    state, remarks = wanted.device.state, list[str]()
    try:
        updates = deployed.read(state)
    except OSError as error:
        updates = Updates()
        remarks.append(f"{error.filename}: {error.strerror}; models that came by updates are not listed. Use sudo")
    known = _Known(
        config=wanted,
        ran=history.read(state),
        pins=pins.read(state),
        updates=updates,
        terms=Terms(trust=trust_of(wanted)),
    )
    return known, remarks


def rows_of(known: _Known) -> list[Row]:
    """Return all bundles, by name and from the highest version down."""
    rows = [*_stored(known), *_deployed(known)]
    return sorted(rows, key=lambda row: (row.model, -row.version, row.where))


# --- the store


def _stored(known: _Known) -> Iterator[Row]:
    users = users_of(known.config)
    for name, versions in store.stored(known.config.models).items():
        for version, path in versions.items():
            try:
                status = path.stat()
            except OSError:  # deleted meanwhile
                continue
            found = examined(path, known.terms)
            problem = found.problem
            if not problem and (found.name, found.version) != (name, version):
                problem = f"{path.name} holds {found.name} version {found.version}"
            yield Row(
                name,
                version,
                _stored_state(name, version, known),
                _is_pinned(name, version, known),
                users.get(name, []),
                status.st_size,
                _moment(status.st_mtime),
                problem,
                signed_by=list(found.signed_by),
                untrusted=bool(found.untrusted),
            )


def users_of(wanted: Config) -> dict[str, list[str]]:
    """Return the pipelines that may run each model of the store, by the model's name."""
    users: dict[str, list[str]] = {}
    for pipeline, table in wanted.pipelines.items():
        for model in table.models:
            if not store.is_path(model):
                users.setdefault(model.partition("@")[0], []).append(pipeline)
    return users


def _stored_state(name: str, version: int, known: _Known) -> State:
    one = history.Ran(name, version)
    by_updates = {
        pipeline
        for pipeline, update in known.updates.pipelines.items()
        if any((each.model, each.version) == (name, version) for each in update.deployed)
    }
    runs = [ran for pipeline, ran in known.ran.items() if pipeline not in by_updates]
    if any(ran.running == one for ran in runs):
        return "running"
    return "previous" if any(ran.previous == one for ran in runs) else "available"


def _is_pinned(name: str, version: int, known: _Known) -> bool:
    own = (
        store.has_versions(table.model) and table.model == name and known.pins.pipelines.get(pipeline) == version
        for pipeline, table in known.config.pipelines.items()
    )
    return known.pins.pins.get(name) == version or any(own)


# --- what came by updates


def _deployed(known: _Known) -> Iterator[Row]:
    """Yield the bundles of updates, as they are named there: an encrypted file is opened by its owner alone."""
    roles: dict[Deployed, list[tuple[str, Update]]] = {}
    for name, update in known.updates.pipelines.items():
        for one in update.deployed:
            roles.setdefault(one, []).append((name, update))
    for one, users in roles.items():
        path = deployed.folder(known.config.device.state) / one.file
        state = min((_deployed_state(one, name, update, known) for name, update in users), key=_ORDER.index)
        stage = next((update.stage for _, update in users if update.candidate == one), "")
        problem, untrusted = _deployed_problem(path, one, known)
        try:
            status = path.lstat()
        except OSError as error:
            size, modified, problem = 0, 0.0, problem or f"{path}: {error.strerror}"
        else:
            size, modified = status.st_size, status.st_mtime
        yield Row(
            one.model,
            one.version,
            state,
            pinned=False,
            pipelines=sorted({name for name, _ in users}),
            bytes=size,
            modified=_moment(modified),
            problem=problem,
            where="deployed",
            stage=stage,
            signed_by=list(one.signed_by),
            untrusted=untrusted,
        )


_ORDER: tuple[State, ...] = ("running", "candidate", "good", "previous", "available")


def _deployed_state(one: Deployed, pipeline: str, update: Update, known: _Known) -> State:
    ran = known.ran.get(pipeline)
    selected = one in (update.candidate if update.stage == "trial" else None, update.good, update.previous)
    runs = ran is not None and ran.running == history.Ran(one.model, one.version)
    if runs and selected and pipeline not in known.pins.pipelines:
        return "running"
    if one == update.candidate:
        return "candidate"
    return "good" if one == update.good else "previous"


def _deployed_problem(path: Path, one: Deployed, known: _Known) -> tuple[str, bool]:
    """Return what is wrong with a bundle, and whether it is not trusted."""
    try:
        key = sealed.key_of(known.config, one)
        with path.open("rb"):
            pass
    except (ConfigError, PermissionError):  # another user: what updates.json has is shown
        return "", False
    except OSError as error:
        return f"{path}: {error.strerror}", False
    found = examined(path, msgspec.structs.replace(known.terms, key=key))
    problem = found.problem
    if not problem and found.sha256 != one.sha256:
        problem = f"{path}: is not the bundle that was installed"
    return problem, bool(found.untrusted)


# --- what is printed


def _pins_without_bundle(known: _Known, rows: list[Row]) -> list[str]:
    """Return a line for each pin whose version is not in the store any more."""
    there = {(row.model, row.version) for row in rows if row.where == "store"}
    lines = [
        f"{name} is pinned to version {version}, which is not there. Run: limpet model use {name}@newest"
        for name, version in sorted(known.pins.pins.items())
        if (name, version) not in there
    ]
    for pipeline, version in sorted(known.pins.pipelines.items()):
        table = known.config.pipelines.get(pipeline)
        if table and store.has_versions(table.model) and (table.model, version) not in there:
            way_out = f"limpet model use {table.model}@newest --pipeline {pipeline}"
            lines.append(
                f"{pipeline} is pinned to version {version} of {table.model}, which is not there. Run: {way_out}"
            )
    return lines


def _hidden(known: _Known) -> list[str]:
    """Return a line for each pipeline whose pin hides a model that came by an update."""
    return [
        f"{name} is pinned, so its update's model, {update.good.model} {update.good.version}, does not run"
        for name, update in sorted(known.updates.pipelines.items())
        if update.good is not None and name in known.pins.pipelines and name in known.config.pipelines
    ]


def _table(rows: list[Row]) -> list[str]:
    cells = [("MODEL", "VERSION", "STATE", "WHERE", "PIPELINES", "SIZE", "SIGNED BY", "MODIFIED")]
    cells += [
        (
            row.model,
            str(row.version),
            _state_text(row),
            row.where,
            ", ".join(row.pipelines),
            kilobytes(row.bytes),
            ", ".join(key[:_KEY] for key in row.signed_by) or "-",
            f"{row.modified:%Y-%m-%d %H:%M}",
        )
        for row in rows
    ]
    return [*_aligned(cells), *(row.problem for row in rows if row.problem)]


def _state_text(row: Row) -> str:
    if row.problem:
        return "untrusted" if row.untrusted else "damaged"
    parts = [row.state, row.stage.replace("_", " "), "pinned" if row.pinned else ""]
    return ", ".join(part for part in parts if part)


def _moment(seconds: float) -> datetime:
    """Return a Unix time. Anyone who can write to the store chooses it, so it may be no date at all."""
    return datetime.fromtimestamp(min(max(0, int(seconds)), _LATEST), timezone.utc)


def kilobytes(size: int) -> str:
    """Return a size for people."""
    return f"{size / 1000:,.0f} kB"


def _aligned(cells: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    lines = ("  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)) for line in cells)
    return [line.rstrip() for line in lines]


# --- ready-made bundles


def _list_starters(arguments: argparse.Namespace) -> int:
    starters = starter.found()
    if arguments.json:
        print(msgspec.json.encode(starters, enc_hook=str).decode())
        return 0
    if not starters:
        print(f"no package with ready-made bundles is installed. Run: {starter.INSTALL}")
        return 0
    cells = [("MODEL", "VERSION", "TASK", "INPUT", "SIZE", "LICENCE")]
    cells += [
        (one.name, str(one.version), one.task, one.input, kilobytes(one.bytes), one.licence) for one in starters
    ]
    print(printable("\n".join([*_aligned(cells), f"They are in {listed(_folders(starters))}"])))
    return 0


def _folders(starters: Sequence[Starter]) -> list[str]:
    return sorted({str(one.path.parent) for one in starters})

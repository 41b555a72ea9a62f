"""``limpet model``: which bundles are in the store, which of them run, and which version should; and starters."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from limpet import config
from limpet.commands import _send
from limpet.deployment.local import examined
from limpet.device import boot, state_files
from limpet.doctor.check import inspect
from limpet.errors import ConfigError, LimpetError
from limpet.models import history, pins, starter, store
from limpet.models.bundle import Terms
from limpet.trust.settings import trust_of
from limpet.untrusted import printable
from limpet.wording import listed, suggest

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from limpet.config import Config
    from limpet.models.history import Runs
    from limpet.models.pins import Pins
    from limpet.models.starter import Starter

HELP = "List the models in the store, choose which one runs, or send one"
GROUP = "models"
EXAMPLES = (
    ("limpet model list", "Show every bundle in the store, and what runs."),
    ("limpet model list --starter", "Show the ready-made bundles that are installed."),
    ("limpet model use motion-2", "Run version 2 of motion, also after a restart and when version 3 arrives."),
    ("limpet model use motion@newest", "Run the highest version again."),
    ("limpet model use motion@previous", "Go back to the version that ran before."),
    ("limpet model send motion-8.limpet mqtt://broker.local", "Send a bundle to the devices that request it."),
)

_LIST = "List the bundles in the store, or the ready-made ones."
_USE = "Choose the version of a model that runs."

PATIENCE = 30.0
"""Seconds that the daemon may take until the chosen version runs."""
_LATEST = 253_402_300_799
"""The last second of the year 9999."""
_MODEL = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]{0,63}?)(?:[-@](?P<version>[0-9]{1,15}|newest|previous))?(?:\.limpet)?"
)


class Row(msgspec.Struct):
    """A version of a bundle. ``problem``: why it is not an intact bundle."""

    model: str
    version: int
    state: str
    pinned: bool
    pipelines: list[str]
    bytes: int
    modified: datetime
    problem: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    actions = parser.add_subparsers(required=True, metavar="ACTION", title="Actions")
    listing = actions.add_parser("list", help=_LIST, description=_LIST)
    listing.add_argument("--json", action="store_true", help="Print one JSON array.")
    listing.add_argument(
        "--starter",
        action="store_true",
        help="List the ready-made bundles of limpet[starter] instead of the store.",
    )
    _add_file(listing)
    listing.set_defaults(act=_list)
    using = actions.add_parser("use", help=_USE, description=_USE)
    using.add_argument(
        "model",
        metavar="MODEL",
        help="NAME-VERSION; NAME@previous, the version that ran before; or NAME@newest, always the newest.",
    )
    _add_file(using)
    using.set_defaults(act=_use)
    _send.add_arguments(actions.add_parser("send", help=_send.TEXT, description=_send.TEXT))


def _add_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", type=Path, metavar="FILE", nargs="?", default=config.usual(), help=config.USUAL)


def main(arguments: argparse.Namespace) -> int:
    """Do what was chosen."""
    status: int = arguments.act(arguments)
    return status


# --- list


def _list(arguments: argparse.Namespace) -> int:
    if arguments.starter:
        return _list_starters(arguments)
    wanted = config.read(arguments.config)
    rows = rows_of(wanted)
    if arguments.json:
        print(msgspec.json.encode(rows).decode())
        return 0
    if not rows:
        print(f"there is no bundle in {wanted.models}. Copy one there, as NAME-VERSION.limpet")
        return 0
    if boot.holder(wanted.device.state) is None:
        print("the daemon does not run; `running` is what ran last")
    print(printable("\n".join([*_table(rows), *_pins_without_bundle(wanted, rows)])))
    return 0


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
        (one.name, str(one.version), one.task, one.input, _kilobytes(one.bytes), one.licence) for one in starters
    ]
    print(printable("\n".join([*_aligned(cells), f"They are in {listed(_folders(starters))}"])))
    return 0


def _folders(starters: Sequence[Starter]) -> list[str]:
    return sorted({str(one.path.parent) for one in starters})


def _pins_without_bundle(wanted: Config, rows: list[Row]) -> list[str]:
    """Return a line for each pin whose version is not in the store any more."""
    there = {(row.model, row.version) for row in rows}
    return [
        f"{name} is pinned to version {version}, which is not there. Run: limpet model use {name}@newest"
        for name, version in sorted(pins.read(wanted.device.state).pins.items())
        if (name, version) not in there
    ]


def rows_of(wanted: Config) -> list[Row]:
    """Return the bundles of the store, by name and from the highest version down."""
    pinned, ran = pins.read(wanted.device.state).pins, history.read(wanted.device.state)
    users, terms = _users(wanted), Terms(trust=trust_of(wanted))
    rows = []
    for name, versions in store.stored(wanted.models).items():
        for version, path in sorted(versions.items(), reverse=True):
            try:
                status = path.stat()
            except OSError:  # deleted meanwhile
                continue
            rows.append(
                Row(
                    name,
                    version,
                    _state(name, version, ran),
                    pinned.get(name) == version,
                    users.get(name, []),
                    status.st_size,
                    _moment(status.st_mtime),
                    _problem(path, name, version, terms),
                )
            )
    return rows


def _moment(seconds: float) -> datetime:
    """Return a Unix time. Anyone who can write to the store chooses it, so it may be no date at all."""
    return datetime.fromtimestamp(min(max(0, int(seconds)), _LATEST), timezone.utc)


def _users(wanted: Config) -> dict[str, list[str]]:
    """Return the pipelines that may run each model of the store, by the model's name."""
    users: dict[str, list[str]] = {}
    for pipeline, table in wanted.pipelines.items():
        for model in table.models:
            if not store.is_path(model):
                users.setdefault(model.partition("@")[0], []).append(pipeline)
    return users


def _state(name: str, version: int, ran: Mapping[str, Runs]) -> str:
    one = history.Ran(name, version)
    if any(runs.running == one for runs in ran.values()):
        return "running"
    return "previous" if any(runs.previous == one for runs in ran.values()) else "available"


def _problem(path: Path, name: str, version: int, terms: Terms) -> str:
    """Return what is wrong with a bundle of the store, if something is."""
    found = examined(path, terms)
    if found.problem:
        return found.problem
    if (found.name, found.version) != (name, version):
        return f"{path.name} holds {found.name} version {found.version}"
    return ""


def _table(rows: list[Row]) -> list[str]:
    cells = [("MODEL", "VERSION", "STATE", "PIPELINES", "SIZE", "MODIFIED")]
    for row in rows:
        state = "damaged" if row.problem else f"{row.state}, pinned" if row.pinned else row.state
        size = _kilobytes(row.bytes)
        cells.append(
            (row.model, str(row.version), state, ", ".join(row.pipelines), size, f"{row.modified:%Y-%m-%d %H:%M}")
        )
    return [*_aligned(cells), *(row.problem for row in rows if row.problem)]


def _kilobytes(size: int) -> str:
    return f"{size / 1000:,.0f} kB"


def _aligned(cells: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    lines = ("  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)) for line in cells)
    return [line.rstrip() for line in lines]


# --- use


def _use(arguments: argparse.Namespace) -> int:
    wanted = config.read(arguments.config)
    state = wanted.device.state
    name, version = _chosen(arguments, wanted)
    pipelines = [one for one in _users(wanted).get(name, []) if name in wanted.pipelines[one].models]
    if not pipelines:
        raise LimpetError(_unused(name, wanted))
    _refuse_problems(pins.applied(wanted, _changed(pins.read(state), name, version)), pipelines)
    pid = boot.holder(state)
    state_files.become_owner(state)
    try:
        pins.write(state, _changed(pins.read(state, _warn), name, version))
    except OSError as error:
        raise LimpetError(f"{state / pins.NAME}: {error.strerror}. Run: sudo limpet model use ...") from error
    what = f"{name} is pinned to version {version}" if version is not None else f"{name} is not pinned"
    if pid is None:
        print(f"{what}. The daemon does not run; it uses this version when it starts")
        return 0
    print(f"{what}. The daemon reads its configuration again")
    return _reload(pid, state, pipelines, name, version if version is not None else _newest(wanted, name))


def _changed(pinned: Pins, name: str, version: int | None) -> Pins:
    """Return the pins with this one; without it if there is no version."""
    others = {key: value for key, value in pinned.pins.items() if key != name}
    return msgspec.structs.replace(pinned, pins=others if version is None else {**others, name: version})


def _warn(problem: str) -> None:
    print(printable(f"warning: {problem}"), file=sys.stderr)


def _chosen(arguments: argparse.Namespace, wanted: Config) -> tuple[str, int | None]:
    """Return the model's name, and the version to pin; ``None`` removes the pin. ``ConfigError``."""
    versions = store.stored(wanted.models)
    match = _MODEL.fullmatch(arguments.model)
    name, number = (match["name"], match["version"]) if match else (arguments.model, None)
    if arguments.model in versions:  # a name that itself ends as a version does
        name, number = arguments.model, None
    if name not in versions:
        raise ConfigError([f"there is no model {name!r} in {wanted.models}{suggest(name, versions)}"])
    there = listed([str(version) for version in sorted(versions[name])])
    if number == "newest":
        return name, None
    if number == "previous":
        return name, _previous(wanted, name, versions[name])
    if number is None:
        raise ConfigError([f"which version of {name}? There are: {there}. Run: limpet model use {name}-VERSION"])
    if int(number) not in versions[name]:
        raise ConfigError([f"there is no version {int(number)} of {name} in {wanted.models}; there are: {there}"])
    return name, int(number)


def _previous(wanted: Config, name: str, versions: Mapping[int, Path]) -> int:
    """Return the version of a model that ran before the one that runs. ``LimpetError`` if there is none."""
    ran = history.read(wanted.device.state)
    for pipeline in _users(wanted).get(name, []):
        before = ran[pipeline].previous if pipeline in ran else None
        if before is not None and before.model == name and before.version in versions:
            return before.version
    raise LimpetError(f"no other version of {name} ran before. Run: limpet model list")


def _unused(name: str, wanted: Config) -> str:
    used = _users(wanted)
    fixed = [one for one in used.get(name, []) if name not in wanted.pipelines[one].models]
    if fixed:
        where = f"pipelines.{fixed[0]}.model"
        return f'{where} names a version itself. Write model = "{name}" there, and run this again'
    return f"no pipeline uses the model {name!r}; they use: {listed(sorted(used)) or 'models by their paths'}"


def _refuse_problems(wanted: Config, pipelines: list[str]) -> None:
    """Run the chosen version once, as `limpet check` does. ``ConfigError``; then nothing is changed."""
    only = msgspec.structs.replace(
        wanted, pipelines={name: table for name, table in wanted.pipelines.items() if name in pipelines}
    )
    if problems := inspect(only)[0]:
        raise ConfigError([*problems, "nothing was changed"])


def _newest(wanted: Config, name: str) -> int:
    return max(store.stored(wanted.models)[name])


def _reload(pid: int, state: Path, pipelines: list[str], name: str, version: int) -> int:
    """Have the daemon read its configuration, and wait until it runs the version."""
    try:
        os.kill(pid, signal.SIGHUP)
    except ProcessLookupError:
        print("the daemon has ended meanwhile; it uses this version when it starts")
        return 0
    except PermissionError:
        print("run: sudo systemctl reload limpet")
        return 0
    ours = history.Ran(name, version)
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        ran = history.read(state)
        if all(pipeline in ran and ran[pipeline].running == ours for pipeline in pipelines):
            print(f"{listed(pipelines)}: runs {name} {version}")
            return 0
        time.sleep(0.05)
    raise LimpetError(
        f"{listed(pipelines)}: {name} {version} does not run after {PATIENCE:.0f} s. "
        "The log says why. Run: journalctl -u limpet"
    )

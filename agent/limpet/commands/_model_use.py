"""``limpet model use``: the version of a model that runs, for all pipelines or for one."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from limpet import config
from limpet.commands._local_orders import call_daemon
from limpet.commands._model_list import users_of
from limpet.device import boot, state_files
from limpet.doctor.check import inspect
from limpet.errors import ConfigError, LimpetError
from limpet.models import deployed, history, pins, store
from limpet.models.history import Ran
from limpet.untrusted import printable
from limpet.updates.moves import wanted_name
from limpet.updates.state import Updates
from limpet.wording import listed, suggest

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping, Sequence

    from limpet.config import Config
    from limpet.models.pins import Pins

TEXT = "Choose the version of a model that runs."
PATIENCE = 30.0
"""Seconds that the daemon may take until the chosen version runs."""
_MODEL = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]{0,63}?)(?:[-@](?P<version>[0-9]{1,15}|newest|previous))?(?:\.limpet)?"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="NAME-VERSION; NAME@previous, the version that ran before; or NAME@newest, always the newest.",
    )
    parser.add_argument(
        "--pipeline",
        metavar="NAME",
        help="Choose for this pipeline alone. It then runs that version of the store, also if an update brought "
        "another model. Default: for all pipelines that use the model.",
    )
    parser.add_argument("config", type=Path, metavar="FILE", nargs="?", default=config.usual(), help=config.USUAL)
    parser.set_defaults(act=use)


def use(arguments: argparse.Namespace) -> int:
    """Choose, and wait until the daemon runs it."""
    wanted = config.read(arguments.config)
    state = wanted.device.state
    pipelines = _pipelines(arguments, wanted)
    name, version = _chosen(arguments, wanted, pipelines)
    own = arguments.pipeline is not None
    pipelines = _pipelines_of(name, pipelines, wanted, own=own)
    updates = _known(wanted)
    after = _changed(pins.read(state), name, version, pipelines if own else None)
    _refuse_problems(pins.applied(wanted, after), pipelines)
    pid = boot.holder(state)
    state_files.become_owner(state)
    try:
        after = _changed(pins.read(state, _warn), name, version, pipelines if own else None)
        pins.write(state, after)
    except OSError as error:
        raise LimpetError(f"{state / pins.NAME}: {error.strerror}. Run: sudo limpet model use ...") from error
    who = f"{pipelines[0]}: {name}" if own else name
    what = f"{who} is pinned to version {version}" if version is not None else f"{who} is not pinned"
    if pid is None:
        print(f"{what}. The daemon does not run; it uses this version when it starts")
    else:
        print(f"{what}. The daemon reads its configuration again")
    for line in _beside_updates(name, pipelines, after, updates):
        print(printable(line))
    expected = dict(
        _expected(pins.applied(wanted, after), name, pipelines, deployed.applied(wanted, updates, after))
    )
    return 0 if pid is None else _reload(pid, state, expected)


def _known(wanted: Config) -> Updates:
    """Return what is known of updates. Another user may not read it: then pins are all there is."""
    try:
        return deployed.read(wanted.device.state)
    except OSError:
        return Updates()


# --- what was chosen


def _pipelines(arguments: argparse.Namespace, wanted: Config) -> list[str]:
    if arguments.pipeline is None:
        return list(wanted.pipelines)
    if arguments.pipeline not in wanted.pipelines:
        hint = suggest(arguments.pipeline, wanted.pipelines)
        raise ConfigError([f"there is no pipeline {arguments.pipeline!r} in {arguments.config}{hint}"])
    return [arguments.pipeline]


def _pipelines_of(name: str, among: Sequence[str], wanted: Config, *, own: bool) -> list[str]:
    """Return the pipelines that run a model in the version that a person chooses. ``LimpetError`` if none does.

    A pin of a pipeline (``own``) is for its model, and not for its ladder or its backup.
    """
    if own:
        found = [one for one in among if wanted.pipelines[one].model == name]
    else:
        found = [one for one in users_of(wanted).get(name, []) if name in wanted.pipelines[one].models]
    if not found:
        raise LimpetError(_unused(name, among, wanted))
    return found


def _chosen(arguments: argparse.Namespace, wanted: Config, pipelines: Sequence[str]) -> tuple[str, int | None]:
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
        return name, _previous(wanted, name, versions[name], pipelines)
    if number is None:
        raise ConfigError([f"which version of {name}? There are: {there}. Run: limpet model use {name}-VERSION"])
    if int(number) not in versions[name]:
        by_update = _deployed_in(wanted, Ran(name, int(number)))
        hint = (
            f". It came by an update. To go back to it, run: limpet model rollback {by_update}"
            if by_update
            else ""
        )
        raise ConfigError(
            [f"there is no version {int(number)} of {name} in {wanted.models}; there are: {there}{hint}"]
        )
    return name, int(number)


def _previous(wanted: Config, name: str, versions: Mapping[int, Path], pipelines: Sequence[str]) -> int:
    """Return the version of a model that ran before the one that runs. ``LimpetError`` if there is none."""
    ran = history.read(wanted.device.state)
    for pipeline in users_of(wanted).get(name, []):
        before = ran[pipeline].previous if pipeline in ran and pipeline in pipelines else None
        if before is not None and before.model == name and before.version in versions:
            return before.version
        if before is not None and (by_update := _deployed_in(wanted, before)):
            raise LimpetError(
                f"{before.model} {before.version} ran before. It came by an update. "
                f"Run: limpet model rollback {by_update}"
            )
    raise LimpetError(f"no other version of {name} ran before. Run: limpet model list")


def _deployed_in(wanted: Config, model: Ran) -> str:
    """Return a pipeline whose update brought a model and that may go back to it; "" if there is none."""
    for pipeline, update in _known(wanted).pipelines.items():
        previous = update.previous
        if previous is not None and Ran(previous.model, previous.version) == model:
            return pipeline
    return ""


def _unused(name: str, among: Sequence[str], wanted: Config) -> str:
    used = users_of(wanted)
    fixed = [one for one in used.get(name, []) if one in among and name not in wanted.pipelines[one].models]
    if fixed:
        where = f"pipelines.{fixed[0]}.model"
        return f'{where} names a version itself. Write model = "{name}" there, and run this again'
    if len(among) == 1 and used.get(name):
        return f"the model of pipeline {among[0]} is not {name!r}, but {wanted.pipelines[among[0]].model!r}"
    return f"no pipeline uses the model {name!r}; they use: {listed(sorted(used)) or 'models by their paths'}"


def _changed(pinned: Pins, name: str, version: int | None, pipelines: Sequence[str] | None) -> Pins:
    """Return the pins with this one; without it if there is no version. ``pipelines``: those it is for alone."""
    if pipelines is not None:
        others = {key: value for key, value in pinned.pipelines.items() if key not in pipelines}
        own = {} if version is None else dict.fromkeys(pipelines, version)
        return msgspec.structs.replace(pinned, pipelines={**others, **own})
    others = {key: value for key, value in pinned.pins.items() if key != name}
    return msgspec.structs.replace(pinned, pins=others if version is None else {**others, name: version})


def _warn(problem: str) -> None:
    print(printable(f"warning: {problem}"), file=sys.stderr)


def _refuse_problems(wanted: Config, pipelines: Sequence[str]) -> None:
    """Run the chosen version once, as `limpet check` does. ``ConfigError``; then nothing is changed."""
    only = msgspec.structs.replace(
        wanted, pipelines={name: table for name, table in wanted.pipelines.items() if name in pipelines}
    )
    if problems := inspect(only)[0]:
        raise ConfigError([*problems, "nothing was changed"])


# --- what runs then


def _expected(pinned: Config, name: str, pipelines: Sequence[str], updated: Config) -> Iterator[tuple[str, Ran]]:
    """Yield what each pipeline runs then, if its first model is the one of this name or of an update."""
    for pipeline in pipelines:
        model, (first, *_) = pinned.pipelines[pipeline].model, updated.selected.get(pipeline, (None,))
        if first is not None:
            yield pipeline, Ran(first.name, first.version)
        elif not store.is_path(model) and model.partition("@")[0] == name:
            version = model.partition("@")[2]
            yield pipeline, Ran(name, int(version) if version else max(store.stored(pinned.models)[name]))


def _beside_updates(name: str, pipelines: Sequence[str], pinned: Pins, updates: Updates) -> Iterator[str]:
    """Yield what the choice hides, or what hides it."""
    for pipeline in pipelines:
        update, own = updates.pipelines.get(pipeline), pinned.pipelines.get(pipeline)
        if own is not None and name in pinned.pins and pinned.pins[name] != own:
            yield f"{pipeline}: its own pin, version {own}, wins over version {pinned.pins[name]}"
        if update is None:
            continue
        by_update = f"{update.good.model} {update.good.version}, which came by an update" if update.good else ""
        if own is not None and by_update:
            yield f"{pipeline}: {by_update}, does not run while the pin is there"
        elif own is not None and update.stage in _AT_WORK:
            yield f"{pipeline}: the update to {wanted_name(update)} does not take over while the pin is there"
        elif own is None and by_update:
            only = f"limpet model use {name}-VERSION --pipeline {pipeline}"
            yield f"{pipeline}: runs {by_update}. To run one of the store there, run: {only}"
        elif own is None and update.stage == "trial":
            yield f"{pipeline}: {wanted_name(update)} is on trial there and goes on"


_AT_WORK = frozenset({"downloading", "verifying", "staged", "admission", "shadow", "trial"})


def _reload(pid: int, state: Path, expected: Mapping[str, Ran]) -> int:
    """Have the daemon read its configuration, and wait until it runs what is expected in each pipeline."""
    if not call_daemon(pid):
        return 0
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        ran = history.read(state)
        if all(pipeline in ran and ran[pipeline].running == one for pipeline, one in expected.items()):
            _print_running(expected)
            return 0
        time.sleep(0.05)
    waiting = listed([f"{one.model} {one.version} in {pipeline}" for pipeline, one in expected.items()])
    raise LimpetError(
        f"not running after {PATIENCE:.0f} s: {waiting}. The log says why. Run: journalctl -u limpet"
    )


def _print_running(expected: Mapping[str, Ran]) -> None:
    by_model: dict[Ran, list[str]] = {}
    for pipeline, one in expected.items():
        by_model.setdefault(one, []).append(pipeline)
    for one, names in by_model.items():
        print(f"{listed(names)}: runs {one.model} {one.version}")

"""``limpet model install``: a bundle from a disk or a USB stick takes the same way as one from the network."""

from __future__ import annotations

import codecs
import os
import shlex
import signal
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import msgspec

from limpet import config
from limpet.audit.local_user import local_user
from limpet.commands import _local_orders as orders
from limpet.commands import _stages
from limpet.contracts.updates import LARGEST_BUNDLE, DesiredModel, UpdatePolicy
from limpet.device import boot, state_files
from limpet.errors import LimpetError, UsageError
from limpet.models import bundle, store
from limpet.models.bundle import Terms
from limpet.option_values import count
from limpet.sha256 import sha256
from limpet.trust.settings import trust_of
from limpet.untrusted import open_file, printable, reading
from limpet.updates import refusals, schedule
from limpet.updates.local_orders import LocalOrder
from limpet.updates.machine import RESTING
from limpet.updates.orders import order as decided
from limpet.updates.stimuli import Ordered
from limpet.wording import listed

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from limpet.config import Config
    from limpet.models.bundle import Identity
    from limpet.updates.state import Update, Updates

TEXT = "Install a bundle from a file or a USB stick, and show its stages until it is good."
_CHUNK = 1 << 20


class _Copied(NamedTuple):
    path: Path
    length: int
    sha256: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    add = parser.add_argument
    add(
        "file",
        type=Path,
        metavar="FILE",
        nargs="?",
        help="Bundle. Default: the one that --pipeline has staged, which is then put to work.",
    )
    add("--pipeline", metavar="NAME", help="Pipeline. Default: the one that uses this model.")
    add("--trial-windows", type=count, metavar="N", help="Results of the trial. Default: 20.")
    add(
        "--shadow",
        type=count,
        metavar="N",
        help="Windows on which it is compared with the old model before it takes over. Default: 0, no shadow.",
    )
    add("--staged", action="store_true", help="Check the bundle and keep it, but do not put it to work.")
    add("--allow-older", action="store_true", help="Install it also if a higher version was good here.")
    add("--yes", action="store_true", help="Do not ask for confirmation.")
    add("--config", type=Path, metavar="FILE", default=config.usual(), help=config.USUAL)
    parser.set_defaults(act=install)


def install(arguments: argparse.Namespace) -> int:
    """Install. Return 0 if the model is good, or waits as it should."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # nothing of the copy stays, as with Ctrl-C
    wanted = config.read(arguments.config)
    if arguments.pipeline is not None and arguments.pipeline not in wanted.pipelines:
        there = listed(sorted(wanted.pipelines))
        raise LimpetError(f"there is no pipeline {arguments.pipeline!r} in {arguments.config}; there are: {there}")
    if arguments.file is None:
        return _put_to_work(arguments, wanted)
    by = local_user()
    with _opened(arguments.file) as source:
        try:
            wanted.device.state.mkdir(parents=True, exist_ok=True)
            pid = boot.holder(wanted.device.state)
            _load(wanted)
            state_files.become_owner(wanted.device.state)
            return _install(arguments, wanted, source, pid, by)
        except PermissionError as error:
            raise LimpetError(f"{error.filename}: {error.strerror}. Run: {_with_sudo(arguments)}") from error
        except OSError as error:
            raise LimpetError(f"{error.filename or wanted.device.state}: {error.strerror}") from error


def _load(wanted: Config) -> None:
    """Load what is needed as the owner of the state directory: only root may be able to read Python's files."""
    codecs.lookup("cp437")  # zipfile needs it
    if trust := trust_of(wanted):
        from limpet.trust import files

        files.read(trust)  # It reads dates and verifies signatures, as the examination of a bundle does.


def _with_sudo(arguments: argparse.Namespace) -> str:
    """Return the command that does this with the rights that it needs."""
    words = ["sudo", "limpet", "model", "install"]
    words += [str(arguments.file)] if arguments.file else []
    for option, value in (("--pipeline", arguments.pipeline), ("--trial-windows", arguments.trial_windows)):
        words += [option, str(value)] if value is not None else []
    words += ["--shadow", str(arguments.shadow)] if arguments.shadow is not None else []
    flags = {"--staged": arguments.staged, "--allow-older": arguments.allow_older, "--yes": arguments.yes}
    words += [flag for flag, is_set in flags.items() if is_set]
    return shlex.join(
        [*words, *(["--config", str(arguments.config)] if arguments.config != config.usual() else [])]
    )


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Open the bundle with the rights of the user who runs this: a stick may be readable for that one alone."""
    if path.suffix == ".tflite":
        raise LimpetError(f"{path}: is no bundle. On a workstation, run: limpet-convert package {path}")
    try:
        file = open_file(path)
    except PermissionError as error:
        copy = "Copy it to a folder that this user can read, and install it from there"
        raise LimpetError(f"{path}: {error.strerror}. {copy}") from error
    except OSError as error:
        raise LimpetError(f"{path}: {error.strerror}") from error
    with file:
        yield file


def _install(arguments: argparse.Namespace, wanted: Config, source: BinaryIO, pid: int | None, by: str) -> int:
    state = wanted.device.state
    updates = orders.known_updates(wanted)
    with _copied(arguments, wanted, source, updates) as copy:
        name, found = _examined(arguments, wanted, copy, updates)
        request = _request(arguments, copy, found)
        update = orders.update_of(updates, name)
        _refuse(wanted, updates, update, request)
        _agree(arguments, update, found)
        order = LocalOrder(order="update", desired=msgspec.Raw(msgspec.json.encode(request)), by=by)
        followed = _stages.Followed(state, name, state / "requests" / f"{name}.json", _stages.last_seq(state))
        state_files.remove(followed.order)  # It was for another bundle.
        copy.path.replace(copy.path.with_name(f"{name}.limpet"))
        orders.put(state, name, order)
    if not orders.call_daemon(pid):
        print(f"{name}: {found.name} {found.version} waits. The update begins when the daemon starts")
        return 0
    return _follow(followed, request, f"{found.name} {found.version}")


# --- copy


@contextmanager
def _copied(
    arguments: argparse.Namespace, wanted: Config, source: BinaryIO, updates: Updates
) -> Iterator[_Copied]:
    """Copy a bundle into the folder for orders, where a ``with`` block may rename it. Otherwise it is deleted."""
    length = os.fstat(source.fileno()).st_size
    if not 0 < length <= LARGEST_BUNDLE:
        raise LimpetError(f"{arguments.file}: has {length} bytes. A bundle has 1 to {LARGEST_BUNDLE}")
    stay = [one for update in updates.pipelines.values() for one in (update.good, update.previous) if one]
    if reason := schedule.no_room(length, stay, orders.disk_of(wanted)):
        raise LimpetError(f"{arguments.file}: {reason}")
    path = orders.folder_of(wanted.device.state) / f".{os.getpid()}.limpet"
    try:
        yield _Copied(path, length, _copy(arguments.file, source, path, length))
    finally:
        with suppress(OSError):
            state_files.remove(path)


def _copy(file: Path, source: BinaryIO, path: Path, length: int) -> str:
    """Copy so many bytes, so that they are on the disk. Return their SHA-256."""
    digest = sha256(length)
    with os.fdopen(state_files.create(path), "wb") as target:
        left = length
        while left:
            try:
                data = source.read(min(left, _CHUNK))
            except OSError as error:
                raise LimpetError(
                    f"{file}: {error.strerror}, with {left} bytes left. Nothing was changed"
                ) from error
            if not data:
                raise LimpetError(f"{file}: it ended {left} bytes early. Nothing was changed")
            digest.update(data)
            target.write(data)
            left -= len(data)
        target.flush()
        os.fsync(target.fileno())
    return digest.hexdigest()


# --- what it is, and for which pipeline


def _examined(
    arguments: argparse.Namespace, wanted: Config, copy: _Copied, updates: Updates
) -> tuple[str, Identity]:
    """Return the pipeline, and which model the bundle is. ``LimpetError`` if it may not run here."""
    try:
        with reading(str(copy.path)):
            model = bundle.manifest_of(copy.path).name
            name = arguments.pipeline or _pipeline_for(model, wanted, updates)
            delegates = tuple(wanted.pipelines[name].delegates)
            terms = Terms(trust=trust_of(wanted), delegates=delegates, new=True)
            return name, bundle.examine(copy.path, terms)
    except UsageError:
        raise
    except LimpetError as error:
        text = str(error).replace(str(copy.path), str(arguments.file))
        raise LimpetError(f"{text}. Nothing was changed") from error


def _pipeline_for(model: str, wanted: Config, updates: Updates) -> str:
    """Return the pipeline that uses a model, by its name. ``UsageError`` if that is not clear."""
    using = [name for name in wanted.pipelines if model in _names(wanted, updates, name)]
    if len(using) == 1:
        return using[0]
    if using and sys.stdin.isatty():
        answer = input(printable(f"{listed(using)} use {model}. Install it in which pipeline? ")).strip()
        if answer in using:
            return answer
    who = (
        f"{listed(using)} use {model}"
        if using
        else f"no pipeline uses {model}; there are: {listed(sorted(wanted.pipelines))}"
    )
    raise UsageError(f"limpet model install: {who}. Run it again with --pipeline NAME")


def _names(wanted: Config, updates: Updates, pipeline: str) -> set[str]:
    """Return the names of models that a pipeline uses, by its configuration and its updates."""
    update = orders.update_of(updates, pipeline)
    names = {one.model for one in update.deployed}
    return names | {store.name_of(model) for model in wanted.pipelines[pipeline].models}


def _request(arguments: argparse.Namespace, copy: _Copied, found: Identity) -> DesiredModel:
    policy = UpdatePolicy(
        start="operator" if arguments.staged else "now",
        trial_windows=max(arguments.trial_windows or UpdatePolicy().trial_windows, 1),
        shadow_windows=arguments.shadow or 0,
    )
    return DesiredModel(
        model=found.name,
        version=found.version,
        sha256=copy.sha256,
        length=copy.length,
        policy=policy,
        allow_older=arguments.allow_older,
        id=f"install-{os.urandom(6).hex()}",
    )


def _refuse(wanted: Config, updates: Updates, update: Update, request: DesiredModel) -> None:
    """Refuse what the daemon would refuse, before the request is written."""
    if update.stage not in RESTING:
        return  # The daemon knows what becomes of the update at work.
    facts = orders.facts_of(wanted, updates, update.pipeline)
    if refusals.is_good(request, update.good):
        return
    if reason := refusals.refusal(request, update, facts, older=request.allow_older):
        pin = f" Run: limpet model use {request.model}@newest --pipeline {update.pipeline}" if facts.pinned else ""
        raise LimpetError(f"{update.pipeline}: {reason}{pin}")


def _agree(arguments: argparse.Namespace, update: Update, found: Identity) -> None:
    """Ask the person at the terminal. ``LimpetError`` if that one does not agree."""
    if arguments.yes:
        return
    if not sys.stdin.isatty():
        raise LimpetError("not a terminal, so Limpet cannot ask. Run again with --yes")
    signed = f"signed by {listed([key[:16] for key in found.signed_by])}" if found.signed_by else "not signed"
    print(printable(f"{found.name} {found.version}, {signed}, for pipeline {update.pipeline}"))
    if update.stage not in RESTING:
        print("It takes the place of the update that is at work there.")
    answer = ""
    with suppress(EOFError):
        answer = input("Install it? [y/N] ")
    if answer.strip().lower() not in {"y", "yes"}:
        raise LimpetError("nothing was changed")


# --- how far it is


def _follow(followed: _stages.Followed, request: DesiredModel, name: str) -> int:
    """Show stages until the update ends. Return the exit status."""
    line, last, seen = _stages.Line(), None, False

    def is_over(updates: Updates, taken: bool) -> bool:  # noqa: FBT001
        nonlocal last, seen
        last = orders.update_of(updates, followed.pipeline)
        waits = last.pending is not None and last.pending.request.id == request.id
        ours = last.request is not None and last.request.id == request.id
        seen = seen or ours
        if ours:
            line.show(_stages.stage_line(last, name))
            waits_for_install = last.stage == "staged" and request.policy.start == "operator"
            return waits_for_install or last.stage in RESTING
        if waits:
            line.show(f"{followed.pipeline}: {name}: waits until the old model runs again")
            return False
        return seen or taken

    try:
        _stages.wait(followed, is_over)
    except KeyboardInterrupt:
        line.end()
        print("the update goes on. To see how far it is, run: limpet model list")
        raise
    finally:
        line.end()
    return _end(followed, request, last)


def _end(followed: _stages.Followed, request: DesiredModel, last: Update | None) -> int:
    if last is None or last.request is None or last.request.id != request.id:
        raise LimpetError(f"{followed.pipeline}: {_stages.refusal_since(followed)}")
    if last.stage == "staged":
        print(f"to put it to work, run: limpet model install --pipeline {followed.pipeline}")
    return 0 if last.stage in ("good", "staged") else 1


# --- what is staged


def _put_to_work(arguments: argparse.Namespace, wanted: Config) -> int:
    """Have the daemon put a staged model to work, or try again what failed."""
    updates, by = orders.known_updates(wanted), local_user()
    staged = [
        name for name, one in updates.pipelines.items() if one.stage == "staged" and name in wanted.pipelines
    ]
    none = "no model is staged. Run: limpet model install FILE"
    name = arguments.pipeline or orders.only_one(
        staged, none, "several pipelines have a staged model. Use --pipeline"
    )
    update = orders.update_of(updates, name)
    facts = orders.facts_of(wanted, updates, name)
    if update.request is None or (reason := decided(update, Ordered("install", by), facts).refused):
        raise LimpetError(f"{name}: {reason if update.request else none}")
    state = wanted.device.state
    pid = boot.holder(state)
    state_files.become_owner(state)
    seq = _stages.last_seq(state)
    try:
        path = orders.put(state, name, LocalOrder(order="install", by=by))
    except OSError as error:
        raise LimpetError(f"{error.filename or state}: {error.strerror}. Run: {_with_sudo(arguments)}") from error
    what = f"{update.request.model} {refusals.versions(update.request)[1]}"
    if not orders.call_daemon(pid):
        print(f"{name}: {what} is put to work when the daemon starts")
        return 0
    policy = msgspec.structs.replace(update.request.policy, start="now")
    followed = _stages.Followed(state, name, path, seq)
    _wait_taken(followed)
    return _follow(followed, msgspec.structs.replace(update.request, policy=policy), what)


def _wait_taken(followed: _stages.Followed) -> None:
    _stages.wait(followed, lambda _, taken: taken, 30.0)

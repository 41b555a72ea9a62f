"""Updates of models: what they need, what they take of the disk, and which ones do not go on."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from limpet.device.system_files import MB
from limpet.doctor.finding import bad, ok, skip, warn
from limpet.errors import LimpetError
from limpet.models import deployed
from limpet.models.housekeeping import look
from limpet.tables import UpdatesTable
from limpet.trust import library
from limpet.trust.settings import trust_of
from limpet.updates.moves import wanted_name
from limpet.updates.state import DEPLOYED, DOWNLOADS, REQUESTS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from limpet.config import Config
    from limpet.doctor.finding import Finding
    from limpet.doctor.installation import Installation
    from limpet.updates.state import Update, Updates

_CHECK = "updates"
_DAY = 24 * 3600.0
_LIBRARIES = ("tuf", "securesystemslib", "cryptography", "urllib3", "zstandard")
_COMMANDS = ("install", "rollback")
_AT_WORK = frozenset({"downloading", "verifying", "admission", "shadow", "trial"})


def updates(installation: Installation) -> Iterator[Finding]:
    """Check what updates need, and how far they are."""
    config = installation.config
    if config is None:
        yield skip(_CHECK, "there is no configuration")
        return
    if config.updates is not None:
        yield from _needs(config)
    yield from _root(config)
    try:
        known = deployed.read(config.device.state)
        yield from _files(config, known)
    except OSError as error:
        yield skip(_CHECK, f"{error.filename} cannot be read by this user")
        return
    for name, update in sorted(known.pipelines.items()):
        if name in config.pipelines:
            yield from _update(name, update, installation.now)


def _needs(config: Config) -> Iterator[Finding]:
    if missing := [name for name in _LIBRARIES if find_spec(name) is None]:
        what = f"[updates] needs {', '.join(missing)}, which are not installed"
        yield bad(_CHECK, what, "no model comes over the network", "pip install 'limpet[updates]'")
    if config.trust is None:
        why = "the device refuses all requests over the network"
        yield warn(_CHECK, "[updates] has no [trust]", why, "limpet trust enrol ROOT")
    if closed := [name for name in _COMMANDS if name not in config.device.commands]:
        listed = " and ".join(closed)
        why = "a person at the broker cannot put a staged model to work, or go back"
        fix = f"add {listed} to device.commands; or go back here, with `limpet model rollback`"
        yield warn(_CHECK, f"over MQTT, these commands are refused: {listed}", why, fix)


def _root(config: Config) -> Iterator[Finding]:
    if (trust := trust_of(config)) is None:
        return
    try:
        library.require()
        from limpet.trust import chain, files  # they load cryptography

        report = chain.report_of(files.read(trust), trust.now())
    except LimpetError:
        return  # The check `configuration` reports it.
    if report.problem:
        why = "after it has expired, the device takes no new model"
        yield warn(_CHECK, f"trust: {report.problem}", why, "send a newer root; or run `limpet trust update ROOT`")


def _files(config: Config, known: Updates) -> Iterator[Finding]:
    state, most = config.device.state, (config.updates or UpdatesTable()).disk_bytes
    folders = [state / name for name in (DEPLOYED, DOWNLOADS, REQUESTS)]
    size = sum(look(folder).size for folder in folders if folder.exists())
    what = f"models of updates take {size / MB:.1f} MB of {most / MB:.0f} MB"
    if known.pipelines and size > most * 0.9:
        why = "an update that needs more is refused"
        yield warn(_CHECK, what, why, "raise updates.disk_bytes")
    else:
        yield ok(_CHECK, what)


def _update(name: str, update: Update, now: float) -> Iterator[Finding]:
    """Report an update that failed, waits for a person, or does not go on."""
    what = f"{name}: the update to {wanted_name(update)} "
    history = f"limpet model history {name}"
    days = (now - update.since) / _DAY
    if update.stage == "staged" and update.request is not None and update.request.policy.start == "operator":
        yield warn(_CHECK, f"{what}waits", update.reason, f"limpet model install --pipeline {name}")
    elif update.stage == "failed":
        yield warn(_CHECK, f"{what}failed", update.reason, f"{history}; correct that, and send the request again")
    elif update.stage in _AT_WORK and days > 1:
        stage = f"{what}is in stage {update.stage} for {days:.0f} days"
        yield warn(_CHECK, stage, update.reason or "it does not go on", history)

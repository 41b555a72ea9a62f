"""Why a request cannot be carried out, and why a bundle is not the one of its request. Sentences; "" is none."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING

from limpet.updates import schedule
from limpet.updates.policy import compares_in_trial

if TYPE_CHECKING:
    from limpet.contracts.updates import DesiredModel
    from limpet.updates.facts import Facts
    from limpet.updates.state import Deployed, Update
    from limpet.updates.stimuli import Wanted


def versions(request: DesiredModel) -> tuple[int, int]:
    """Return the lowest and the highest version that will do."""
    return request.version if isinstance(request.version, tuple) else (request.version, request.version)


def replayed(update: Update, wanted: Wanted) -> str:
    """Return why a request is not newer than one that this device has seen. A local one needs no serial.

    A signed request that allows an older version counts once: a copy of it must not bring that version back later.
    """
    request, serial = wanted.request, wanted.request.serial
    once = wanted.signed and request.allow_older
    if wanted.local:
        return ""
    if once and not serial:
        return "A signed request with allow_older needs a serial. Send one that is above 0."
    seen = update.serial if wanted.signed else max(update.serial, update.unsigned_serial)
    if serial > seen:
        return ""
    if serial < seen:
        return f"The request has serial {serial}. This device has seen {seen}. Send a higher serial."
    unknown = update.request is None or update.local
    same = update.request == request or (unknown and not once)
    if serial and not same:
        return f"Another request had serial {serial}. Send a higher serial."
    return ""


def refusal(request: DesiredModel, update: Update, facts: Facts, *, older: bool) -> str:
    """Return why a request cannot be carried out. ``older``: whether an older version will do."""
    lowest, highest = versions(request)
    if lowest > highest:
        return f"The request has versions {lowest} to {highest}. Write the lower one first."
    return (
        expired(request, facts.now)
        or _too_old(request.model, highest, facts, older=older)
        or _other_content(request, update, facts)
        or _no_window(request, facts)
        or _no_comparison(request, update, facts)
        or pinned(facts)
        or schedule.why_no_room(request, (*_kept(update), *facts.others), facts.disk, facts.coming)
    )


def pinned(facts: Facts) -> str:
    """Return why no update may change the model of a pipeline."""
    return "A person pinned the model of this pipeline. Remove the pin first." if facts.pinned else ""


def expired(request: DesiredModel, now: float) -> str:
    """Return why a request is too late. A time without a zone is in UTC."""
    if request.expires is None or _seconds(request.expires) >= now:
        return ""
    return f"The request expired on {request.expires:%Y-%m-%d %H:%M}. Send a new one."


def _seconds(when: datetime) -> float:
    return (when if when.tzinfo is not None else when.replace(tzinfo=timezone.utc)).timestamp()


def _too_old(model: str, version: int, facts: Facts, *, older: bool) -> str:
    highest = facts.highest.get(model, 0)
    if facts.own is not None and facts.own.model == model:
        highest = max(highest, facts.own.version)
    if version >= highest or older:
        return ""
    return (
        f"Version {version} of {model} is older than {highest}, which was good here. "
        "Set allow_older in a signed request, or run on the device: limpet model install FILE --allow-older"
    )


def _other_content(request: DesiredModel, update: Update, facts: Facts) -> str:
    if isinstance(request.version, tuple):
        return ""
    return _conflict(request.model, request.version, request.sha256, (*_kept(update), *facts.others))


def _conflict(model: str, version: int, file_sha256: str, deployed: tuple[Deployed, ...]) -> str:
    for one in deployed:
        if (one.model, one.version) == (model, version) and one.file_sha256 != file_sha256:
            return f"This device has another file as version {version} of {model}. Raise the version."
    return ""


def _no_window(request: DesiredModel, facts: Facts) -> str:
    if schedule.never_meet((facts.window, request.window)):
        return "The request's window and updates.window have no time in common. Change one."
    return ""


def _no_comparison(request: DesiredModel, update: Update, facts: Facts) -> str:
    if update.good is not None or not facts.has_model or not compares_in_trial(request.policy):
        return ""
    return "The configuration's model can be compared in a shadow alone. Set policy.shadow_windows."


def _kept(update: Update) -> tuple[Deployed, ...]:
    return tuple(one for one in (update.good, update.previous) if one is not None)


def wrong_bundle(bundle: Deployed, update: Update, facts: Facts, *, older: bool) -> str:
    """Return why a bundle that was examined is not the one of the request, or may not be placed."""
    request = update.request
    if request is None:
        return "There is no request any more."
    lowest, highest = versions(request)
    if bundle.model != request.model or not lowest <= bundle.version <= highest:
        wanted = f"{request.model} {lowest}" if lowest == highest else f"{request.model} {lowest} to {highest}"
        return f"The file has version {bundle.version} of {bundle.model}. The request is for {wanted}."
    if bundle.file_sha256 != request.sha256 or bundle.length != request.length:
        return "The file is not the one of the request."
    return _too_old(bundle.model, bundle.version, facts, older=older) or _conflict(
        bundle.model, bundle.version, bundle.file_sha256, (*_kept(update), *facts.others)
    )


def is_good(request: DesiredModel, good: Deployed | None) -> bool:
    """Return whether the good model is what a request wants."""
    if good is None:
        return False
    lowest, highest = versions(request)
    same_file = (good.model, good.file_sha256, good.length) == (request.model, request.sha256, request.length)
    return same_file and lowest <= good.version <= highest


def same_bundle(one: DesiredModel, other: DesiredModel) -> bool:
    """Return whether two requests want the same file as the same version."""
    return (one.model, one.version, one.sha256, one.length) == (
        other.model,
        other.version,
        other.sha256,
        other.length,
    )

"""What ``model/<pipeline>/reported`` has about an update."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING

from limpet.contracts.updates import ModelName, UpdateReport

if TYPE_CHECKING:
    from limpet.contracts.updates import DesiredModel
    from limpet.updates.state import Deployed, Update


def report(update: Update, fetched: float | None = None) -> UpdateReport:
    """Return how far an update is. ``fetched``: share of the download that is there, if one goes on."""
    progress = fetched if fetched is not None else _progress(update)
    request, candidate = update.request, update.candidate
    shown = candidate or update.good
    return UpdateReport(
        stage=update.stage,
        since=datetime.fromtimestamp(update.since, timezone.utc),
        reason=update.reason,
        id=request.id if request else "",
        serial=request.serial if request else 0,
        wanted=_name(candidate) or (_wanted(request) if request else None),
        sha256=request.sha256 if request else "",
        progress=None if progress is None else round(progress, 3),
        good=_name(update.good),
        previous=_name(update.previous),
        signed_by=list(shown.signed_by) if shown else [],
        compared=update.live.figures if update.live else None,
    )


def _progress(update: Update) -> float | None:
    """Return the share of a shadow or a trial that is over, by its windows."""
    if update.request is None or update.live is None:
        return None
    policy, figures = update.request.policy, update.live.figures
    if update.stage == "trial":
        return min((update.results + update.live.accepted) / policy.trial_windows, 1.0)
    if update.stage == "shadow" and figures is not None and policy.shadow_windows:
        return min(figures.windows / policy.shadow_windows, 1.0)
    return None


def _name(bundle: Deployed | None) -> ModelName | None:
    return ModelName(bundle.model, bundle.version) if bundle else None


def _wanted(request: DesiredModel) -> ModelName:
    version = request.version
    return ModelName(request.model, version if isinstance(version, int) else version[1])

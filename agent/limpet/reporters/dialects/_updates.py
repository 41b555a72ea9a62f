"""What Home Assistant's update entity shows of a model, see https://www.home-assistant.io/integrations/update.mqtt/."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from limpet.contracts.messages import ModelReported
    from limpet.contracts.updates import UpdateStage

_MOVING: frozenset[UpdateStage] = frozenset({"downloading", "verifying", "admission", "shadow", "trial"})
_UNDER_WAY = _MOVING | {"staged"}
LONGEST = 255
"""Home Assistant shows no longer summary."""


def state(message: ModelReported, *, progress: bool) -> dict[str, Any]:
    """Return the state of the entity. It is on while another version than the good one is under way.

    A version that failed is not offered: the request must come again. ``progress``: whether to send
    ``in_progress`` and ``update_percentage``. Home Assistant before 2024.12 refuses a state with them.
    """
    update = message.update
    assert update is not None
    offered = update.wanted if update.stage in _UNDER_WAY else None
    shown: dict[str, Any] = {
        "title": message.model,
        "release_summary": f"{update.stage}: {update.reason}".removesuffix(": ")[:LONGEST],
    }
    if update.stage != "trial":
        shown["installed_version"] = _version(message.model, message.version)
    elif update.good is not None:
        shown["installed_version"] = _version(update.good.model, update.good.version)
    # Without the key, Home Assistant keeps what it has: the version before the trial.
    if offered is not None:
        shown["latest_version"] = _version(offered.model, offered.version)
    elif "installed_version" in shown:
        shown["latest_version"] = shown["installed_version"]
    if progress:
        moves = update.stage in _MOVING
        shown["in_progress"] = moves
        shown["update_percentage"] = round(100 * update.progress, 1) if moves and update.progress else None
    return shown


def _version(model: str, version: int) -> str:
    return f"{model} {version}"

"""When a model may be put to work, what a day's byte budget leaves, and whether there is room on the disk."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from limpet.contracts.updates import DesiredModel, UpdateWindow

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from limpet.updates.state import Deployed

MINUTES = 24 * 60
LONGEST_LOOK = 3600.0
"""Seconds until the next look at most. So a clock that is set, or summer time, delays no window by more."""
LOOK_AGAIN = 60.0
"""Seconds until the next look, if a window waits for an idle CPU or for mains."""
KEPT_DAYS = 4
ANY_TIME = UpdateWindow()


class Conditions(msgspec.Struct, kw_only=True, frozen=True):
    """What windows depend on. ``local``: the device's local time, ``None`` while the clock is not set."""

    local: datetime | None = None
    busy: bool = False
    on_battery: bool = False


class Disk(msgspec.Struct, kw_only=True, frozen=True):
    """What there is for bundles: ``updates.disk_bytes``, and what is free on the file system."""

    bound: int
    free: int


def why_not_now(windows: Iterable[UpdateWindow], conditions: Conditions) -> str:
    """Return why a model may not be put to work now, as a sentence. Return "" if it may."""
    reasons = (_why_not(window, conditions) for window in windows)
    return next((reason for reason in reasons if reason), "")


def _why_not(window: UpdateWindow, conditions: Conditions) -> str:
    if _has_times(window):
        if conditions.local is None:
            return f"The model waits for {_times(window)}. The clock is not set."
        if not _is_in(window, _minute(conditions.local)):
            return f"The model waits for {_times(window)}."
    if window.idle and conditions.busy:
        return "The model waits until the CPU is less busy."
    if window.mains and conditions.on_battery:
        return "The model waits until the device is on mains."
    return ""


def never_meet(windows: Sequence[UpdateWindow]) -> bool:
    """Return whether no time of day is in all of these windows."""
    timed = [window for window in windows if _has_times(window)]
    return not any(all(_is_in(window, minute) for window in timed) for minute in range(MINUTES))


def next_look(windows: Iterable[UpdateWindow], conditions: Conditions) -> float:
    """Return after how many seconds closed windows are looked at again."""
    waits = [LONGEST_LOOK]
    for window in windows:
        if conditions.local is not None and _has_times(window):
            minute = _minute(conditions.local)
            if not _is_in(window, minute):
                away = (_begin(window) - minute) % MINUTES
                waits.append(away * 60.0 - conditions.local.second)
        if (window.idle and conditions.busy) or (window.mains and conditions.on_battery):
            waits.append(LOOK_AGAIN)
    return max(min(waits), 1.0)


def _has_times(window: UpdateWindow) -> bool:
    return window.begin is not None or window.end is not None


def _is_in(window: UpdateWindow, minute: int) -> bool:
    begin, end = _begin(window), _end(window)
    return begin <= minute < end if begin < end else minute >= begin or minute < end


def _begin(window: UpdateWindow) -> int:
    return _read(window.begin) if window.begin is not None else 0


def _end(window: UpdateWindow) -> int:
    return _read(window.end) if window.end is not None else MINUTES


def _read(time: str) -> int:
    return int(time[:2]) * 60 + int(time[3:])


def _minute(local: datetime) -> int:
    return local.hour * 60 + local.minute


def _times(window: UpdateWindow) -> str:
    if window.end is None:
        return f"its window from {window.begin}"
    return f"its window from {window.begin or '00:00'} to {window.end}"


def day(local: datetime | None) -> str:
    """Return the day that bytes are counted for, as ``2026-11-28``."""
    return local.date().isoformat() if local is not None else "unset"


def budget_left(per_day: int | None, spent: Mapping[str, int], local: datetime | None) -> int | None:
    """Return how many bytes may still be fetched today, ``None`` for any number."""
    return None if per_day is None else max(per_day - spent.get(day(local), 0), 0)


def spend(spent: Mapping[str, int], local: datetime | None, received: int) -> dict[str, int]:
    """Count bytes that came over the network. The last days are kept."""
    today = day(local)
    counted = {**spent, today: spent.get(today, 0) + received}
    older = sorted(counted.keys() - {today})[-(KEPT_DAYS - 1) :]
    return {name: counted[name] for name in (*older, today)}


def until_tomorrow(local: datetime | None) -> float:
    """Return after how many seconds a spent budget is looked at again: at midnight, or after an hour."""
    if local is None:
        return LONGEST_LOOK
    midnight = (local + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=local.tzinfo)
    return min((midnight - local).total_seconds() + 1.0, LONGEST_LOOK)


def needed(request: DesiredModel) -> int:
    """Return the bytes that a download takes. A patch and its result are on the disk together."""
    return request.length + max((source.length for source in request.sources if source.patch_of), default=0)


def why_no_room(request: DesiredModel, deployed: Iterable[Deployed], disk: Disk, coming: int = 0) -> str:
    """Return why a request cannot be fetched, as a sentence. Return "" if there is room.

    ``deployed`` are the bundles that must stay, of all pipelines. ``coming``: bytes of downloads for the others.
    """
    return no_room(needed(request), deployed, disk, coming)


def no_room(new: int, deployed: Iterable[Deployed], disk: Disk, coming: int = 0) -> str:
    """Return why there is no room for so many bytes beside bundles that must stay. Return "" if there is."""
    kept = sum({one.file: one.length for one in deployed}.values()) + coming
    if kept + new > disk.bound:
        others = "models that must stay and other downloads" if coming else "models that must stay"
        end = "Raise it, or send the request again after those." if coming else "Raise it."
        return f"The model needs {new} bytes, and {others} have {kept}. updates.disk_bytes is {disk.bound}. {end}"
    if new > disk.free:
        return f"The model needs {new} bytes. The disk has {disk.free} free. Delete files there."
    return ""


def to_prune(files: Iterable[str], deployed: Iterable[Deployed]) -> list[str]:
    """Return the names of files in the folder of deployed bundles that no pipeline needs."""
    kept = {one.file for one in deployed}
    return sorted(set(files) - kept)

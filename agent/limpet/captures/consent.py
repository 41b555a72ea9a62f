"""Which windows of a pipeline may be kept at all. Pure functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from limpet.contracts.captures import Answer, KeepOptions


def refuses(options: KeepOptions, answer: Answer) -> bool:
    """Whether a window with this answer must never be kept."""
    labels = [answer] if isinstance(answer, str) else answer if isinstance(answer, list) else []
    return not set(options.never).isdisjoint(labels)


def may_keep(options: KeepOptions, local: datetime) -> bool:
    """Whether the hours of consent allow a window of this local time. Hours may pass midnight."""
    hours = options.hours
    if hours is None:
        return True
    now = f"{local.hour:02d}:{local.minute:02d}"
    if hours.begin <= hours.end:
        return hours.begin <= now < hours.end
    return now >= hours.begin or now < hours.end

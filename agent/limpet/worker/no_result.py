"""Why a source ended without a single result. Silence is a fault, so Limpet reports the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from limpet.inference.plan import PipelinePlan


def reason(plan: PipelinePlan, samples: int, discarded: int, errors: int) -> str:
    """Return a sentence about ``samples`` that gave no result. ``discarded`` lay in no window because of gaps."""
    counted = f"{samples:,} sample{'' if samples == 1 else 's'}, 0 results"
    if not samples:
        return f"{counted}: every sample was dropped, or there was none; health has the causes"
    if errors:
        return f"{counted}: the model failed on each of {errors:,} windows"
    window = plan.window
    takes = f"{window.seconds:g} s" if window.seconds is not None else f"{window.size or 1:,} samples"
    if plan.every > 1:
        takes = f"{takes}, and only one in {plan.every:,} is run"
    gaps = f"; {discarded:,} samples are between gaps that are closer than that" if discarded else ""
    return f"{counted}: a window takes {takes}{gaps}"

"""The goals of ``make truth``, and whether the figures reach them. Pure functions of the figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

KEYS = (
    "false_alarms_per_month",
    "false_alarms_per_month_bound",
    "windows_without_drift",
    "drift",
    "coverage",
    "ece",
    "monitor_cost",
    "monitor_bytes",
    "cascade_saving",
    "explain_matches_shap",
)
"""Figures that end the page, as JSON."""
ENOUGH = 80_000_000
"""Windows without drift."""
LARGEST = 200_000
"""Bytes of all monitors of a pipeline."""


class Goal(NamedTuple):
    """A goal, what was measured, and whether that is enough."""

    wanted: str
    measured: str
    reached: bool


def section(figures: Mapping[str, Any]) -> str:
    """Return the section of the page about the goals of all parts that were measured."""
    found = list(_goals(figures))
    missed = sum(not one.reached for one in found)
    rows = [f"| {one.wanted} | {one.measured} | {'yes' if one.reached else '**no**'} |" for one in found]
    total = f"{len(found) - missed} of {len(found)} goals are reached."
    return "\n".join(
        ["## Goals", "", total, "", "| goal | measured | reached |", "| --- | --- | --- |", *rows, ""]
    )


def _goals(figures: Mapping[str, Any]) -> Iterator[Goal]:
    yield from _of_monitors(figures)
    if "coverage" in figures:
        worst = max(one["error_points"] for one in figures["coverage"].values())
        yield Goal(
            f"Sets and intervals of {len(figures['coverage'])} models cover what they say, to 1 point",
            f"{worst:.2f} points",
            worst <= 1,
        )
        yield Goal("ECE after calibration at most 0.02", f"{figures['ece']:.4f}", figures["ece"] <= 0.02)
    if "bayes" in figures:
        one = figures["bayes"]["10 s"]
        yield Goal(
            "The Bayes filter is right more often than single windows",
            f"{one['lift_points']:+.1f} points, from {one['lift_low']:+.1f} to {one['lift_high']:+.1f}",
            one["lift_low"] > 0,
        )
    if "cascade_saving" in figures:
        saving = figures["cascade_saving"]
        yield Goal("A cascade is twice as cheap at equal accuracy", f"{saving:.2f} times", saving >= 2)
    if "explain_matches_shap" in figures:
        same = figures["explain_matches_shap"]
        yield Goal("Shapley values are those of shap, to 1e-6", "the same" if same else "others", same)
    for name, one in figures.get("story", {}).items():
        yield Goal(
            f"Story `{name}`: no alarm before the change, and none of the new model",
            f"{one['false_alarms']} before, {one['alarms_after']} after"
            + ("" if one["cleared"] else "; one holds at the end"),
            one["cleared"] and not one["alarms_after"] and not one["false_alarms"],
        )


def _of_monitors(figures: Mapping[str, Any]) -> Iterator[Goal]:
    if "windows_without_drift" in figures:
        count, bound = figures["false_alarms_per_month"], figures["false_alarms_per_month_bound"]
        windows = figures["windows_without_drift"]
        yield Goal(
            "At most 1 false alarm a month, over 80,000,000 windows or more",
            f"{count:.2f}, at most {bound:.2f} (95 %), over {windows:,}",
            bound <= 1 and windows >= ENOUGH,
        )
    for name, one in figures.get("drift", {}).items():
        yield Goal(
            f"Larger change `{name}` is found",
            f"{one['detected']:.0%}, after {one['delay_windows']:,} windows",
            one["detected"] == 1,
        )
    for name, most in (("keyword", 0.05), ("vision", 0.01)):
        if "monitor_cost" in figures:
            share, size = figures["monitor_cost"][name], figures["monitor_bytes"][name]
            yield Goal(
                f"Monitors of a {name} model take at most {most:.0%} of its time and 200 kB",
                f"{share:.2%}, {size / 1000:.0f} kB",
                share <= most and size <= LARGEST,
            )

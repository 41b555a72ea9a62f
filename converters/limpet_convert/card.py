"""The model card: what the bundle is for, made of, good at and not good for, as Mitchell and others (2019) ask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from limpet_convert import regression
from limpet_convert.compare import is_surely_behind, worst_group

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from limpet.models.manifest import Manifest
    from limpet_convert.bundle_reference import Made
    from limpet_convert.compare import Comparison
    from limpet_convert.project import Project
    from limpet_convert.uncertainty import Fitted

UNSAID = "Not stated by its maker."


def markdown(
    project: Project, comparison: Comparison | None, learned: Learned | None, provenance: dict[str, Any]
) -> str:
    """Return the card. It names what the project file leaves out."""
    bundle, card = project.bundle, project.card
    lines = [
        f"# {bundle.name}, version {bundle.version}",
        "",
        bundle.description or UNSAID,
        "",
        f"Task: {bundle.task}. Variant: {bundle.variant}. Licence: {bundle.licence or UNSAID}",
        "",
    ]
    for title, text in (("Purpose", card.purpose), ("Data", card.data), ("Limits", card.limits)):
        lines += [f"## {title}", "", text or UNSAID, ""]
    lines[-1:] = [f"Licence of the data: {card.data_licence or UNSAID}", ""] if card.data_licence else [""]
    if bundle.labels:
        lines += ["## Labels", "", ", ".join(bundle.labels), ""]
    if comparison:
        lines += _compared(comparison) if project.data.seen else _measured(comparison)
    if learned:
        lines += _calibrated(learned.fitted) + _watched(learned.made)
    lines += ["## Provenance", "", *(f"* {k}: {v}" for k, v in sorted(provenance.get("inputs", {}).items())), ""]
    return "\n".join(lines)


@dataclass(frozen=True)
class Learned:
    """What the test windows showed beside accuracy: how sure the model is, and what devices watch for."""

    fitted: Fitted
    made: Made


@dataclass(frozen=True)
class Description:
    """The description of a ready-made model by its author. ``golden``: what its golden vectors were made of."""

    purpose: str
    limits: str
    golden: str


def ready_made(manifest: Manifest, labels: Sequence[str], said: Description, provenance: dict[str, Any]) -> str:
    """Return the card of a model that was not converted here, so that nothing was measured."""
    lines = [
        f"# {manifest.name}, version {manifest.version}",
        "",
        manifest.description or UNSAID,
        "",
        f"Task: {manifest.task or UNSAID} Licence: {manifest.licence or UNSAID}",
        "",
    ]
    for title, text in (("Purpose", said.purpose), ("Limits", said.limits)):
        lines += [f"## {title}", "", text or UNSAID, ""]
    if labels:
        lines += ["## Labels", "", ", ".join(labels), ""]
    lines += ["## Measured", "", "Nothing. The model was packaged as it was.", ""]
    lines += ["## Golden vectors", "", f"Made of {said.golden}.", ""]
    lines += ["## Provenance", "", *(f"* {k}: {v}" for k, v in sorted(provenance["inputs"].items())), ""]
    return "\n".join(lines)


def _compared(comparison: Comparison) -> list[str]:
    """Return whether this variant gives the same answers as float, on windows that both learned from."""
    return [
        "## Compared with float",
        "",
        f"{agreed(comparison)} that the model learned from.",
        "",
    ]


def _measured(comparison: Comparison) -> list[str]:
    lines = ["## Measured on held-back data", "", "| metric | float | this variant |", "| --- | --- | --- |"]
    for name, value in comparison.converted.items():
        if isinstance(value, float):
            lines.append(f"| {name} | {comparison.exact[name]:.4f} | {value:.4f} |")
    lines += ["", f"{agreed(comparison)}.", ""]
    lines += regression.rows(comparison.exact, comparison.converted, comparison.quantities)
    lines += [line for note in comparison.notes for line in (f"Note: {note}.", "")]
    return lines + _by_group(comparison)


def agreed(comparison: Comparison) -> str:
    """Return the agreement as the beginning of a sentence, which ends with the windows."""
    share = f"{comparison.agreement:.2%} of the windows"
    if not comparison.quantities:
        return f"Both give the same answer on {share}"
    count = len(comparison.quantities)
    which = "Both answers differ" if count == 1 else f"Both answers of each of {count} quantities differ"
    if count > 1 and comparison.agreement < 1:
        worst = regression.worst(comparison.quantities)
        which = f"Of {count} quantities, {worst} agrees least: both answers differ"
    return f"{which} by at most {regression.CLOSE:.0%} of its spread on {share}"


def _by_group(comparison: Comparison) -> list[str]:
    """Return the slices, and the worst of them by name."""
    metric, groups = comparison.metric, comparison.groups
    worst = worst_group(comparison)
    if worst is None:
        return []
    lines = ["## By group", "", f"| group | windows | {metric} | 95 % interval |", "| --- | --- | --- | --- |"]
    for name, group in groups.items():
        span = f"{group['low']:.4f} to {group['high']:.4f}" if "low" in group else ""
        lines.append(f"| {name} | {group['windows']} | {group[metric]:.4f} | {span} |")
    whole, least = comparison.converted[metric], groups[worst]
    lines += ["", f"The lowest {metric} is that of {worst}: {least[metric]:.4f}. That of all is {whole:.4f}."]
    if metric != "accuracy":
        return [*lines, ""]
    if is_surely_behind(comparison, worst):
        lines[-1] += " The difference is more than chance explains."
    else:
        lines[-1] += " Chance may explain the difference."
    return [*lines, ""]


def learned_lines(learned: Learned) -> list[str]:
    """Return in short what was fitted for the field, and what was not and why."""
    lines = [*_calibrated(learned.fitted), *_watched(learned.made)]
    return [line.removeprefix("* ") for line in lines if line.startswith("* ")]


def _calibrated(fitted: Fitted) -> list[str]:
    """Return how sure the model is, and what its sets or intervals cover."""
    found = fitted.figures
    lines = ["## Calibration", ""]
    if "temperature" in found:
        lines += [
            f"* temperature: {found['temperature']:g}",
            f"* expected calibration error: {found['ece_before']:.4f} before, {found['ece']:.4f} now",
            f"* of that, chance: {found['ece_bias']:.4f}, over ten bins of as many windows each",
        ]
        if found["ece"] > found["ece_before"]:
            lines.append("* it rose: where a model makes few errors, the temperature is cautious")
    if "coverage" in found:
        sets = "mean_set" in found
        what = f"{found['mean_set']:g} in a set on average" if sets else _reach(found)
        kind = "sets of classes" if sets else "intervals"
        lines.append(f"* {found['coverage']:.0%} {kind}: {found['measured_coverage']:.2%} have the truth, {what}")
    lines += [f"* {note}" for note in fitted.notes]
    lines += ["", "Each figure is of windows that its parameter was not fitted on.", ""] if found else [""]
    return lines if len(lines) > 3 else []


def _reach(found: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} ± {reach:.4g}" for name, reach in found["half_width"].items())


def _watched(made: Made) -> list[str]:
    """Return what devices watch for."""
    reference = made.reference
    lines = ["## Alarms", ""]
    if reference:
        lines += [
            f"* reference: {reference.windows} windows, {len(reference.features)} features",
            f"* monitors: {', '.join(reference.thresholds) or 'none'}",
            f"* false alarms: at most {reference.false_alarms:g} in 26 million windows like the reference",
        ]
    lines += [f"* {note}" for note in made.notes]
    return [*lines, ""] if len(lines) > 2 else []

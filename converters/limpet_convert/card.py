"""The model card: what the bundle is for, made of, good at and not good for, as Mitchell and others (2019) ask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.models.manifest import Manifest
    from limpet_convert.compare import Comparison
    from limpet_convert.project import Project

UNSAID = "Not stated by its maker."


def markdown(project: Project, comparison: Comparison | None, provenance: dict[str, Any]) -> str:
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
    lines += ["## Provenance", "", *(f"* {k}: {v}" for k, v in sorted(provenance.get("inputs", {}).items())), ""]
    return "\n".join(lines)


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
        f"Both give the same answer on {comparison.agreement:.2%} of the windows that the model learned from.",
        "",
    ]


def _measured(comparison: Comparison) -> list[str]:
    lines = ["## Measured on held-back data", "", "| metric | float | this variant |", "| --- | --- | --- |"]
    for name, value in comparison.converted.items():
        if isinstance(value, float):
            lines.append(f"| {name} | {comparison.exact[name]:.4f} | {value:.4f} |")
    lines += ["", f"Both give the same answer on {comparison.agreement:.2%} of the windows.", ""]
    if comparison.groups:
        lines += ["## By group", "", f"| group | windows | {comparison.metric} |", "| --- | --- | --- |"]
        lines += [f"| {g} | {m['windows']} | {m[comparison.metric]:.4f} |" for g, m in comparison.groups.items()]
        lines.append("")
    return lines

"""What ``verify`` found, as Markdown for people, JSON for programs and plots."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from limpet_convert import confusion, on_device, regression
from limpet_convert.detections import NOTHING
from limpet_convert.libraries import need

if TYPE_CHECKING:
    from pathlib import Path

    from limpet_convert.compare import Comparison
    from limpet_convert.layers import Diagnosis, Layer
    from limpet_convert.on_device import OnDevice
    from limpet_convert.project import Project

SHOWN_LAYERS = 40


@dataclass(frozen=True)
class Found:
    """What ``verify`` found. ``diagnosed`` shows the layer that causes the error, of a mixture in int8.

    ``there``: the packaged variant on a device, if the user named one.
    """

    comparisons: list[Comparison]
    diagnosis: Diagnosis | None
    diagnosed: Diagnosis | None
    runtimes: dict[str, float]
    there: OnDevice | None = None
    choice: str = ""


def write(folder: Path, project: Project, found: Found) -> None:
    """Write ``report.json``, ``report.md`` and ``report.png``."""
    text = msgspec.json.encode(as_dict(project, found), order="sorted")
    (folder / "report.json").write_bytes(msgspec.json.format(text) + b"\n")
    (folder / "report.md").write_text(markdown(project, found), encoding="utf-8")
    plot(folder / "report.png", found.comparisons, found.diagnosed, project.bundle.variant)


def as_dict(project: Project, found: Found) -> dict[str, Any]:
    """Return the report as JSON can have it."""
    comparisons, diagnosis = found.comparisons, found.diagnosis
    return {
        "bundle": f"{project.bundle.name}-{project.bundle.version}",
        "packaged": project.bundle.variant,
        "passed": not any(c.failures for c in _decisive(project, found)),
        "variants": {c.variant: c.as_dict() for c in comparisons},
        "layers": [asdict(layer) | {"largest_effect": layer.largest_effect} for layer in diagnosis.layers]
        if diagnosis
        else [],
        "faulty_layer": asdict(named) if found.diagnosed and (named := found.diagnosed.faulty_layer) else None,
        "runtimes": found.runtimes,
        "device": found.there.as_dict() if found.there else None,
    }


def _decisive(project: Project, found: Found) -> list[Comparison]:
    """Return what decides: the packaged variant, here and on a device."""
    packaged = [one for one in found.comparisons if one.variant == project.bundle.variant]
    return [*packaged, found.there.exact] if found.there else packaged


def markdown(project: Project, found: Found) -> str:
    """Return the report as a person reads it."""
    bundle, comparisons, runtimes = project.bundle, found.comparisons, found.runtimes
    lines = [f"# {bundle.name} {bundle.version}: is it still the same model?", ""]
    for one in comparisons:
        if one.variant == bundle.variant:
            verdict = "Yes" if not one.failures else "No: " + "; ".join(one.failures)
            lines += [f"**{verdict}.** `{one.variant}` is what gets packaged.", ""]
            lines += [line for note in one.notes for line in (f"Note: {note}.", "")]
    if found.choice:
        lines += [f"{found.choice}.", ""]
    if project.data.seen:
        lines += [
            "The model learned from these windows. They compare variants, and do not show how good it is.",
            "",
        ]
    lines += _faulty(found.diagnosed, bundle.variant)
    if found.there:
        lines += on_device.markdown(found.there)
    lines += _variants(comparisons)
    for one in comparisons:
        lines += _details(one, bundle.variant)
    if found.diagnosis:
        lines += _layers(found.diagnosis)
    if runtimes:
        lines += [
            "## Runtimes",
            "",
            "Largest difference from the float model's outputs, over the same windows.",
            "",
        ]
        lines += ["| runtime | largest difference |", "| --- | --- |"]
        lines += [f"| {name} | {value:.3g} |" for name, value in runtimes.items()]
    return "\n".join(lines).rstrip() + "\n"


def _faulty(diagnosed: Diagnosis | None, variant: str) -> list[str]:
    named = diagnosed.faulty_layer if diagnosed else None
    if named is None:
        return []
    begin = "In int8 throughout: quantizing" if variant == "mixed" else "Quantizing"
    what = (
        f"{begin} `{named.name}` ({named.kind}) alone moves the output by "
        f"{named.largest_effect:.0%} of its spread. It is the first layer to do so{_of_measured(diagnosed)}."
    )
    return ["## The layer that causes the error", "", f"{what} {named.why[:1].upper()}{named.why[1:]}.", ""]


def _of_measured(diagnosed: Diagnosis | None) -> str:
    return ", of those that were measured" if diagnosed and diagnosed.unmeasured else ""


def _variants(comparisons: list[Comparison]) -> list[str]:
    metric = comparisons[0].metric if comparisons else "metric"
    lines = [
        "## Variants",
        "",
        f"| variant | size | of float | {metric} float | {metric} | points lost | agreement |",
    ]
    lines.append("| --- | --- | --- | --- | --- | --- | --- |")
    lines += [
        f"| {c.variant} | {c.size:,} B | {c.size_ratio:.3f} | {c.exact[metric]:.4f} | {c.converted[metric]:.4f} "
        f"| {c.metric_loss_points:.2f} | {c.agreement:.2%} |"
        for c in comparisons
    ]
    return [*lines, ""]


def _details(one: Comparison, packaged: str) -> list[str]:
    if one.variant != packaged:
        return []
    lines = [f"## {one.variant} in detail", ""]
    named = [
        name for name in ("map", "map50", "auc", "f1", "ece", "mae", "rmse", "nrmse") if name in one.converted
    ]
    lines += [f"* {name}: {one.exact[name]:.4f} float, {one.converted[name]:.4f} {one.variant}" for name in named]
    lines += [
        f"* layer `{layer}` stays in {precision}, with what reads it" for layer, precision in one.kept.items()
    ]
    for number, error in enumerate(one.errors):
        lines.append(
            f"* output {number}: differs by {error['largest']:.4g} at most, {error['mean']:.4g} on average, "
            f"{error['relative']:.2%} of its spread"
        )
    lines.append("")
    lines += _classes(one) + regression.rows(one.exact, one.converted, one.quantities)
    if counts := one.converted.get("confusion"):
        lines += confusion.table(list(one.converted["classes"]), counts)
    lines += [_change(change) for change in one.changes[:10]]
    for group, figures in one.groups.items():
        lines.append(f"* group {group}: {one.metric} {figures[one.metric]:.4f} on {figures['windows']} windows")
    return [*lines, ""]


def _change(change: dict[str, Any]) -> str:
    before, after = change["from"], change["to"]
    if "windows" in change:
        return f"* {change['windows']} windows of `{before}` became `{after}`"
    if before == NOTHING:
        return f"* {change['detections']} boxes of `{after}` where float has none"
    became = "are gone" if after == NOTHING else f"became `{after}`"
    return f"* {change['detections']} boxes of `{before}` {became}"


def _classes(one: Comparison) -> list[str]:
    """Return a table of the classes: of windows, or of objects in them."""
    classes = one.converted.get("classes")
    if not classes:
        return []
    columns = {"count": "windows", "precision": "precision", "recall": "recall", "f1": "F1", "auc": "AUC"}
    last = "f1"
    if one.metric == "map":
        columns |= {"count": "objects", "ap50": "AP at .5", "ap": "AP"}
        del columns["auc"]
        last = "ap"
    titles = ["class", *columns.values(), f"{columns[last]} float"]
    lines = [f"| {' | '.join(titles)} |", "| --- " * len(titles) + "|"]
    for label, figures in classes.items():
        cells = [f"{figures[key]:.3f}" if key != "count" else str(figures[key]) for key in columns]
        cells.append(f"{one.exact['classes'][label][last]:.3f}")
        lines.append(f"| {' | '.join([label, *cells])} |")
    return [*lines, ""]


def _layers(diagnosis: Diagnosis) -> list[str]:
    lines = [
        "## Layer by layer",
        "",
        (
            "`error`: how far the layer's output is from float, all earlier errors in it. `effect`: how far the "
            "model's output moves when this layer alone is quantized. Both relative to the spread."
        ),
        "",
        "| layer | op | error | effect | of weights | step | range | seen | why |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    shown = sorted(diagnosis.layers, key=lambda layer: -layer.largest_effect)[:SHOWN_LAYERS]
    lines += [_row(layer) for layer in diagnosis.layers if layer in shown]
    if len(diagnosis.layers) > len(shown):
        lines.append("")
        lines.append(f"The {len(shown)} of {len(diagnosis.layers)} layers with the largest effects.")
    if diagnosis.unmeasured:
        lines += ["", unmeasured(diagnosis)]
    return [*lines, ""]


def unmeasured(diagnosis: Diagnosis) -> str:
    """Say which layers were not looked at."""
    return (
        f"The effects of {diagnosis.unmeasured} of {len(diagnosis.layers)} layers were not measured, as that "
        "takes too long. Limpet measures the layers that lose most by themselves, and some of the others."
    )


def _row(layer: Layer) -> str:
    cells = [
        f"`{layer.name}`",
        layer.kind,
        f"{layer.error:.4f}",
        f"{layer.effect:.4f}",
        f"{layer.weight_effect:.4f}",
    ]
    if layer.scale:
        cells += [f"{layer.scale:.4g}", f"{layer.low:.4g} to {layer.high:.4g}"]
    else:
        cells += ["float", ""]
    cells += [
        f"{layer.seen[0]:.4g} to {layer.seen[1]:.4g}",
        layer.why if layer.cause != "rounding" else "rounding",
    ]
    return "| " + " | ".join(cells) + " |"


def plot(path: Path, comparisons: list[Comparison], diagnosis: Diagnosis | None, packaged: str) -> None:
    """Draw size against loss of the variants, the effect of each layer, and a panel of the task.

    That is a detector's AP by label, or the confusion matrix of a classifier as it is packaged.
    """
    layers = diagnosis.layers if diagnosis else []
    shown = sorted(layers, key=lambda layer: -layer.largest_effect)[:SHOWN_LAYERS]
    shown = [layer for layer in layers if layer in shown]
    shipped = next((one for one in comparisons if one.variant == packaged), None)
    detector, classifier = (shipped is not None and name in shipped.converted for name in ("map", "confusion"))
    panels = 3 if detector or classifier else 2
    size = (5.5 * panels, max(4.5, 0.2 * len(shown) + 1.5))
    figure = need("matplotlib.figure").Figure(figsize=size, layout="constrained")
    left, right, *more = figure.subplots(1, panels)
    _variants_panel(left, comparisons)
    _layers_panel(right, shown, diagnosis.faulty_tensor if diagnosis else "")
    if shipped and detector:
        _by_label(more[0], comparisons)
    elif shipped and classifier:
        labels, counts = list(shipped.converted["classes"]), shipped.converted["confusion"]
        confusion.draw(more[0], labels, counts, packaged, f"Confusion of {packaged}")
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _variants_panel(axes: Any, comparisons: list[Comparison]) -> None:
    """Draw the variants with a legend: labels beside the points would overlap."""
    for one in comparisons:
        axes.scatter(one.size / 1000, one.metric_loss_points, s=60, label=one.variant)
    metric = comparisons[0].metric if comparisons else ""
    axes.set(xlabel="size, kB", ylabel=f"{metric} lost, points", title="Variants")
    axes.grid(alpha=0.3)
    if comparisons:
        axes.legend(fontsize=8)


def _layers_panel(axes: Any, layers: list[Layer], faulty: str) -> None:
    """Draw the effects of layers, the first one on top."""
    colours = ["tab:red" if layer.tensor == faulty else "tab:blue" for layer in layers]
    axes.barh(range(len(layers)), [layer.largest_effect for layer in layers], color=colours)
    axes.set_yticks(range(len(layers)), [_shortened(layer.name) for layer in layers], fontsize=7)
    axes.invert_yaxis()
    axes.set(xlabel="output moved, of its spread", title="Effect of quantizing one layer alone")
    axes.grid(alpha=0.3, axis="x")


def _shortened(name: str, longest: int = 40) -> str:
    return name if len(name) <= longest else f"...{name[3 - longest :]}"


def _by_label(axes: Any, comparisons: list[Comparison]) -> None:
    models = {"float": comparisons[0].exact} | {one.variant: one.converted for one in comparisons}
    labels = list(comparisons[0].exact["classes"])
    for number, (name, metrics) in enumerate(models.items()):
        places = [place + 0.8 * number / len(models) for place in range(len(labels))]
        heights = [metrics["classes"][label]["ap"] for label in labels]
        axes.bar(places, heights, 0.8 / len(models), align="edge", label=name)
    axes.set_xticks([place + 0.4 for place in range(len(labels))], labels, rotation=75, ha="right", fontsize=7)
    axes.set(ylabel="AP, overlaps .5 to .95", title="By label")
    axes.legend(loc="lower right")
    axes.grid(alpha=0.3, axis="y")

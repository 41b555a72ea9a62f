"""What came out: as JSON for programs, Markdown for people, and a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from limpet_convert.errors import need

if TYPE_CHECKING:
    from pathlib import Path

    from limpet_convert.training.problem import Problem
    from limpet_convert.training.proposals import Candidate
    from limpet_convert.training.search import Found

JSON, MARKDOWN, PICTURE = "train.json", "train.md", "train.png"


def searched(found: Found[Candidate]) -> dict[str, Any]:
    """Return what the search tried, best last rung first."""
    order = sorted(found.trials, key=lambda one: (-one.rung, -one.score))
    return {
        "complete": found.complete,
        "trials": [
            {"setting": one.setting.words, "rung": one.rung, "score": round(one.score, 4)} for one in order
        ],
    }


def description(found: Problem, one: Candidate) -> str:
    """Return the line that a bundle says of itself."""
    window = f"{one.size / found.rate:.3g} s" if found.rate else f"{one.size} samples"
    if found.task == "regress":
        return f"Estimates {found.target or 'a number'} from windows of {window}"
    return f"Tells {', '.join(found.labels)} apart in windows of {window}"


def data_line(report: dict[str, Any]) -> str:
    """Return what the model learned from."""
    return f"{report['recordings']} recordings of {', '.join(report['channels'])}, made with limpet record."


def limits_line(found: Problem) -> str:
    """Return what the figures do not say."""
    if found.held_by == "block":
        return "Measured on other parts of the same recordings only. On new recordings it will be worse."
    return "Measured on recordings that it did not learn from, made with the same sensor and setup."


def summary(report: dict[str, Any]) -> str:
    """Return the result in one line."""
    figures, by = (
        report["held_out"],
        "other recordings" if report["held_by"] == "recording" else "the same recordings",
    )
    line = f"Accuracy on {by}: {figures['accuracy']:.3f} (chance: {figures['baselines']['chance']:.3f})"
    if "test" in report:
        line += f"; on the test session: {report['test']['accuracy']:.3f}"
    return line


def write(folder: Path, report: dict[str, Any]) -> None:
    """Write ``train.json``, ``train.md`` and ``train.png``."""
    text = msgspec.json.encode(report, order="sorted")
    (folder / JSON).write_bytes(msgspec.json.format(text) + b"\n")
    (folder / MARKDOWN).write_text(markdown(report), encoding="utf-8")
    plot(folder / PICTURE, report)


def markdown(report: dict[str, Any]) -> str:
    """Return the report as a person reads it."""
    figures = report["held_out"]
    lines = [f"# Training: {report['task']}", ""]
    lines += [
        f"Bundle: `{report['bundle']}`" if report["bundle"] else f"No bundle was written. {report['why']}",
        "",
    ]
    lines += [f"* {note}" for note in report["notes"]] + ([""] if report["notes"] else [])
    lines += ["## Accuracy", "", held_line(report), ""]
    lines += _figures(figures, "Held-out windows")
    if "test" in report:
        lines += ["## Test session", "", "The packaged model, on the recordings of `--test`.", ""]
        lines += _figures(report["test"], "Test windows")
    lines += ["## Setting", ""] + [f"* {name}: {value}" for name, value in report["setting"].items()] + [""]
    lines += [f"* {reason}" for reason in report["reasons"]] + [""]
    lines += ["## What the search tried", "", "| setting | rung | score |", "| --- | --- | --- |"]
    lines += [
        f"| {one['setting']} | {one['rung'] + 1} | {one['score']:.4f} |" for one in report["search"]["trials"]
    ]
    if "sizes" in report:
        lines += ["", "## Sizes", "", *(f"* {name}: {size:,} B" for name, size in report["sizes"].items())]
    return "\n".join(lines).rstrip() + "\n"


def held_line(report: dict[str, Any]) -> str:
    """Return how the figures were made."""
    if report["held_by"] == "block":
        return "Held out: blocks of the same recordings. These figures are better than on new recordings."
    return f"Held out: whole recordings, {report['folds']}-fold cross-validation."


def _figures(figures: dict[str, Any], what: str) -> list[str]:
    lines = [f"{what}: {figures['windows']}.", ""]
    for name in ("accuracy", "balanced_accuracy", "f1", "auc"):
        if name in figures:
            low_high = figures.get("intervals", {}).get(name)
            between = f" (95 %: {low_high[0]:.3f} to {low_high[1]:.3f}, by recording)" if low_high else ""
            lines.append(f"* {name}: {figures[name]:.3f}{between}")
    lines += [f"* {name}: {value:.3f} (baseline)" for name, value in figures["baselines"].items()] + [""]
    if "classes" in figures:
        lines += ["| class | windows | precision | recall | F1 |", "| --- | --- | --- | --- | --- |"]
        lines += [
            f"| {label} | {one['count']} | {one['precision']:.3f} | {one['recall']:.3f} | {one['f1']:.3f} |"
            for label, one in figures["classes"].items()
        ]
        names = list(figures["classes"])
        lines += ["", f"| true, predicted: | {' | '.join(names)} |", "| --- " * (len(names) + 1) + "|"]
        lines += [
            f"| {name} | {' | '.join(map(str, row))} |"
            for name, row in zip(names, figures["confusion"], strict=True)
        ]
        lines.append("")
    lines += ["| recording | windows | accuracy |", "| --- | --- | --- |"]
    lines += [f"| {one['file']} | {one['windows']} | {one['accuracy']:.3f} |" for one in figures["recordings"]]
    return [*lines, ""]


def plot(path: Path, report: dict[str, Any]) -> None:
    """Draw the confusion matrix."""
    figure = need("matplotlib.figure").Figure(figsize=(5.5, 4.5), layout="constrained")
    _confusion(figure.subplots(), report["test" if "test" in report else "held_out"], report["labels"])
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _confusion(axes: Any, figures: dict[str, Any], labels: list[str]) -> None:
    counts = figures["confusion"]
    totals = [max(1, sum(row)) for row in counts]
    axes.imshow(
        [[n / total for n in row] for row, total in zip(counts, totals, strict=True)], "Blues", vmin=0, vmax=1
    )
    for y, (row, total) in enumerate(zip(counts, totals, strict=True)):
        for x, count in enumerate(row):
            axes.text(x, y, str(count), ha="center", va="center", color="white" if count > total / 2 else "black")
    axes.set_xticks(range(len(labels)), labels, rotation=45, ha="right")
    axes.set_yticks(range(len(labels)), labels)
    axes.set(xlabel="predicted", ylabel="true", title="Windows that the model did not learn from")

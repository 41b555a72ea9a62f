"""What came out: as JSON for programs, Markdown for people, and a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from limpet_convert import confusion
from limpet_convert.libraries import need

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
    """Return the description of a bundle in one line."""
    window = f"{one.size / found.rate:.3g} s" if found.rate else f"{one.size} samples"
    if found.task == "regress":
        return f"Estimates {found.target} from windows of {window}"
    if found.task == "anomaly":
        return f"Reports windows of {window} that are not normal"
    return f"Recognises {', '.join(found.labels)} in windows of {window}"


def data_line(report: dict[str, Any]) -> str:
    """Return what the model learned from."""
    return f"{report['recordings']} recordings of {', '.join(report['channels'])}, made with limpet record."


def limits_line(found: Problem) -> str:
    """Return what the figures do not say."""
    if found.split_by == "block":
        return "Measured on other parts of the same recordings only. On new recordings it will be worse."
    return "Measured on recordings that it did not learn from, made with the same sensor and setup."


def summary(report: dict[str, Any]) -> str:
    """Return the result in one line."""
    by = "other recordings" if report["split_by"] == "recording" else "other parts of the same recordings"
    line = f"On {by}: {_short(report['held_out'])}"
    return f"{line}. On the test session: {_short(report['test'])}." if "test" in report else f"{line}."


def _short(figures: dict[str, Any]) -> str:
    if "accuracy" in figures:
        return f"accuracy {figures['accuracy']:.3f} (chance {figures['baselines']['chance']:.3f})"
    if "mae" in figures:
        unit = f" {figures['unit']}" if figures["unit"] else ""
        mean = figures["baselines"]["mae of the mean"]
        guess = f"the mean as a guess: {mean:.4g}{unit}"
        return f"mean error {figures['mae']:.4g}{unit} ({guess}), R² {figures['r2']:.3f}"
    found = f"{figures['false_alarms']:.2%} false alarms"
    return f"{found}, AUC {figures['auc']:.4f}" if "auc" in figures else f"{found}; no anomaly to measure with"


def write(folder: Path, report: dict[str, Any]) -> None:
    """Write ``train.json``, ``train.md`` and ``train.png``."""
    text = msgspec.json.encode(report, order="sorted")
    (folder / JSON).write_bytes(msgspec.json.format(text) + b"\n")
    (folder / MARKDOWN).write_text(markdown(report), encoding="utf-8")
    plot(folder / PICTURE, report)


def markdown(report: dict[str, Any]) -> str:
    """Return the report as a person reads it."""
    lines = [f"# Training: {report['task']}", ""]
    lines += [
        f"Bundle: `{report['bundle']}`" if report["bundle"] else f"No bundle was written. {report['why']}",
        "",
    ]
    lines += [summary(report), ""]
    lines += [f"* {note}" for note in report["notes"]] + ([""] if report["notes"] else [])
    lines += ["## Held out", "", held_line(report), ""]
    lines += _figures(report["held_out"])
    if "test" in report:
        lines += ["## Test session", "", "The packaged model, on the recordings of `--test`.", ""]
        lines += _figures(report["test"])
    lines += _curve(report)
    lines += ["## Setting", "", f"* framework: {report['framework']}"]
    lines += [f"* {name.replace('_', ' ')}: {value}" for name, value in report["setting"].items()]
    lines += [f"* {reason}" for reason in report["reasons"]] + [""]
    lines += _search(report["search"])
    if "sizes" in report:
        lines += ["", "## Sizes", "", *(f"* {name}: {size:,} B" for name, size in report["sizes"].items())]
        lines.append(f"* agreement of `{report['variant']}` with float: {report['agreement_with_float']:.2%}")
    return "\n".join(lines).rstrip() + "\n"


def _curve(report: dict[str, Any]) -> list[str]:
    if not report["curve"]:
        return []
    lines = ["## Would more data help?", "", *(f"* {line}" for line in report["advice"]), ""]
    labels = report["labels"]
    lines += [f"| share of the data | score | {' | '.join(labels)} |".replace(" |  |", " |")]
    lines += ["| --- " * (2 + len(labels)) + "|"]
    for one in report["curve"]:
        cells = [f"{one['share']:.0%}", f"{one['score']:.3f}"]
        cells += [f"{one['recall'].get(label, 0.0):.3f}" for label in labels]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def _search(search: dict[str, Any]) -> list[str]:
    early = "" if search["complete"] else " It ended early, because the time was over."
    lines = [
        "## What the search tried",
        "",
        f"Each rung trains longer, on more folds, with the better settings of the rung before.{early}",
        "",
        "| setting | rung | score |",
        "| --- | --- | --- |",
    ]
    return lines + [f"| {one['setting']} | {one['rung'] + 1} | {one['score']:.4f} |" for one in search["trials"]]


def held_line(report: dict[str, Any]) -> str:
    """Return how the figures were made."""
    if report["split_by"] == "block":
        return "Held out: blocks of the same recordings. These figures are better than on new recordings."
    return f"Held out: whole recordings, {report['folds']}-fold cross-validation."


METRICS = (
    "accuracy",
    "balanced_accuracy",
    "span_accuracy",
    "f1",
    "auc",
    "mae",
    "rmse",
    "r2",
    "precision",
    "recall",
    "false_alarms",
)
"""What is shown of a model, as far as its task has it."""


def _figures(figures: dict[str, Any]) -> list[str]:
    lines = [f"{figures['windows']:,} windows.", ""]
    for name in (*METRICS, "threshold"):
        if name in figures:
            low_high = figures["intervals"].get(name)
            between = f" (95 %: {low_high[0]:.3f} to {low_high[1]:.3f}, by recording)" if low_high else ""
            lines.append(f"* {name.replace('_', ' ')}: {figures[name]:.4g}{between}")
    lines += [f"* baseline, {name}: {value:.4g}" for name, value in figures["baselines"].items()] + [""]
    if figures.get("spans_too_short"):
        lines += [f"{figures['spans_too_short']} of {figures['spans']} spans are too short for a window.", ""]
    if not figures["intervals"]:
        lines += ["There are too few recordings for intervals; five are needed.", ""]
    if "classes" in figures:
        lines += _classes(figures)
    if "anomalies" in figures:
        lines += ["| anomaly | windows | found |", "| --- | --- | --- |"]
        lines += [
            f"| {name} | {one['windows']} | {one['found']:.1%} |" for name, one in figures["anomalies"].items()
        ]
        lines.append("")
    return lines + _recordings(figures["recordings"])


def _classes(figures: dict[str, Any]) -> list[str]:
    lines = ["| class | windows | precision | recall | F1 |", "| --- | --- | --- | --- | --- |"]
    lines += [
        f"| {label} | {one['count']} | {one['precision']:.3f} | {one['recall']:.3f} | {one['f1']:.3f} |"
        for label, one in figures["classes"].items()
    ]
    return [*lines, "", *confusion.table(list(figures["classes"]), figures["confusion"])]


SHOWN = 30


def _recordings(found: list[dict[str, Any]]) -> list[str]:
    """Return a table of the recordings, the worst first."""
    name = next(key for key in ("accuracy", "mae", "false_alarms") if key in found[0])
    worst = sorted(found, key=lambda one: one[name] if name == "accuracy" else -one[name])
    lines = [f"| recording | windows | {name.replace('_', ' ')} |", "| --- | --- | --- |"]
    lines += [f"| {one['file']} | {one['windows']} | {one[name]:.3f} |" for one in worst[:SHOWN]]
    if len(found) > SHOWN:
        lines += ["", f"The worst {SHOWN} of {len(found)} recordings. `train.json` has all."]
    return [*lines, ""]


def plot(path: Path, report: dict[str, Any]) -> None:
    """Draw the confusion matrix, or the errors by recording, and the learning curve."""
    panels = 2 if report["curve"] else 1
    figure = need("matplotlib.figure").Figure(figsize=(5.5 * panels, 4.5), layout="constrained")
    axes = figure.subplots(1, panels, squeeze=False)[0]
    figures = report["test" if "test" in report else "held_out"]
    if "confusion" in figures:
        title = "Windows that the model did not learn from"
        confusion.draw(axes[0], report["labels"], figures["confusion"], "the model", title)
    else:
        _draw_recordings(axes[0], figures["recordings"])
    if panels == 2:
        _draw_curve(axes[1], report["curve"], report["labels"])
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _draw_recordings(axes: Any, found: list[dict[str, Any]]) -> None:
    name = "mae" if "mae" in found[0] else "false_alarms"
    shown = sorted(found, key=lambda one: -one[name])[:SHOWN]
    axes.barh([one["file"] for one in shown], [one[name] for one in shown])
    axes.tick_params(axis="y", labelsize=6)
    axes.invert_yaxis()
    axes.set(xlabel="mean absolute error" if name == "mae" else "false alarms", title="By recording")
    axes.grid(alpha=0.3, axis="x")


def _draw_curve(axes: Any, points: list[dict[str, Any]], labels: list[str]) -> None:
    shares = [100 * one["share"] for one in points]
    axes.plot(shares, [one["score"] for one in points], "o-", color="black", label="score")
    for label in labels:
        axes.plot(shares, [one["recall"].get(label, 0.0) for one in points], ".--", alpha=0.7, label=label)
    axes.set(xlabel="share of the data, %", ylabel="on windows that it did not learn from", title="Learning curve")
    axes.set_xticks(shares)
    axes.legend(loc="lower right", fontsize=8)
    axes.grid(alpha=0.3)

"""The page docs/explanation/what-converts.md: a table that a run writes, between words that people write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from real_models.entry import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from real_models.entry import Entry

PAGE = ROOT / "docs/explanation/what-converts.md"
BEGIN, END = "<!-- table: real models -->\n", "<!-- end of table: real models -->\n"


def write(entries: Mapping[str, Entry], rows: Mapping[str, dict[str, Any]]) -> None:
    """Put the tables of all models that were tried into the page."""
    head, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    _, tail = rest.split(END)
    parts = [_converted(entries, rows), _refused(rows), _others(rows), _sources(entries, rows)]
    PAGE.write_text(f"{head}{BEGIN}{''.join(parts)}{END}{tail}", encoding="utf-8")


def _converted(entries: Mapping[str, Entry], rows: Mapping[str, dict[str, Any]]) -> str:
    lines = [
        "| model | from | seconds | float error | int8 loss | accuracy | int8 size | bundle |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in rows.items():
        if not row["converted"]:
            continue
        accuracy = "" if row["accuracy"] is None else f"{row['accuracy']:.1%}, {-100 * row['lost']:+.1f} points"
        way = f"{row['format']}{', ' + row['way'] if row['way'] else ''}"
        lines.append(
            f"| {name}: {entries[name].what} | {way} | {row['seconds']:.0f} | {row['float_error']:.1g} "
            f"| {_number(row['int8_loss'], '.2g')} | {accuracy} | {_number(row['size_ratio'], '.2f')} "
            f"| {'yes' if row['bundle'] else 'no'} |"
        )
    count = sum(row["converted"] for row in rows.values())
    return f"{count} of {len(rows)} models convert:\n\n" + "\n".join(lines) + "\n"


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _refused(rows: Mapping[str, dict[str, Any]]) -> str:
    lines = [
        f"* {name} ({row['format']}), after {row['seconds']:.0f} s: `{_plain(row['said'])}`"
        for name, row in rows.items()
        if not row["converted"]
    ]
    return "\nNot converted, and what `limpet-convert` says:\n\n" + "\n".join(lines) + "\n" if lines else ""


def _others(rows: Mapping[str, dict[str, Any]]) -> str:
    """Return what ``mixed``, Core ML and the bundle came to."""
    lines = []
    for name, row in rows.items():
        if mixed := row.get("mixed"):
            made = mixed["int8_loss"] is not None
            mixed["said"] = mixed["said"] or "no figures"
            what = (
                f"loss {mixed['int8_loss']:.2g}, size {mixed['size_ratio']:.2f}" if made else _plain(mixed["said"])
            )
            lines.append(f"* {name}, `mixed`, {mixed['seconds']:.0f} s: {what}")
        if coreml := row.get("coreml"):
            what = f"error {coreml['error']:.1g}" if coreml["error"] is not None else _plain(coreml["said"])
            lines.append(f"* {name}, Core ML in float16, {coreml['seconds']:.0f} s: {what}")
        if row["converted"] and not row["bundle"] and row["said"]:
            lines.append(f"* {name}, no bundle: `{_plain(row['said'])}`")
    return "\nWhat else was tried, and why there is no bundle:\n\n" + "\n".join(lines) + "\n" if lines else ""


def _sources(entries: Mapping[str, Entry], rows: Mapping[str, dict[str, Any]]) -> str:
    lines = ["| model | package | licence | weights | data |", "| --- | --- | --- | --- | --- |"]
    for name in rows:
        one = entries[name]
        lines.append(f"| {name} | {one.package} | {one.licence} | {one.weights} | {one.data} |")
    return "\nWhere they come from:\n\n" + "\n".join(lines) + "\n"


def _plain(said: str) -> str:
    """Return what was said without folders of this machine, and without what a table cannot have."""
    text = said.replace(f"{ROOT}/build/real-models/", "").replace(f"{ROOT}/", "")
    return text.replace("No bundle was written: ", "").replace("`", "'").replace("\n", " ")

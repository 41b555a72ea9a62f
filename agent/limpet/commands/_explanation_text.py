"""An explanation as lines of text: bars, or a heat map of characters."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from limpet.contracts.explanation import Change, Explanation, Importance

WIDTH = 24
"""Characters of the longest bar."""
MOST_BARS = 32
_MOST_NAMED = 6
_SHADES = " ░▒▓█"
_METHODS = {"shapley": "Shapley values", "occlusion": "Occlusion", "rise": "RISE"}
_HIDDEN = {
    "typical": "the typical value of their channel",
    "mean": "the mean of their channel in this window",
    "zero": "0",
}


def lines(where: str, found: Explanation) -> Iterator[str]:
    """Yield the lines. ``where``: which window it is."""
    yield f"{where}: {found.label} {_number(found.value)}; with all {found.by} hidden {_number(found.hidden)}"
    if len(found.shape) == 2:
        yield from _map(found)
    else:
        yield from _bars(found.parts)
    how = "exact" if found.exact else "sampled"
    hidden = "no amplitude" if found.by == "bands" else _HIDDEN[found.baseline]
    yield f"{_METHODS[found.method]}, {how}, of {found.invokes} invokes. Hidden parts have {hidden}."
    if found.changes is not None:
        yield from _changes(found.changes, found.answer)
    yield from found.notes


def _bars(parts: Sequence[Importance]) -> Iterator[str]:
    """Yield a bar for each part, the most important first."""
    ranked = sorted(parts, key=lambda part: -abs(part.value))
    largest = abs(ranked[0].value) or 1.0
    width = max(len(part.name) for part in ranked[:MOST_BARS])
    for part in ranked[:MOST_BARS]:
        error = "" if part.error is None else f" ± {_number(part.error)}"
        bar = "█" * round(abs(part.value) / largest * WIDTH)
        yield f"  {part.name:<{width}}  {_number(part.value) + error:<16}  {bar}".rstrip()
    if len(ranked) > MOST_BARS:
        yield f"  and {len(ranked) - MOST_BARS} more of at most {_number(abs(ranked[MOST_BARS].value))}"


def _map(found: Explanation) -> Iterator[str]:
    """Yield a row of shades for each row of parts: darker is more important, ``-`` speaks against the answer."""
    rows, columns = found.shape
    largest = max(abs(part.value) for part in found.parts) or 1.0
    wide = 2 if found.by == "pixels" else 1
    names = [found.parts[row * columns].name.rpartition(", ")[0] for row in range(rows)]
    width = max(map(len, names))
    for row in range(rows):
        cells = found.parts[row * columns : (row + 1) * columns]
        shades = "".join(_shade(part.value / largest) * wide for part in cells)
        yield f"  {names[row]:<{width}}  |{shades}|"
    best = max(found.parts, key=lambda part: part.value)
    yield f"  most: {best.name}  {_number(best.value)}"


def _shade(share: float) -> str:
    if share < -1 / len(_SHADES):
        return "-"
    return _SHADES[min(len(_SHADES) - 1, int(max(share, 0.0) * len(_SHADES)))]


def _changes(changes: Sequence[Change], answer: str | None) -> Iterator[str]:
    if not changes:
        yield f"No small change gives another answer than {answer or 'none'}."
    for number, change in enumerate(changes):
        which = "Or" if number else "Smallest change"
        yield f"{which}: {_change(change)} gives {change.answer or 'no answer'}."


def _change(change: Change) -> str:
    parts = ", ".join(change.parts[:_MOST_NAMED])
    if len(change.parts) > _MOST_NAMED:
        parts += f" and {len(change.parts) - _MOST_NAMED} more ({change.size:.0%})"
    if change.kind == "shift":
        spreads = "" if change.spreads is None else f" ({change.spreads:+.2g} standard deviations)"
        return f"{parts} {change.size:+.4g}{spreads}"
    if change.kind == "gain":
        return f"{parts} with {change.size:.3g} times its swing"
    return f"hiding {parts}"


def _number(value: float) -> str:
    return f"{value:.3g}"

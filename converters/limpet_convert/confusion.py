"""A confusion matrix as a table and as a picture. Rows are what windows are, columns what a model says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_CELLS = 16
"""Classes of a matrix whose cells have numbers in the picture."""


def table(labels: Sequence[str], counts: Sequence[Sequence[int]]) -> list[str]:
    """Return a Markdown table of how many windows of each class were taken for each class."""
    return [
        "How many windows of each class (rows) were taken for each class (columns):",
        "",
        f"| | {' | '.join(labels)} |",
        "| --- " * (len(labels) + 1) + "|",
        *(f"| **{label}** | {' | '.join(map(str, row))} |" for label, row in zip(labels, counts, strict=True)),
        "",
    ]


def draw(axes: Any, labels: Sequence[str], counts: Sequence[Sequence[int]], who: str, title: str) -> None:
    """Draw it, coloured by the share of each class. ``who``: what gives the answers."""
    totals = [max(1, sum(row)) for row in counts]
    shares = [[count / total for count in row] for row, total in zip(counts, totals, strict=True)]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for y, row in enumerate(counts if len(labels) <= MOST_CELLS else []):
        for x, count in enumerate(row):
            colour = "white" if shares[y][x] > 0.5 else "black"
            axes.text(x, y, str(count), ha="center", va="center", color=colour)
    axes.set_xticks(range(len(labels)), labels, rotation=45, ha="right", fontsize=8)
    axes.set_yticks(range(len(labels)), labels, fontsize=8)
    axes.set(xlabel=f"what {who} says", ylabel="what it is", title=title)

"""An explanation as an SVG picture: bars, or a heat map. A heat map of pixels is over the picture in grey.

The same explanation gives the same text. Blue raises the number, red lowers it.
"""

from __future__ import annotations

from base64 import b64encode
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from limpet.decoders._segmentation.encoding import png

if TYPE_CHECKING:
    from collections.abc import Iterator

    from limpet.contracts.data import Array
    from limpet.contracts.explanation import Explanation, Importance
    from limpet.explanation.explaining import Subject

WIDTH, LINE, NAMES, MARGIN = 720, 22, 190, 12
"""Pixels: of the picture, of a bar with its gap, of the names, and around all."""
MOST_BARS = 40
_FONT = 'font-family="sans-serif" font-size="13"'
_FOR, _AGAINST = "#2166ac", "#b2182b"


def svg(found: Explanation, subject: Subject) -> str:
    """Return the picture of an explanation. ``subject`` is the window."""
    if found.by == "pixels":
        height, drawn = _over_picture(found, subject)
    elif len(found.shape) == 2:
        height, drawn = _cells(found)
    else:
        height, drawn = _bars(found)
    title = f"{found.label}: {found.value:.3g}; with all {found.by} hidden {found.hidden:.3g} ({found.method})"
    size = f'width="{WIDTH}" height="{height}"'
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {WIDTH} {height}" {_FONT}>',
        f'<rect {size} fill="white"/>',
        _text(MARGIN, MARGIN + 14, title, "start", bold=True),
    ]
    return "\n".join([*head, *drawn, "</svg>"]) + "\n"


def _bars(found: Explanation) -> tuple[int, list[str]]:
    ranked = sorted(found.parts, key=lambda part: -abs(part.value))[:MOST_BARS]
    most = max((abs(part.value) + (part.error or 0.0) for part in ranked), default=0.0) or 1.0
    room = (WIDTH - NAMES - 3 * MARGIN - 70) / 2
    middle = NAMES + MARGIN + room
    drawn = [f'<line x1="{middle:.1f}" x2="{middle:.1f}" y1="40" y2="{40 + LINE * len(ranked)}" stroke="#999"/>']
    for number, part in enumerate(ranked):
        drawn += _bar(part, 40 + number * LINE, middle, room / most)
    return 40 + LINE * len(ranked) + MARGIN, drawn


def _bar(part: Importance, top: float, middle: float, scale: float) -> Iterator[str]:
    size = abs(part.value) * scale
    left = middle if part.value >= 0 else middle - size
    yield _text(NAMES, top + 15, part.name, "end")
    colour = _colour(part.value)
    yield f'<rect x="{left:.1f}" y="{top + 3}" width="{size:.1f}" height="{LINE - 6}" fill="{colour}"/>'
    if part.error:
        end, error = middle + part.value * scale, part.error * scale
        yield f'<path d="M{end - error:.1f} {top + LINE / 2}H{end + error:.1f}" stroke="black"/>'
    yield _text(WIDTH - MARGIN, top + 15, f"{part.value:.3g}", "end")


def _cells(found: Explanation) -> tuple[int, list[str]]:
    rows, columns = found.shape
    drawn = [
        _text(NAMES, 40 + row * LINE + 15, found.parts[row * columns].name.rpartition(", ")[0], "end")
        for row in range(rows)
    ]
    bottom = 40 + rows * LINE
    drawn += _heat(found, (NAMES + MARGIN, 40, WIDTH - MARGIN, bottom), 1.0)
    drawn.append(
        _text((NAMES + WIDTH) / 2, bottom + 18, "time, from the start of the window to its end", "middle")
    )
    return bottom + 30, drawn


def _over_picture(found: Explanation, subject: Subject) -> tuple[int, list[str]]:
    high, wide = subject.values.shape[1:3]
    side = WIDTH - 2 * MARGIN
    tall = round(side * high / wide)
    data = b64encode(png(_grey(subject.values[-1]))).decode()
    image = (
        f'<image x="{MARGIN}" y="40" width="{side}" height="{tall}" preserveAspectRatio="none" '
        f'href="data:image/png;base64,{data}"/>'
    )
    return 40 + tall + MARGIN, [image, *_heat(found, (MARGIN, 40, MARGIN + side, 40 + tall), 0.6)]


def _heat(found: Explanation, box: tuple[float, float, float, float], most_opaque: float) -> Iterator[str]:
    """Yield a rectangle for each part that counts. ``box``: left, top, right and bottom."""
    rows, columns = found.shape
    most = max(abs(part.value) for part in found.parts) or 1.0
    wide, high = (box[2] - box[0]) / columns, (box[3] - box[1]) / rows
    for number, part in enumerate(found.parts):
        opaque = abs(part.value) / most * most_opaque
        if opaque < 0.005:
            continue
        left, top = box[0] + number % columns * wide, box[1] + number // columns * high
        yield (
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{wide:.2f}" height="{high:.2f}" '
            f'fill="{_colour(part.value)}" fill-opacity="{opaque:.2f}"><title>{escape(part.name)}: '
            f"{part.value:.3g}</title></rect>"
        )


def _grey(picture: Array) -> Array:
    """Return a picture of any range in grey, uint8 ``(height, width)``."""
    values = picture.astype(np.float64).mean(2)
    low, high = float(values.min()), float(values.max())
    grey: Array = ((values - low) / ((high - low) or 1.0) * 255).astype(np.uint8)
    return grey


def _colour(value: float) -> str:
    return _FOR if value >= 0 else _AGAINST


def _text(x: float, y: float, text: str, anchor: str, *, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}"{weight}>{escape(text)}</text>'

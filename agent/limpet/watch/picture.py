"""A picture of a screen."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

from rich.console import Console

from limpet.errors import LimpetError

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import RenderableType


def save_svg(path: Path, width: int, title: str, *parts: RenderableType) -> None:
    """Write what a terminal would show as SVG. ``LimpetError`` if the file cannot be written."""
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True)
    for part in parts:
        console.print(part)
    svg = console.export_svg(title=title)
    # The fonts would be fetched from someone's server; any monospaced one will do.
    svg = re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.DOTALL)
    try:
        path.write_text(svg, encoding="utf-8")
    except OSError as error:
        raise LimpetError(f"{path}: {error.strerror}") from error

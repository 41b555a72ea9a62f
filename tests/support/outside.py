"""Plugins from outside the package, installed as pip would: a module and its entry point."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def install(site: Path, group: str, kind: str, text: str) -> None:
    """Install a module with this text as the plugin ``kind`` into a folder for ``PYTHONPATH``."""
    info = site / f"{kind}-1.dist-info"
    info.mkdir(parents=True)
    (site / f"{kind}.py").write_text(text)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {kind}\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[limpet.{group}]\n{kind} = {kind}\n")

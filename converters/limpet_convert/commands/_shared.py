"""What several commands share: the project argument, the way, the table of results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from limpet_convert.progress import Progress
from limpet_convert.steps import Way

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from limpet_convert.compare import Comparison
    from limpet_convert.project import Project


def add_project(parser: argparse.ArgumentParser) -> None:
    """Declare the project file and where results go."""
    parser.add_argument("project", type=Path, nargs="?", default=Path("convert.toml"), help="project file (TOML)")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where results go; by default build beside it")


def way(wanted: Project, out: Path | None) -> Way:
    """Return the project's way."""
    return Way(wanted, out or wanted.build, Progress())


def tell(comparisons: Sequence[Comparison]) -> None:
    """Print one line a variant, and what it misses."""
    for one in comparisons:
        print(
            f"{one.variant}: {one.size:,} B ({one.size_ratio:.3f} of float), {one.metric} "
            f"{one.exact[one.metric]:.4f} -> {one.converted[one.metric]:.4f}, agreement {one.agreement:.2%}"
        )
        for failure in one.failures:
            print(f"  misses: {failure}")

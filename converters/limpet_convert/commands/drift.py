"""``limpet-convert drift``: what the devices of a fleet saw together, compared with a bundle's reference."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from limpet.errors import LimpetError
from limpet.models import bundle as bundles
from limpet.models import reference as references
from limpet.untrusted import printable
from limpet_convert import fleet_drift
from limpet_convert.commands import _shared
from limpet_convert.errors import ConvertError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from limpet.contracts.reference import Reference
    from limpet.models.manifest import Manifest

HELP = "Compare what a fleet saw with a bundle's reference"
GROUP = "look"
EXAMPLES = (
    ("limpet-convert drift motion-7.limpet health.jsonl", "Add up collected health messages, and compare them."),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="The bundle that the devices run.")
    parser.add_argument(
        "files",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="Health messages of pipelines, one JSON object a line. - reads standard input.",
    )
    parser.add_argument("--pipeline", default="", metavar="NAME", help="Only pipelines of this name.")
    _shared.add_json(parser)


def main(arguments: argparse.Namespace) -> int:
    """Return 1 if a feature is far from the reference."""
    manifest, reference = _reference(arguments.bundle)
    sums = fleet_drift.add_up(_lines(arguments.files), manifest.name, manifest.version, arguments.pipeline)
    rows = fleet_drift.compare(sums, reference)
    if not rows:
        raise ConvertError(
            f"no message has sketches of {manifest.name} {manifest.version}. Messages on health/PIPELINE have them"
        )
    document = {
        "devices": len(sums.devices),
        "messages": sums.messages,
        "unreadable": sums.unreadable,
        "features": [row.as_dict() for row in rows],
        "classes": dict(fleet_drift.classes(sums, reference)),
    }
    _shared.emit(arguments, document, _table(sums, rows))
    return int(rows[0].index >= fleet_drift.LARGE)


def _reference(path: Path) -> tuple[Manifest, Reference]:
    """Read a bundle. ``ConvertError`` if it has no reference."""
    try:
        with TemporaryDirectory() as scratch:
            bundle = bundles.load(path, Path(scratch))
            if bundle.reference is None:
                raise ConvertError(f"{path} has no reference. Make it again with limpet-convert")
            return bundle.manifest, references.read(bundle.reference, bundle.manifest.name)
    except LimpetError as error:
        raise ConvertError(str(error)) from error


def _lines(files: list[Path]) -> Iterator[bytes]:
    with ExitStack() as stack:
        for path in files:
            yield from sys.stdin.buffer if str(path) == "-" else stack.enter_context(path.open("rb"))


def _table(sums: fleet_drift.Sums, rows: list[fleet_drift.Row]) -> list[str]:
    width = max(len(row.feature) for row in rows)
    lines = [f"{len(sums.devices)} devices, {sums.messages} messages"]
    if sums.unreadable:
        lines.append(f"{sums.unreadable} lines are no JSON objects, and were left out")
    lines.append(f"{'feature':{width}}  {'windows':>10}  {'PSI':>6}  {'outside':>7}  furthest device")
    for row in rows:
        far = (
            "large" if row.index >= fleet_drift.LARGE else "moderate" if row.index >= fleet_drift.MODERATE else ""
        )
        lines.append(
            f"{row.feature:{width}}  {row.windows:>10}  {row.index:6.3f}  {row.outside:7.2%}  "
            f"{printable(row.device)} {row.furthest:.3f}  {far}".rstrip()
        )
    return lines

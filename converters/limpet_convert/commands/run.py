"""``limpet-convert run``: all steps of a project file."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from limpet.errors import LimpetError
from limpet_convert import bundling, card, package, project
from limpet_convert.commands import _shared
from limpet_convert.errors import ConvertError

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

HELP = "Convert, quantize, verify and package in one go"
GROUP = "start"
EXAMPLES = (
    ("limpet-convert run", "Run all steps of convert.toml."),
    ("limpet-convert run motion/convert.toml --output build/motion", "Run another project."),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    _shared.add_project(parser)
    _shared.add_json(parser)


def main(arguments: argparse.Namespace) -> int:
    """Return 1 if the packaged variant misses a threshold. Then no bundle is written."""
    wanted = project.read(arguments.project)
    signing = bundling.signing(wanted)  # A missing key is an error before the work begins.
    conversion = _shared.conversion(wanted, arguments.output)
    before = package.set_aside(conversion.folder, wanted.bundle.name, wanted.bundle.version)
    try:
        passed = conversion.verify()
        manifest = conversion.package(signing) if passed else None
    except KeyboardInterrupt:
        print(_no_bundle("interrupted", before), file=sys.stderr)
        raise
    except LimpetError as error:
        raise ConvertError(_no_bundle(str(error), before)) from error
    misses = [failure for one in conversion.comparisons for failure in one.failures]
    bundle = conversion.folder / package.file_name(manifest) if manifest else None
    report = conversion.folder / "report.md"
    document = {
        "passed": passed,
        "misses": misses,
        "bundle": bundle,
        "report": report,
        "choice": conversion.choice,
        "variants": {one.variant: one.as_dict() for one in conversion.comparisons},
    }
    learned = card.learned_lines(conversion.learned) if conversion.learned else []
    document["learned"] = learned
    lines = [
        *_shared.comparison_lines(conversion.comparisons),
        *([conversion.choice] if conversion.choice else []),
        *_shared.faulty_layer_lines(conversion.diagnosed),
    ]
    lines += learned
    last = f"bundle: {bundle}" if bundle else _no_bundle("; ".join(misses), before)
    _shared.emit(arguments, document, [*lines, f"report: {report}", last])
    return 0 if passed else 1


def _no_bundle(why: str, before: Path | None) -> str:
    kept = f" The one of an earlier run is now {before}." if before else ""
    return f"No bundle was written: {why}.{kept}"

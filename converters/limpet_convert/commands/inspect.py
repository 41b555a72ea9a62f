"""``limpet-convert inspect``: what is in a model file or a bundle."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from limpet import manifest as manifests
from limpet_convert import facts
from limpet_convert.errors import ConvertError
from limpet_convert.quantize import left_in_float

if TYPE_CHECKING:
    import argparse

HELP = "show what is in a model or a bundle"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("file", type=Path, help="a model (.tflite, .onnx, .mlpackage, .keras, .pt2) or a bundle")


def main(arguments: argparse.Namespace) -> int:
    """Print it."""
    path = arguments.file
    if not path.exists():
        raise ConvertError(f"{path}: no such file")
    print("\n".join(_bundle(path) if path.suffix == ".limpet" else _model(path)))
    return 0


def _bundle(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            manifest = manifests.parse(archive.read("manifest.json"))
    except (zipfile.BadZipFile, KeyError) as error:
        raise ConvertError(f"{path}: no bundle, or cut short: {error}") from error
    lines = [f"{manifest.name} {manifest.version}: {manifest.description or manifest.task}"]
    lines += [f"  {name}: {m.length:,} B, sha256 {m.sha256[:16]}" for name, m in manifest.members.items()]
    lines += [
        f"  variant for {v.runtime}: {v.model}, tolerance {v.tolerance.absolute:g}" for v in manifest.variants
    ]
    lines.append(f"  signed by {manifest.signature_key}" if manifest.signature_key else "  not signed")
    return lines


def _model(path: Path) -> list[str]:
    found = facts.read(path)
    held = f", {found.parameters:,} parameters in {found.parameter_bytes:,} B" if found.parameters else ""
    lines = [f"{path.name}: {found.size:,} B{held}"]
    lines += [f"  in:  {text}" for text in found.inputs] + [f"  out: {text}" for text in found.outputs]
    for name, counts in (("ops", found.ops), ("computes", found.dtypes)):
        if counts:
            lines.append(f"  {name}: " + ", ".join(f"{kind} {count}" for kind, count in counts.items()))
    if "int8" in found.dtypes and (left := left_in_float(path.read_bytes())):
        lines.append("  left in float: " + ", ".join(left))
    return lines

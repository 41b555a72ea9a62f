"""``limpet-convert inspect``: what is in a model file or a bundle."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import msgspec

from limpet.models import bundle as bundles
from limpet.models import model_kind
from limpet.models import reference as references
from limpet.trust.names import named
from limpet.wording import short_hash
from limpet_convert import bundle_signature, facts, libraries
from limpet_convert.commands import _shared
from limpet_convert.converters import tflite
from limpet_convert.errors import ConvertError
from limpet_convert.quantize import left_in_float

if TYPE_CHECKING:
    import argparse

    from limpet.models.model_kind import ModelKind

HELP = "Show what is in a model or a bundle"
GROUP = "look"
EXAMPLES = (
    ("limpet-convert inspect motion.onnx", "Show a model of any format."),
    ("limpet-convert inspect motion-1.limpet --root root.json", "Show a bundle, and check its signature."),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("file", type=Path, metavar="FILE", help="A bundle, or a model of any format.")
    parser.add_argument(
        "--root",
        type=Path,
        metavar="FILE",
        action="append",
        help="Root of trust. Exit status 1 if a device with it refuses the bundle. Repeat it for newer roots.",
    )
    _shared.add_json(parser)


def main(arguments: argparse.Namespace) -> int:
    """Print it. ``DeployError`` for a bundle that is not as its manifest says."""
    path = arguments.file
    if not path.exists():
        raise ConvertError(f"{path}: no such file")
    kind = model_kind.of(path)
    if arguments.root and kind is not model_kind.BUNDLE:
        raise ConvertError(f"{path}: only a bundle is signed; this is {kind.words}. Leave out --root")
    with TemporaryDirectory() as folder:
        if kind is model_kind.BUNDLE:
            document, lines = _bundle(model_kind.by_content(path, kind, Path(folder)), arguments.root)
        else:
            document, lines = _model(path, kind)
    _shared.emit(arguments, document, lines)
    return 0


def _bundle(path: Path, roots: list[Path] | None) -> tuple[object, list[str]]:
    with TemporaryDirectory() as cache:
        bundle = bundles.load(path, Path(cache))
        manifest = bundle.manifest
        reference = references.read(bundle.reference, manifest.name) if bundle.reference else None
    with zipfile.ZipFile(path) as archive:
        for name, member in manifest.members.items():  # What no device reads, too: the model card.
            if hashlib.sha256(archive.read(name)).hexdigest() != member.sha256:
                raise ConvertError(f"{path}: member {name!r} is not what {bundles.MANIFEST} says; it was changed")
        there = archive.read(bundles.SIGNATURE) if bundles.SIGNATURE in archive.namelist() else None
    signed = _signed(path, there, roots)
    lines = [f"{manifest.name} {manifest.version}: {manifest.description or manifest.task}"]
    lines += [f"  {name}: {m.length:,} B, sha256 {m.sha256[:16]}" for name, m in manifest.members.items()]
    lines += [
        f"  variant for {v.runtime}: {v.model}, tolerance {v.tolerance.absolute:g}" for v in manifest.variants
    ]
    if reference:
        monitors = ", ".join(sorted(reference.thresholds)) or "none"
        lines.append(f"  reference: {reference.windows:,} windows, monitors: {monitors}")
    return msgspec.to_builtins(manifest) | {"signed": signed}, [*lines, f"  {signed}"]


def _signed(path: Path, signature: bytes | None, roots: list[Path] | None) -> str:
    """Return who signed it. ``ConvertError`` if it is not signed as the roots demand."""
    if roots:
        return (
            f"signed by {', '.join(map(short_hash, bundle_signature.proven(path, roots)))}, as {roots[-1]} demands"
        )
    if signature is None:
        return "not signed"
    keys = ", ".join(map(short_hash, named(signature))) or "a key that cannot be read"
    return f"says that {keys} signed it; --root FILE proves it"


def _model(path: Path, kind: ModelKind) -> tuple[object, list[str]]:
    found = facts.read(path)
    held = f", {found.parameters:,} parameters in {found.parameter_bytes:,} B" if found.parameters else ""
    lines = [f"{path.name}: {kind.words}, {found.size:,} B{held}"]
    lines += [f"  in:  {text}" for text in found.inputs] + [f"  out: {text}" for text in found.outputs]
    for name, counts in (("ops", found.ops), ("computes", found.dtypes)):
        if counts:
            lines.append(f"  {name}: " + ", ".join(f"{kind} {count}" for kind, count in counts.items()))
    if kind is model_kind.TFLITE and (missing := tflite.missing_ops(path)):
        lines.append(f"  not in the runtime: {', '.join(missing)}")
    if kind is model_kind.TFLITE and "int8" in found.dtypes and (left := left_in_float(path.read_bytes())):
        lines.append("  left in float: " + ", ".join(left))
    return {"kind": kind.words, **asdict(found)}, [libraries.shown(line) for line in lines]

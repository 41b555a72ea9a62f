"""``limpet-convert package``: a bundle of a project's model, or of a ready-made ``.tflite`` file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from limpet import option_values
from limpet.errors import ConfigError
from limpet_convert import bundle_signature, bundling, package, project, ready, sign
from limpet_convert.bundle_signature import Signing
from limpet_convert.commands import _shared

if TYPE_CHECKING:
    import argparse

    from limpet.models.manifest import Manifest

HELP = "Write a bundle of a project's model or of a .tflite file"
GROUP = "steps"
EXAMPLES = (
    ("limpet-convert package", "Write the bundle of convert.toml."),
    (
        "limpet-convert package motion.tflite --window 100 --channels ax,ay,az --labels labels.txt",
        "Write a bundle of a .tflite model, without a project.",
    ),
)

_TEXTS = ("name", "task", "description", "licence", "unit", "purpose", "limits")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    _shared.add_project(
        parser,
        "Project file, or a .tflite model (float, int8 or uint8). Default: convert.toml.",
    )
    group = parser.add_argument_group("for a .tflite model, what its file does not say")
    add = group.add_argument
    add("--name", help="Name of the bundle. Default: the file's name.")
    add("--version", type=int, metavar="N", help="Version of the bundle. Default: 1.")
    add(
        "--labels",
        metavar="FILE",
        help="One label a line, in the order of the outputs, with or without its number. Default: the model's.",
    )
    add("--window", metavar="LENGTH", help="Samples (128) or time (2s, 500ms) of a window. Default: 1 sample.")
    add(
        "--hop",
        metavar="LENGTH",
        help="From the start of a window to the next, such as 64 or 500ms. Default: a whole window.",
    )
    add("--channels", metavar="A,B", help="Channels of the source that the model takes, in this order.")
    add(
        "--inputs",
        metavar="TOML",
        help="""Channels of each of several inputs: '{ x = ["ax"], h = { state = "h_out" } }'.""",
    )
    add("--rate", type=float, metavar="HZ", help="Samples a second that the model is made for.")
    add("--unit", help="Unit of the samples.")
    add(
        "--transforms",
        metavar="TOML",
        help="""Transforms, such as '[{kind = "normalise", mean = 0.5, std = 2}]', or []. Default: the file's.""",
    )
    add(
        "--decoder",
        metavar="TOML",
        help="""Decoder: classify, or '{kind = "detect"}'. Default: chosen by the labels.""",
    )
    add("--stateful", choices=["true", "false"], help="Whether the model's state lasts from window to window.")
    add(
        "--samples",
        metavar="FILE",
        action="append",
        help="Recording or .npy of windows, for golden vectors. Can be repeated.",
    )
    add("--golden", type=int, metavar="N", help="Number of golden vectors. Default: 8.")
    add("--task", help="Task in the model card: classify, detect, regress or anomaly. Default: the decoder's.")
    for name in ("description", "licence", "purpose", "limits"):
        add(f"--{name}", metavar="TEXT", help=f"{name.capitalize()} in the model card.")
    add(
        "--sign",
        metavar="KEY",
        action="append",
        help="Private key of `limpet-convert keygen`, or agent:COMMENT for your ssh-agent's. Can be repeated.",
    )
    add("--expires", metavar="DATE", help="Last day, such as 2030-01-01, to install it. Default: in two years.")
    _shared.add_json(parser)


def main(arguments: argparse.Namespace) -> int:
    """Write the bundle, whatever the figures are. ``run`` writes it only if the model passes."""
    options = {key: value for key, value in vars(arguments).items() if key in _OPTIONS and value is not None}
    if arguments.project.suffix == ".tflite":
        manifest, path, signing = _ready(arguments, options)
    elif options:
        raise ConfigError([f"--{min(options)}: is for a .tflite model; a project file says it in [bundle]"])
    else:
        manifest, path, signing = _of_project(arguments)
    golden = manifest.provenance.get("golden", "")
    keys = [sign.key_id(one.public) for one in signing.signers] if signing else []
    found = {"bundle": path, "golden vectors": golden, "signed by": ", ".join(keys)}
    lines = [f"{name}: {value}" for name, value in found.items() if value]
    _shared.emit(arguments, {"bundle": path, "golden": golden, "signed_by": keys}, lines)
    return 0


_OPTIONS = {
    *_TEXTS,
    *("version", "labels", "window", "hop", "channels", "inputs", "rate", "transforms", "decoder", "stateful"),
    *("samples", "golden", "sign", "expires"),
}


def _of_project(arguments: argparse.Namespace) -> tuple[Manifest, Path, Signing | None]:
    wanted = project.read(arguments.project)
    signing = bundling.signing(wanted)
    conversion = _shared.conversion(wanted, arguments.output)
    conversion.variant(wanted.bundle.variant)
    manifest = conversion.package(signing)
    return manifest, conversion.folder / package.file_name(manifest), signing


def _ready(arguments: argparse.Namespace, options: dict[str, Any]) -> tuple[Manifest, Path, Signing | None]:
    table = {key: value for key, value in options.items() if key not in {"window", "hop", "sign", "expires"}}
    if window := option_values.window(options.get("window"), options.get("hop")):
        table["window"] = window
    if "channels" in table:
        table["channels"] = [name.strip() for name in table["channels"].split(",")]
    for key in table.keys() & {"transforms", "inputs"}:
        table[key] = option_values.toml(table[key], f"--{key}")
    if "decoder" in table:
        table["decoder"] = option_values.decoder(table["decoder"])
    if "stateful" in table:
        table["stateful"] = table["stateful"] == "true"
    wanted: ready.Wanted = option_values.filled(ready.Wanted, table)
    signers = tuple(map(sign.signer, options.get("sign", ())))
    signing = Signing(signers, bundle_signature.expiry(options.get("expires"))) if signers else None
    return *ready.bundle(arguments.project, wanted, arguments.output or Path(), signing), signing

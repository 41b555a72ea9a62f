"""``limpet-convert desired``: a request to devices to run a bundle, signed or not, ready for an MQTT client."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from limpet import option_values
from limpet.contracts.updates import BundleSource, DesiredModel, UpdatePolicy, UpdateWindow
from limpet.models import bundle as bundles
from limpet_convert import bundle_signature, sign
from limpet_convert.commands import _shared
from limpet_convert.errors import ConvertError
from limpet_convert.libraries import need

if TYPE_CHECKING:
    import argparse

HELP = "Write a request to devices to run a bundle"
GROUP = "sign"
EXAMPLES = (
    (
        "limpet-convert desired motion-8.limpet --pipeline motion --url https://models.example.com/motion-8.limpet",
        "Print a request. Publish it, retained, on limpet/DEVICE/model/motion/desired.",
    ),
    (
        "limpet-convert desired motion-8.limpet --pipeline motion --chunks 5c1f... --key ops.key",
        "Print a signed request for a bundle that is sent over MQTT.",
    ),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    add = parser.add_argument
    add("bundle", type=Path, metavar="FILE", help="Bundle.")
    add("--pipeline", required=True, metavar="NAME", help="Pipeline that is to run it.")
    add("--url", metavar="URL", action="append", default=[], help="Where the bundle is. Can be repeated.")
    add("--chunks", metavar="SHA256", help="SHA-256 of the list of chunks, if the bundle is sent over MQTT.")
    add(
        "--source",
        metavar="JSON",
        action="append",
        default=[],
        help="Source to try first, such as the entry that `limpet-convert patch` prints. Can be repeated.",
    )
    add("--device", metavar="ID", action="append", default=[], help="Devices that it is for. Default: any.")
    _shared.add_key(parser, "Operator's private key")
    add("--serial", type=int, metavar="N", help="Number that rises with each request. Default: the Unix time.")
    add("--id", metavar="NAME", default="", help="Your own name for the request.")
    add("--expires", metavar="DATE", help="Day from which on it is refused, as 2030-01-01. Default: never.")
    add("--policy", metavar="TOML", help="""How it gets to work, as '{ shadow_windows = 1000 }'.""")
    add("--window", metavar="TOML", help="""When it may get to work, as '{ begin = "02:00", end = "04:00" }'.""")
    add(
        "--allow-older",
        action="store_true",
        help="Let a version run that is older than one that was good. Needs --key.",
    )
    add("--output", type=Path, metavar="FILE", help="File to write. Default: print it.")


def main(arguments: argparse.Namespace) -> int:
    """Print or write one JSON document."""
    if arguments.allow_older and not arguments.key:
        raise ConvertError("--allow-older counts only in a signed request. Add --key")
    if not (arguments.url or arguments.chunks):
        raise ConvertError("say where the bundle is: --url URL, or --chunks SHA256 of the list of chunks")
    content = msgspec.json.encode(_request(arguments))
    payload = _sealed(content, arguments.key) if arguments.key else content
    if arguments.output:
        arguments.output.write_bytes(payload)
    else:
        sys.stdout.write(payload.decode() + "\n")
    return 0


def _request(arguments: argparse.Namespace) -> DesiredModel:
    manifest = bundles.manifest_of(arguments.bundle)
    sources: list[Any] = [_source(text) for text in arguments.source]
    sources += [{"url": url} for url in arguments.url]
    sources += [{"chunks": arguments.chunks}] if arguments.chunks else []
    fields: dict[str, Any] = {
        "model": manifest.name,
        "version": manifest.version,
        "sha256": bundles.digest(arguments.bundle),
        "length": arguments.bundle.stat().st_size,
        "sources": sources,
        "pipeline": arguments.pipeline,
        "devices": arguments.device,
        "serial": int(time.time()) if arguments.serial is None else arguments.serial,
        "id": arguments.id,
        "allow_older": arguments.allow_older,
        "policy": option_values.toml(arguments.policy, "--policy") if arguments.policy else {},
        "window": option_values.toml(arguments.window, "--window") if arguments.window else {},
    }
    if arguments.expires:
        fields["expires"] = bundle_signature.expiry(arguments.expires)
    for name, kind in (("policy", UpdatePolicy), ("window", UpdateWindow), ("sources", BundleSource)):
        known = set(kind.__struct_fields__)
        for table in fields[name] if name == "sources" else [fields[name]]:
            if unknown := set(table) - known:
                raise ConvertError(
                    f"--{name}: unknown key {min(unknown)!r}; there are: {', '.join(sorted(known))}"
                )
    try:
        return msgspec.convert(fields, DesiredModel)
    except msgspec.ValidationError as error:
        raise ConvertError(f"no device takes this request: {error}") from error


def _source(text: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise ConvertError(f"--source {text}: {error}. Write one JSON object") from error


def _sealed(content: bytes, keys: list[str]) -> bytes:
    """Return a request in a DSSE envelope that these keys sign."""
    documents = sign.documents()
    envelope = need("securesystemslib.dsse").Envelope(content, documents.REQUEST_TYPE, {})
    sign.sign(envelope.signatures, envelope.pae(), [sign.signer(key) for key in keys])
    return msgspec.json.encode(envelope.to_dict())

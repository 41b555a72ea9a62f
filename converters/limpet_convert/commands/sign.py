"""``limpet-convert sign``: sign a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from limpet.wording import short_hash
from limpet_convert import bundle_signature, sign
from limpet_convert.commands import _shared

if TYPE_CHECKING:
    import argparse

HELP = "Sign a bundle"
GROUP = "sign"
EXAMPLES = (
    ("limpet-convert sign motion-8.limpet --key release.key", "Sign a bundle for two years."),
    ("limpet-convert sign motion-8.limpet --key agent:second", "Add a second signature, if two keys must sign."),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("bundle", type=Path, metavar="FILE", help="Bundle. It is changed in place.")
    _shared.add_key(parser, required=True)
    parser.add_argument(
        "--expires",
        metavar="DATE",
        help="Day from which on no device installs it, as 2030-01-01. Other signatures are removed. "
        "Default: as it is signed already, else in two years.",
    )
    _shared.add_json(parser)


def main(arguments: argparse.Namespace) -> int:
    """Print the ids of all keys that have signed."""
    signers = [sign.signer(key) for key in arguments.key]
    expires = bundle_signature.expiry(arguments.expires) if arguments.expires else None
    keys = bundle_signature.add(arguments.bundle, signers, expires)
    lines = [f"{arguments.bundle}: signed by {', '.join(map(short_hash, keys))}"]
    _shared.emit(arguments, {"bundle": arguments.bundle, "signed_by": keys}, lines)
    return 0

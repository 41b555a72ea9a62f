"""``limpet-convert keygen``: a key to sign bundles with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from limpet_convert import sign

if TYPE_CHECKING:
    import argparse

HELP = "Make an Ed25519 key to sign bundles with"
GROUP = "sign"
EXAMPLES = (("limpet-convert keygen release.key", "Write release.key (secret) and release.pub."),)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument(
        "key",
        type=Path,
        metavar="KEY",
        help="File for the private key. The public key is written beside it, as .pub.",
    )


def main(arguments: argparse.Namespace) -> int:
    """Print the key's id, which manifests name."""
    print(f"{sign.keygen(arguments.key)}: {arguments.key} is secret, {sign.public_path(arguments.key)} is not")
    return 0

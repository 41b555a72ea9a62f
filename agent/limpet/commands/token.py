"""``limpet token``: a token for a client of the local API."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from limpet.contracts.fields import NAME_RULE
from limpet.errors import UsageError
from limpet.gateway.access import tokens

if TYPE_CHECKING:
    import argparse

HELP = "Make a token for clients of the local API"
GROUP = "service"
EXAMPLES = (
    (
        "limpet token anna >> api-tokens",
        "Print a new token once, and add its hash to the file that `token_file` in [api] names.",
    ),
)

_NEXT = (
    "Limpet cannot print it again: it keeps only the hash, in the file that `token_file` in [api] names. "
    "When the file has changed, run: systemctl reload limpet. Or start `limpet run` again."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("name", metavar="NAME", help="Whose token it is, for the audit journal.")


def main(arguments: argparse.Namespace) -> int:
    """Print the line for the file on the standard output, and the token on the standard error."""
    if not tokens.NAME.fullmatch(arguments.name):
        raise UsageError(f'"{arguments.name}": use {NAME_RULE}')
    secret, token = tokens.new(arguments.name)
    print(f"{token.name} {token.sha256}", flush=True)
    print(f"Token of {token.name}: {secret}\n{_NEXT}", file=sys.stderr)
    if sys.stdout.isatty():
        print(f"Append the first line to that file, or run: limpet token {token.name} >> FILE", file=sys.stderr)
    return 0

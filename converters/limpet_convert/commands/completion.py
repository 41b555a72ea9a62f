"""``limpet-convert completion``: a script that completes its commands and options in a shell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limpet import completion
from limpet_convert import commands

if TYPE_CHECKING:
    import argparse

HELP = "Print the script that completes commands in bash, zsh or fish"
GROUP = "service"
EXAMPLES = (
    ("limpet-convert completion bash > ~/.local/share/bash-completion/completions/limpet-convert", "For bash."),
    (
        "limpet-convert completion zsh > ~/.zfunc/_limpet-convert",
        "For zsh, with fpath+=~/.zfunc before compinit.",
    ),
    ("limpet-convert completion fish > ~/.config/fish/completions/limpet-convert.fish", "For fish."),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("shell", metavar="SHELL", choices=completion.SHELLS, help="bash, zsh or fish.")


def main(arguments: argparse.Namespace) -> int:
    """Print the script."""
    print(completion.script(commands, arguments.shell))
    return 0

"""``limpet-convert completion``: a script that completes its commands and options in a shell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limpet import completion
from limpet_convert import commands

if TYPE_CHECKING:
    import argparse

HELP = "Print a script for tab completion in bash, zsh or fish"
GROUP = "service"
EXAMPLES = (
    (
        "limpet-convert completion bash > ~/.local/share/bash-completion/completions/limpet-convert",
        "Complete in bash, from the next shell on.",
    ),
    (
        "limpet-convert completion zsh > ~/.zfunc/_limpet-convert",
        "Complete in zsh, with fpath+=~/.zfunc before compinit in ~/.zshrc.",
    ),
    ("limpet-convert completion fish > ~/.config/fish/completions/limpet-convert.fish", "Complete in fish."),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("shell", metavar="SHELL", choices=completion.SHELLS, help="bash, zsh or fish.")


def main(arguments: argparse.Namespace) -> int:
    """Print the script."""
    print(completion.script(commands, arguments.shell))
    return 0

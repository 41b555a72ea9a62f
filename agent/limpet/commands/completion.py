"""``limpet completion``: a script that completes its commands and options in a shell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limpet import commands, completion

if TYPE_CHECKING:
    import argparse

HELP = "Print a script for tab completion in bash, zsh or fish"
GROUP = "service"
EXAMPLES = (
    (
        "limpet completion bash > ~/.local/share/bash-completion/completions/limpet",
        "Complete in bash, from the next shell on.",
    ),
    (
        "limpet completion zsh > ~/.zfunc/_limpet",
        "Complete in zsh, with fpath+=~/.zfunc before compinit in ~/.zshrc.",
    ),
    ("limpet completion fish > ~/.config/fish/completions/limpet.fish", "Complete in fish."),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("shell", metavar="SHELL", choices=completion.SHELLS, help="bash, zsh or fish.")


def main(arguments: argparse.Namespace) -> int:
    """Print the script."""
    print(completion.script(commands, arguments.shell))
    return 0

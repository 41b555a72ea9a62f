"""Write what is made from the parsers of ``limpet`` and ``limpet-convert``: ``python tools/help.py``.

These are ``tests/data/help/PROGRAM-COMMAND.txt``, the text of each ``--help``, and the part of
``docs/reference/commands.md`` below its marker. Run it after a change to a command.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import limpet.commands
import limpet_convert.commands
from limpet import command_parser

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
HELP = ROOT / "tests" / "data" / "help"
PAGE = ROOT / "docs" / "reference" / "commands.md"
MARKER = "<!-- Below: made by tools/help.py. -->\n"
PROGRAMS: list[Any] = [limpet.commands, limpet_convert.commands]


def texts() -> dict[str, str]:
    """Return the help texts as they are in a terminal with 80 columns, by file name."""
    os.environ["COLUMNS"] = "80"
    found = {}
    for program in PROGRAMS:
        found[f"{program.PROGRAM}.txt"] = command_parser.overview(program)
        for name in command_parser.modules(program):
            parser = command_parser.of_command(program, name)
            found[f"{program.PROGRAM}-{name}.txt"] = parser.format_help()
            for below in command_parser.below(parser):
                found[f"{below.prog.replace(' ', '-')}.txt"] = below.format_help()
    return found


def page() -> str:
    """Return the page of all commands."""
    head = PAGE.read_text(encoding="utf-8").partition(MARKER)[0]
    return head + MARKER + "\n".join(line for program in PROGRAMS for line in _program(program))


def _program(program: Any) -> Iterator[str]:
    found = command_parser.modules(program)
    yield from ("", f"## {program.PROGRAM}", "", program.DESCRIPTION, "")
    yield from ("| | command | what it does |", "| --- | --- | --- |")
    for group, title in program.GROUPS.items():
        members = [name for name, module in found.items() if group == module.GROUP]
        for name in members:
            link = f"[`{program.PROGRAM} {name}`](#{program.PROGRAM}-{name})"
            yield f"| {title if name == members[0] else ''} | {link} | {found[name].HELP} |"
    for name, module in found.items():
        parser = command_parser.of_command(program, name)
        yield from _command(parser)
        for below in command_parser.below(parser):
            yield from _command(below)
        yield from ("", "```sh")
        for number, (command, what) in enumerate(module.EXAMPLES):
            yield from ([""] if number else [])
            yield from (f"# {what}", command)
        yield "```"
    yield ""


def _command(parser: argparse.ArgumentParser) -> Iterator[str]:
    yield from ("", f"### {parser.prog}", "", parser.description or "", "", "```text")
    usage = parser.format_usage().removeprefix("Usage: ").replace("\n       ", "\n").rstrip()
    yield from (usage, "```", "")
    arguments = [one for one in command_parser.own_actions(parser) if "--help" not in one.option_strings]
    yield from (("| argument | meaning |", "| --- | --- |") if arguments else ())
    for action in arguments:
        shown = ", ".join(action.option_strings)
        value = _value(action)
        text = (action.help or "").replace("|", "\\|")
        yield f"| `{f'{shown} {value}'.strip()}` | {text} |".replace("|NAME", "\\|NAME")


def _value(action: argparse.Action) -> str:
    """Return the name of an argument's value, empty for a flag."""
    if action.nargs == 0:
        return ""
    if isinstance(action.metavar, tuple):
        return " ".join(action.metavar)
    choices = f"{{{','.join(map(str, action.choices))}}}" if action.choices else ""
    default = action.dest.upper() if action.option_strings else action.dest
    return action.metavar or choices or default


def main() -> None:
    """Write the files, and delete those of commands that are no more."""
    HELP.mkdir(exist_ok=True)
    wanted = texts()
    for path in HELP.glob("*.txt"):
        if path.name not in wanted:
            path.unlink()
    for name, text in wanted.items():
        (HELP / name).write_text(text, encoding="utf-8")
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()

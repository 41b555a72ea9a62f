"""The parsers of ``PROGRAM COMMAND ...``, made from a package whose modules are the commands.

The package has ``PROGRAM`` and ``DESCRIPTION`` (one or two sentences). ``GROUPS`` has the titles of the groups, in
the order in which ``PROGRAM --help`` lists them. ``ORDER`` has the commands that come first in their group, in
that order. Each of its public modules is a command:

* ``HELP``: one line of at most 72 characters, with a capital first and no full stop.
* ``GROUP``: a key of ``GROUPS``, or ``internal`` for a command that is not listed.
* ``EXAMPLES``: pairs of a command line and one sentence that says what it does.
* ``add_arguments(parser)``: declares the arguments. A file argument has ``type=Path`` or a metavar with FILE in
  it. A folder argument has a metavar with FOLDER in it. A shell completes both.
* ``main(arguments)``: runs the command and returns the exit status.
"""

from __future__ import annotations

import argparse
import importlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from limpet.errors import UsageError
from limpet.module_names import module_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

INTERNAL = "internal"
_WIDEST = 100
"""Columns of a help text, in a wider terminal too."""
_CHOICE = re.compile(
    r"(?s)(?:argument (?P<name>.*?): )?invalid choice: (?P<value>.*) \(choose from (?P<choices>.*)\)"
)
_TYPE = re.compile(r"(?s)argument (?P<name>.*?): invalid (?P<type>\w+) value: (?P<value>.*)")
_TYPES = {"float": "a number", "int": "a whole number"}


class Parser(argparse.ArgumentParser):
    """Raises ``UsageError`` where ``argparse`` prints its usage and exits."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("formatter_class", _Formatter)
        super().__init__(add_help=False, allow_abbrev=False, **options)
        self.add_argument("-h", "--help", action="help", help="Show this help.")

    def format_usage(self) -> str:
        """Return one line: the arguments by name, the options as one word."""
        self.usage = self.usage or _usage(self)
        return super().format_usage()

    def format_help(self) -> str:
        """Return the text of ``--help``."""
        self.usage = self.usage or _usage(self)
        return super().format_help()

    def print_help(self, file: Any = None) -> None:
        """Print the text of ``--help``. ``BrokenPipeError`` if no program reads it: argparse would ignore that."""
        print(self.format_help(), end="", file=file, flush=True)

    def error(self, message: str) -> NoReturn:
        """Raise ``UsageError``, with the name that the user probably meant."""
        options = {option for action in actions(self) for option in action.option_strings}
        raise UsageError(f"{self.prog}: {_explained(message, options)} Run: {self.prog} --help")


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Headings with a capital, lines that are not too long to read."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog)
        self._width = min(self._width, _WIDEST)

    def add_usage(self, usage: Any, actions: Any, groups: Any, prefix: str | None = None) -> None:
        """Add the usage."""
        super().add_usage(usage, actions, groups, "Usage: " if prefix is None else prefix)

    def start_section(self, heading: str | None) -> None:
        """Begin a section of the help."""
        heading = {"positional arguments": "arguments"}.get(heading or "", heading)
        super().start_section(heading and heading[:1].upper() + heading[1:])


def modules(commands: Any) -> dict[str, Any]:
    """Import all commands, and return them by name."""
    return {name: importlib.import_module(f"{commands.__name__}.{name}") for name in _names(commands)}


def _names(commands: Any) -> list[str]:
    names = module_names(commands)
    return list(dict.fromkeys([*(name for name in commands.ORDER if name in names), *names]))


def of_command(commands: Any, name: str) -> Parser:
    """Return the parser of one command. No other one is imported, so that each starts fast."""
    module: Any = importlib.import_module(f"{commands.__name__}.{name}")
    parser = Parser(prog=f"{commands.PROGRAM} {name}", description=f"{module.HELP}.", epilog=_examples(module))
    module.add_arguments(parser)
    parser.set_defaults(main=module.main)
    return parser


def whole(commands: Any) -> Parser:
    """Return a parser with every listed command, for completion and manual pages."""
    parser = Parser(prog=commands.PROGRAM, description=commands.DESCRIPTION)
    parser.add_argument("--version", action="store_true", help="Show the version.")
    subparsers = parser.add_subparsers(metavar="COMMAND")
    for name, module in modules(commands).items():
        if module.GROUP != INTERNAL:
            text = f"{module.HELP}."
            module.add_arguments(
                subparsers.add_parser(name, help=text, description=text, epilog=_examples(module))
            )
    return parser


def overview(commands: Any) -> str:
    """Return what ``PROGRAM --help`` prints: the commands by group."""
    read = {name: _line(commands, name) for name in _names(commands)}
    found = {name: line for name, line in read.items() if line.group != INTERNAL}
    width = max(map(len, [*found, "-h, --help"])) + 2
    lines = [f"Usage: {commands.PROGRAM} COMMAND ...", "", commands.DESCRIPTION]
    for group, title in commands.GROUPS.items():
        members = {name: line.help for name, line in found.items() if group == line.group}
        if members:
            lines += ["", f"{title}:", *(f"  {name:{width}}{what}" for name, what in members.items())]
    options = {"-h, --help": "Show this help.", "--version": "Show the version."}
    lines += ["", "Options:", *(f"  {name:{width}}{what}" for name, what in options.items())]
    return "\n".join([*lines, "", f"Options and examples of a command: {commands.PROGRAM} COMMAND --help", ""])


class _Line(NamedTuple):
    """The description of a command in the list."""

    help: str
    group: str


def _line(commands: Any, name: str) -> _Line:
    """Read ``HELP`` and ``GROUP`` from the source of a command. Importing all would take long, and needs numpy."""
    import ast

    file = next(path for folder in commands.__path__ if (path := Path(folder, f"{name}.py")).exists())
    tree = ast.parse(file.read_text(encoding="utf-8"))
    values: dict[str, Any] = {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    return _Line(values["HELP"], values["GROUP"])


def unknown_command(commands: Any, name: str) -> UsageError:
    """Return the error for a name that is no command."""
    what = "option" if name.startswith("-") else "command"
    known = ["--help", "--version"] if what == "option" else module_names(commands)
    program = commands.PROGRAM
    return UsageError(f"{program}: no {what} {name!r}.{_meant(name, known)} Run: {program} --help")


def below(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """Return the parsers of a command's own commands."""
    return [one for commands in _sets_of_commands(parser) for one in commands.choices.values()]


def own_actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Return the arguments that a parser declares, without its commands."""
    return [action for action in _declared(parser) if action.nargs != argparse.PARSER]


def _sets_of_commands(parser: argparse.ArgumentParser) -> list[Any]:
    return [action for action in _declared(parser) if action.nargs == argparse.PARSER]


def _declared(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return parser._actions  # noqa: SLF001 - argparse has no other way to list them


def actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yield the arguments that a parser and those below it declare."""
    yield from own_actions(parser)
    for one in below(parser):
        yield from actions(one)


def _usage(parser: argparse.ArgumentParser) -> str:
    needed = [
        f"{action.option_strings[-1]} {_value(action)}"
        for action in own_actions(parser)
        if action.required and action.option_strings
    ]
    named = [_value(action) for action in own_actions(parser) if not action.option_strings]
    commands = [f"{_value(action)} ..." for action in _sets_of_commands(parser)]
    return " ".join(["%(prog)s", "[OPTIONS]", *needed, *named, *commands])


def _value(action: argparse.Action) -> str:
    name = action.metavar if isinstance(action.metavar, str) else " ".join(action.metavar or [action.dest.upper()])
    forms = {"?": f"[{name}]", "*": f"[{name} ...]", "+": f"{name} [{name} ...]"}
    return forms.get(str(action.nargs), name)


def _examples(module: Any) -> str:
    lines = [line for command, what in module.EXAMPLES for line in (f"  {command}", f"      {what}")]
    return "\n".join(["Examples:", *lines])


def _explained(message: str, options: Iterable[str]) -> str:
    """Put a message of argparse into the same words for every Python."""
    if rest := _after(message, "unrecognized arguments: "):
        words = rest.split(" ")
        option = next((word.partition("=")[0] for word in words if word.startswith("-")), "")
        return (
            f"no option {option!r}.{_meant(option, options)}" if option else f"unexpected argument {words[0]!r}."
        )
    if found := _CHOICE.fullmatch(message):
        choices = [choice.strip("'\"") for choice in found["choices"].split(", ")]
        value = found["value"].strip("'\"")
        where = f"{found['name']}: " if found["name"] else ""
        return f"{where}no {value!r}.{_meant(value, choices)} Choices: {', '.join(choices)}."
    if found := _TYPE.fullmatch(message):
        what = _TYPES.get(found["type"])
        return f"{found['name']}: {found['value']} {f'is not {what}' if what else 'cannot be used'}."
    if rest := _after(message, "the following arguments are required: "):
        return f"{rest}: missing."
    return f"{message.removeprefix('argument ')}."


def _after(message: str, begin: str) -> str:
    return message[len(begin) :] if message.startswith(begin) else ""


def _meant(word: str, known: Iterable[str]) -> str:
    """Return a question for the known word that is most alike, empty if none is."""
    from difflib import get_close_matches

    alike = get_close_matches(word, sorted(known), 1, 0.6)
    return f" Did you mean {alike[0]!r}?" if alike else ""

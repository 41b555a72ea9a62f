"""What every command of ``limpet`` and ``limpet-convert`` declares, and how the programs list them."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from itertools import pairwise
from typing import Any

import pytest

import limpet.commands
import limpet_convert.commands
from limpet import __version__, command_parser
from limpet.errors import UsageError

PROGRAMS: list[Any] = [limpet.commands, limpet_convert.commands]
COMMANDS = [
    pytest.param(program, name, module, id=f"{program.PROGRAM} {name}")
    for program in PROGRAMS
    for name, module in command_parser.modules(program).items()
]


def ran(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    module = program.replace("-", "_")
    return subprocess.run(
        [sys.executable, "-m", module, *arguments], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize(("program", "name", "module"), COMMANDS)
def test_a_command_declares_its_line_in_the_list(program: Any, name: str, module: Any) -> None:
    assert re.fullmatch(r"[A-Z].{8,70}[^.]", module.HELP)
    assert module.GROUP in {*program.GROUPS, command_parser.INTERNAL}
    listed = f"  {name} " in command_parser.overview(program)
    assert listed == (module.GROUP != command_parser.INTERNAL)


@pytest.mark.parametrize(("program", "name", "module"), COMMANDS)
def test_the_examples_of_a_command_can_be_parsed(program: Any, name: str, module: Any) -> None:
    assert module.EXAMPLES
    parser = command_parser.of_command(program, name)
    for command, what in module.EXAMPLES:
        assert re.fullmatch(r"[A-Z].*\.", what)
        words = shlex.split(re.split(" >>? ", command)[0])
        start = list(pairwise(words)).index((program.PROGRAM, name))
        parser.parse_args(words[start + 2 :])


@pytest.mark.parametrize(("program", "name", "module"), COMMANDS)
def test_every_argument_of_a_command_is_explained(program: Any, name: str, module: Any) -> None:
    for action in command_parser.actions(command_parser.of_command(program, name)):
        assert re.search(r"[.)\]]$", action.help or ""), action
    assert module.main.__doc__


@pytest.mark.parametrize("program", ["limpet", "limpet-convert"])
def test_a_program_lists_its_commands_by_group(program: str) -> None:
    wanted = ran(program, "--help")
    assert (wanted.returncode, wanted.stderr) == (0, "")
    assert wanted.stdout.startswith(f"Usage: {program} COMMAND")
    assert "\nGet started:\n" in wanted.stdout
    plain = ran(program)
    assert (plain.returncode, plain.stdout, plain.stderr) == (2, "", wanted.stdout)
    assert ran(program, "--version").stdout == f"{program} {__version__}\n"


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.PROGRAM)
def test_the_list_needs_no_package(program: Any) -> None:
    code = (
        f"import sys, {program.__name__}; from limpet import command_parser\n"
        f"print(command_parser.overview({program.__name__}))\n"
        "print({'numpy', 'serial', 'msgspec'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.endswith("\nset()\n")


def test_an_internal_command_is_not_listed_and_has_help() -> None:
    assert "tensors" not in ran("limpet", "--help").stdout
    assert ran("limpet", "tensors", "--help").stdout.startswith("Usage: limpet tensors")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["chek"], "limpet: no command 'chek'. Did you mean 'check'? Run: limpet --help"),
        (["xyzzy"], "limpet: no command 'xyzzy'. Run: limpet --help"),
        (["--vers"], "limpet: no option '--vers'. Did you mean '--version'? Run: limpet --help"),
        (
            ["init", "--prot", "x"],
            "limpet init: no option '--prot'. Did you mean '--port'? Run: limpet init --help",
        ),
        (["init", "--prot=x"], "limpet init: no option '--prot'. Did you mean '--port'? Run: limpet init --help"),
        (["check", "a", "b"], "limpet check: unexpected argument 'b'. Run: limpet check --help"),
        (["bench"], "limpet bench: MODEL: missing. Run: limpet bench --help"),
        (["init", "--baud"], "limpet init: --baud: expected one argument. Run: limpet init --help"),
        (["init", "--baud", "x"], "limpet init: --baud: 'x' is not a whole number. Run: limpet init --help"),
        (["demo", "--rate", "0"], "limpet demo: --rate: '0' is not a number above 0. Run: limpet demo --help"),
        (
            ["infer", "--decimal", ";", "a", "b"],
            "limpet infer: --decimal: no ';'. Choices: ., ,. Run: limpet infer --help",
        ),
        (["ch\x1b[31mek"], r"limpet: no command 'ch\x1b[31mek'. Run: limpet --help"),
    ],
)
def test_a_wrong_command_line_is_one_line_that_says_what_to_run(arguments: list[str], says: str) -> None:
    done = ran("limpet", *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"{says}\n")


def test_the_same_words_come_of_every_python() -> None:
    parser = command_parser.Parser(prog="p")
    parser.add_argument("--level", choices=["debug", "info"])
    with pytest.raises(UsageError, match=r"^p: --level: no 'dbug'. Did you mean 'debug'\? Choices: debug, info."):
        parser.parse_args(["--level", "dbug"])


@pytest.mark.parametrize("name", ["check", "run"])
def test_a_command_imports_no_other_one(name: str) -> None:
    code = (
        "import sys; from limpet import command_parser, commands\n"
        f"command_parser.of_command(commands, {name!r})\n"
        "print([n.rpartition('.')[2] for n in sys.modules if n.startswith('limpet.commands.')])\n"
        "print({'difflib', 'shtab'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    names, others = done.stdout.splitlines()
    assert [one for one in ast.literal_eval(names) if not one.startswith("_")] == [name]
    assert others == "set()"

"""Commands on the pages of the documentation exist, and the files that they name. `make docs-test` runs them."""

from __future__ import annotations

import json
import re
import shlex
import sys
from typing import TYPE_CHECKING

import jsonschema
import pytest

from docs.pages import ROOT, Command, blocks, pages
from docs.reader import Difference, compare
from limpet import command_parser, commands
from limpet_convert import commands as convert_commands

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

    from docs.pages import Block

PROGRAMS = {"limpet": commands, "limpet-convert": convert_commands}
"""Programs, and where their commands lie."""
OPTIONAL = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def simple_commands(line: str) -> list[list[str]]:
    """Return the words of each command of a line, without ``sudo``, variables, redirections and comments."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;<>")
    lexer.whitespace_split = True
    found: list[list[str]] = [[]]
    for word in lexer:
        if word in {"&&", "|", ";"}:
            found.append([])
        elif not (word == "sudo" or (not found[-1] and re.match(r"[A-Z_]+=", word))):
            found[-1].append(word)
    return [words[: words.index(">")] if ">" in words else words for words in found if words]


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_the_commands_of_a_page_exist_with_their_options_and_files(page: Path) -> None:
    commands_of_page = [(block, command) for block in blocks(page) for command in block.commands]
    for block, words in [(block, words) for block, one in commands_of_page for words in simple_commands(one.text)]:
        program, arguments = program_of(words)
        if program in PROGRAMS:
            parse(PROGRAMS[program], arguments)
        elif program == "make":
            assert re.search(rf"^{re.escape(arguments[0])}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        elif program.endswith("pip"):
            assert set(extras(arguments)) <= set(OPTIONAL)
        assert missing_files(block, words) == []


def program_of(words: list[str]) -> tuple[str, list[str]]:
    """Return the program and its arguments; that in a container, if the command runs one there."""
    if words[:2] == ["podman", "exec"]:
        at = words.index("limpet")
        return words[at + 1], words[at + 2 :]
    return words[0], words[1:]


def parse(of: ModuleType, arguments: list[str]) -> None:
    """Raise ``UsageError`` if the program does not take these arguments."""
    if arguments != ["--version"]:
        command_parser.of_command(of, arguments[0]).parse_args(arguments[1:])


def extras(arguments: list[str]) -> list[str]:
    return [extra for word in arguments for names in re.findall(r"\[(.+)\]", word) for extra in names.split(",")]


def missing_files(block: Block, words: list[str]) -> list[str]:
    """Return the files of this repository that a command names and that do not exist."""
    here = block.page.parent if "firmware-configs" in block.place else ROOT
    installed = re.compile(r"/usr/share/limpet/(drop-ins/.+)")
    named = [found[1] for word in words if (found := installed.fullmatch(word))]
    missing = [name for name in named if not (ROOT / "systemd" / name).exists()]
    made_here = words[0] in {"install", "dtc"} and here != ROOT
    for word in words[1:]:
        in_repository = re.match(r"(agent|converters|firmware-configs|packaging|systemd)/", word)
        source = made_here and re.fullmatch(r"[\w.-]+\.(rules|toml|conf|dtso|plist)", word)
        if ((in_repository and "/build/" not in word) or source) and not list(here.glob(word)):
            missing.append(word)
    return missing


def test_the_comment_above_a_block_says_how_it_is_run(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# P\n\n1. One:\n\n   <!-- test: with: board; status: 1 -->\n   ```console\n"
        "   $ limpet \\\n       check\n   bad\n   ```\n\n```console\n$ sudo true\n$ false\n```\n"
    )
    first, second = blocks(page)
    assert first.notes == [("with", "board"), ("status", "1")]
    assert first.commands == [Command("limpet     check", ["bad"])]
    assert (first.not_run, second.not_run) == ("", "root")
    assert (first.line, second.line) == (6, 12)


@pytest.mark.parametrize("comment", ["frist: x", "not run: no time", "status:"])
def test_a_comment_with_a_mistake_is_refused(comment: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"<!-- test: {comment} -->\n```console\n$ true\n```\n")
    with pytest.raises(ValueError, match="reasons: root"):
        blocks(page)


SCHEMAS = {"anomalous": "output/anomaly", "detections": "output/detect", "recordings": "recordings"}
"""Schemas of the messages and files on pages, by a key that they have."""
JSON = [
    pytest.param(text, id=f"{page.relative_to(ROOT)}-{number}")
    for page in sorted(ROOT.glob("docs/**/*.md"))
    for number, text in enumerate(
        re.findall(r"^```json\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE), 1
    )
]


@pytest.mark.parametrize("text", JSON)
def test_json_on_a_page_is_what_limpet_writes(text: str) -> None:
    document = json.loads(text)
    for name in [name for key, name in SCHEMAS.items() if key in document]:
        schema = json.loads((ROOT / "docs" / "schemas" / f"{name}.json").read_text())
        jsonschema.Draft202012Validator(schema).validate(document)
        (of_document,) = [
            definition for definition in schema["$defs"].values() if set(document) <= set(definition["properties"])
        ]
        assert set(of_document["required"]) <= set(document)


WRITTEN = "2026-11-28T14:00:00 starts\nmotion: 1,010 samples in 10.1 s\nother\n"


@pytest.mark.parametrize(
    "shown", ["motion: 1,000 samples in 10 s", "motion: ... s", "2020-01-01T00:00:00   starts", "...", "other"]
)
def test_output_may_differ_in_dates_and_a_little_in_numbers(shown: str) -> None:
    compare([shown], WRITTEN)


def test_dates_that_came_are_known_by_those_of_the_page() -> None:
    found = compare(["2020-01-01T00-00-00.csv  9.9 s"], "2026-11-28T14-09-05.csv  10.0 s\n")
    assert found == {"2020-01-01T00-00-00": "2026-11-28T14-09-05"}


@pytest.mark.parametrize("shown", ["motion: 800 samples in 10 s", "motion:", "motion: ... m", "othe"])
def test_output_that_differs_is_found(shown: str) -> None:
    with pytest.raises(Difference, match="what came"):
        compare([shown], WRITTEN)

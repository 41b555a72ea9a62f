"""Completion in the real shells, and the manual pages as their readers check them."""

from __future__ import annotations

import gzip
import os
import pty
import select
import shutil
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

import limpet.commands
import share
from limpet import completion

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

CASES = [
    ("limpet chec", "check"),
    ("limpet completion zs", "zsh"),
    ("limpet init --passw", "--password-file"),
    ("limpet check si", "site.toml"),
    ("limpet model us", "use"),
    ("limpet-convert quan", "quantize"),
]
"""What is typed, and what a shell makes of the last word."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a configuration, and the script of each shell beside it in ``share``."""
    tmp_path = tmp_path_factory.mktemp("completion")
    share.main(tmp_path / "share", ["limpet", "limpet-convert"])
    work = tmp_path / "work"
    work.mkdir()
    (work / "site.toml").touch()
    (work / "north hall").mkdir()
    (work / "north hall" / "cold store.toml").touch()
    return work


def script(folder: Path, shell: str, program: str = "limpet") -> Path:
    return folder.parent / "share" / share.COMPLETIONS[shell].format(program)


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


BASH = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
words=($(complete -p "$1")); "${words[-2]}" "$1" "${COMP_WORDS[-1]}" ""
printf '%s\\n' "${COMPREPLY[@]}"
"""


@needs("bash")
@pytest.mark.parametrize(("typed", "completed"), CASES)
def test_bash_completes(folder: Path, typed: str, completed: str) -> None:
    done = subprocess.run(
        ["bash", "--norc", "-c", BASH, "bash", script(folder, "bash", typed.partition(" ")[0]), *typed.split()],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout.split(), done.stderr) == ([completed], "")


@needs("bash")
@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (["check", r"north\ h"], "north hall"),
        (["record", "--output", "'north h"], "north hall"),
        (["check", r"north\ hall/c"], "north hall/cold store.toml"),
        (["run", '"north hall/c'], "north hall/cold store.toml"),
    ],
)
def test_bash_completes_names_with_spaces(folder: Path, words: list[str], completed: str) -> None:
    done = subprocess.run(
        ["bash", "--norc", "-c", BASH, "bash", script(folder, "bash"), "limpet", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == (f"{completed}\n", "")


@needs("fish")
@pytest.mark.parametrize(("typed", "completed"), CASES)
def test_fish_completes(folder: Path, typed: str, completed: str) -> None:
    sourced = script(folder, "fish", typed.partition(" ")[0])
    done = subprocess.run(
        ["fish", "--no-config", "-c", f"source {sourced}; complete -C {typed!r}"],
        cwd=folder,
        env={**os.environ, "HOME": str(folder), "XDG_CONFIG_HOME": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert [line.partition("\t")[0] for line in done.stdout.splitlines()] == [completed]


@needs("zsh")
def test_zsh_completes(folder: Path) -> None:
    shell = typing_into_zsh(folder)
    next(shell)
    for typed, completed in CASES:
        wanted = f"{typed.rpartition(' ')[0]} {completed}"
        assert wanted in shell.send((typed, wanted))
    shell.close()


def typing_into_zsh(folder: Path) -> Generator[str, tuple[str, str]]:
    """Type what is sent and the tab key into a shell at a terminal. Yields what it shows."""
    terminal, behind = pty.openpty()
    shell = subprocess.Popen(
        ["zsh", "-f", "-i"],
        cwd=folder,
        env={**os.environ, "TERM": "dumb", "PS1": "> ", "HOME": str(folder)},
        stdin=behind,
        stdout=behind,
        stderr=behind,
        start_new_session=True,
    )
    os.close(behind)
    functions = script(folder, "zsh").parent
    begin = f"fpath+={functions}; autoload -Uz compinit; compinit -u -D; print ready-$((1))\n"
    os.write(terminal, begin.encode())
    shown = _until(terminal, "ready-1\r\n")
    while True:
        try:
            typed, wanted = yield shown
        except GeneratorExit:
            shell.kill()
            shell.wait()
            os.close(terminal)
            raise
        os.write(terminal, typed.encode() + b"\t")
        shown = _until(terminal, wanted)
        os.write(terminal, b"\x15")


def _until(terminal: int, wanted: str) -> str:
    """Read until the text was shown, for at most 20 seconds."""
    shown, end = "", time.monotonic() + 20
    while wanted not in shown and time.monotonic() < end:
        if select.select([terminal], [], [], 1)[0]:
            shown += os.read(terminal, 1 << 16).decode()
    return shown


@pytest.mark.parametrize(
    "command",
    [["mandoc", "-T", "lint", "-W", "warning"], ["man", "--warnings=w", "-l", "-Tutf8"]],
    ids=["mandoc", "man"],
)
def test_manual_pages_have_no_mistake(command: list[str], tmp_path: Path) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    for name, text in share.pages(limpet.commands).items():
        (tmp_path / name).write_text(text)
    pages = sorted(tmp_path.glob("*.1"))
    assert {"limpet.1", "limpet-check.1"} <= {page.name for page in pages}
    done = subprocess.run(
        [*command, *pages], capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C.UTF-8"}
    )
    assert (done.returncode, done.stderr) == (0, "")
    if command[0] == "mandoc":
        assert done.stdout == ""
    else:
        assert "limpet-check - check a configuration" in done.stdout


def test_what_a_package_gets(folder: Path) -> None:
    assert gzip.decompress((folder.parent / "share/man/man1/limpet-run.1.gz").read_bytes()).startswith(
        b".TH LIMPET"
    )
    for shell in completion.SHELLS:
        assert "limpet" in script(folder, shell).read_text()

"""``| head``: a command whose reader has ended says nothing and ends with status 141, as SIGPIPE would end it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import limpet_convert.commands
from limpet import commands
from limpet.module_names import module_names
from support import models

if TYPE_CHECKING:
    from pathlib import Path

TESTS = os.path.dirname(os.path.dirname(__file__))  # noqa: PTH120 - for PYTHONPATH


def run_all(lines: list[list[str]], folder: Path) -> dict[str, tuple[int, str]]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        [sys.executable, "-m", "support.closed_pipe"], input=json.dumps(lines), stdout=subprocess.PIPE, text=True,
        check=True, cwd=folder, env={**environment, "PYTHONPATH": TESTS}, timeout=100,
    )  # fmt: skip
    return {
        " ".join(line): (status, error)
        for line, (status, error) in zip(lines, json.loads(done.stdout), strict=True)
    }


HELP = [
    *([program, "--help"] for program in ("limpet", "limpet-convert")),
    *(["limpet", name, "--help"] for name in module_names(commands)),
    *(["limpet-convert", name, "--help"] for name in module_names(limpet_convert.commands)),
]
OTHERS = [
    ["limpet", "--version"],
    ["limpet", "check"],
    ["limpet", "devices"],
    ["limpet", "completion", "bash"],
    ["limpet", "inspect", "dense.tflite"],
    ["limpet", "infer", "dense.tflite", "r.csv"],
    ["limpet", "run", "--once", "--print"],
    ["limpet-convert", "inspect", "dense.tflite"],
    ["limpet-convert", "completion", "bash"],
]


def _configure(folder: Path) -> None:
    models.dense(folder / "dense.tflite", inputs=3, outputs=3)
    (folder / "r.csv").write_text("a,b,c\n" + "1,2,3\n" * 50)
    (folder / "limpet.toml").write_text(
        '[device]\nid = "d"\nstate = "state"\n[jsonl]\npath = "out"\n'
        '[sources.s]\nkind = "replay"\npath = "r.csv"\nrate = 5000\n'
        '[pipelines.p]\nsource = "s"\nmodel = "dense.tflite"\ndecoder = { kind = "regress" }\n'
    )


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str]]:
    """Return exit status and standard error of each command line."""
    folder = tmp_path_factory.mktemp("closed")
    _configure(folder)
    return run_all([*HELP, *OTHERS], folder)


def test_the_help_of_every_command_can_be_cut_off(ended: dict[str, tuple[int, str]]) -> None:
    found = {line: ended[line] for line in map(" ".join, HELP)}
    assert len(found) > 25
    assert found == dict.fromkeys(found, (141, ""))


@pytest.mark.parametrize("line", [" ".join(line) for line in OTHERS])
def test_the_output_of_a_command_can_be_cut_off(ended: dict[str, tuple[int, str]], line: str) -> None:
    status, error = ended[line]
    assert (status, "Traceback" in error, "ignored" in error) == (141, False, False), error


@pytest.mark.parametrize(
    ("redirected", "status", "said"),
    [
        (">&-", 0, ""),
        ("<&- >&- 2>&-", 0, ""),
        ("> /dev/full", 1, "limpet: No space left on device\n"),
    ],
)
@pytest.mark.parametrize("arguments", ["--version", "run --help", "completion bash"])
def test_a_stream_that_is_closed_or_full_is_no_traceback(
    arguments: str, redirected: str, status: int, said: str
) -> None:
    line = f'exec "{sys.executable}" -m limpet {arguments} {redirected}'
    done = subprocess.run(["sh", "-c", line], stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (status, said)


def test_results_that_are_printed_to_a_full_disk_end_the_daemon_without_a_traceback(tmp_path: Path) -> None:
    _configure(tmp_path)
    line = f'exec "{sys.executable}" -m limpet run --once --print > /dev/full'
    done = subprocess.run(["sh", "-c", line], stderr=subprocess.PIPE, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, "limpet: No space left on device")

"""Runs command lines whose standard output is a pipe that no program reads: ``python -m support.closed_pipe``.

Standard input has a JSON list of command lines. Standard output gets a list of [exit status, standard error]. Each
runs in a fork of this process, which has imported what all of them need.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import tempfile

import limpet_convert.commands
from limpet import cli, command_parser, commands  # noqa: F401 - the parser is for all forks
from limpet.module_names import module_names
from limpet_convert import cli as converters


def status_of(command: list[str]) -> tuple[int, str]:
    with tempfile.TemporaryFile() as errors:
        if not (pid := os.fork()):
            reader, writer = os.pipe()
            os.close(reader)
            os.dup2(writer, 1)
            os.dup2(errors.fileno(), 2)
            sys.exit({"limpet": cli, "limpet-convert": converters}[command[0]].main(command[1:]))
        _, status = os.waitpid(pid, 0)
        errors.seek(0)
        return os.waitstatus_to_exitcode(status), errors.read().decode()


if __name__ == "__main__":
    for package in (commands, limpet_convert.commands):
        for name in module_names(package):
            importlib.import_module(f"{package.__name__}.{name}")
    gc.freeze()  # each fork would look through all modules at its end
    answers = [status_of(command) for command in json.load(sys.stdin)]
    json.dump(answers, sys.stdout)

"""The command line: ``limpet-convert COMMAND``, where a command is a module of ``limpet_convert.commands``."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from limpet import command_line
from limpet_convert import commands, libraries

if TYPE_CHECKING:
    from collections.abc import Sequence

TENSORFLOW = {"TF_CPP_MIN_LOG_LEVEL": "2", "TF_ENABLE_ONEDNN_OPTS": "0"}
"""What TensorFlow reads when it is imported: no talk, and the same sums on every processor."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the exit status; 1 also for a model that does not keep its thresholds."""
    command_line.open_missing_streams()
    libraries.keep_log(None)
    argv = list(sys.argv[1:] if arguments is None else arguments)
    for key, value in TENSORFLOW.items():
        os.environ.setdefault(key, value)
    try:
        return command_line.run(commands, argv)
    except OSError as error:  # A full disk or a folder that may not be written: any step writes files.
        where = f"{error.filename}: " if error.filename else ""
        sys.stderr.write(f"limpet-convert: {where}{error.strerror or error}\n")
        return 1

"""``limpet tensors``: run a model that comes on stdin, for ``limpet-convert`` at the other end of an ssh."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from limpet.errors import TransportError
from limpet.inference import tensor_stream

if TYPE_CHECKING:
    import argparse

HELP = "run a model and windows that come on stdin, and answer on stdout; for limpet-convert --device ssh://..."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing is asked for on the command line: all of it comes on stdin."""
    del parser


def main(_: argparse.Namespace) -> int:
    """Serve one stream; nothing is left behind."""
    # What a runtime or a driver prints must not get between the frames.
    sink = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        with sink:
            tensor_stream.serve(sys.stdin.buffer, sink)
    except BrokenPipeError:
        return 1  # who asked is gone
    except EOFError as error:
        raise TransportError(str(error)) from error
    return 0

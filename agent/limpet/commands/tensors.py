"""``limpet tensors``: run a model that comes on stdin, for ``limpet-convert`` at the other end of an ssh."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NoReturn

from limpet.errors import LimpetError, ModelError, TransportError
from limpet.isolation.child import describe

if TYPE_CHECKING:
    import argparse

HELP = "Run a model that comes on stdin, for limpet-convert --device"
GROUP = "internal"
EXAMPLES = (
    (
        "ssh pi@kitchen.local limpet tensors",
        "The command that limpet-convert --device ssh://pi@kitchen.local runs.",
    ),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare no arguments: everything comes on stdin."""
    del parser


def main(_: argparse.Namespace) -> int:
    """Serve one stream. A child does it, so that a delegate's crash has a name and leaves nothing behind."""
    with TemporaryDirectory(prefix="limpet-tensors-") as folder:
        child = os.fork()
        if not child:
            _work(Path(folder))
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status < 0:
        raise ModelError(f"the runtime or the delegate did not survive this model: {describe(status)}")
    return status


def _work(folder: Path) -> NoReturn:
    status = 1
    try:
        _serve(folder)
        status = 0
    except BrokenPipeError:
        pass  # the client is gone
    except LimpetError as error:
        print(f"limpet: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(status)


def _serve(folder: Path) -> None:
    from limpet.inference import tensor_stream  # no thread of numpy's is to be forked

    # What a runtime or a driver prints must not get between the frames.
    sink = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        with sink:
            tensor_stream.serve(sys.stdin.buffer, sink, folder)
    except EOFError as error:
        raise TransportError(str(error)) from error

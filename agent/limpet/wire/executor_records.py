"""What a worker and its executor say to each other. The values themselves are in shared memory."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from limpet.contracts.messages import Placed

ArrayForm: TypeAlias = tuple[str, tuple[int, ...]]
"""The dtype and the shape of an array in shared memory."""
LARGEST = 1 << 20
"""Bytes of a record between a worker and its executor, in both directions."""


class Run(msgspec.Struct, tag=True, omit_defaults=True):
    """Run on the inputs that are in memory, each where its place begins.

    ``stored``: inputs may be as their tensors store them, and so are outputs, unless ``real`` values are wanted.
    """

    inputs: list[ArrayForm]
    stored: bool = False
    real: bool = False


class Reset(msgspec.Struct, tag=True):
    """Forget earlier inputs."""


class Recheck(msgspec.Struct, tag=True):
    """See whether the numbers are still right."""


ToExecutor: TypeAlias = Run | Reset | Recheck


class Opened(msgspec.Struct, tag=True):
    """The model is there and was let in. The memory comes along as a file descriptor.

    ``run_s`` and ``recheck_s`` are what a run and a recheck took. ``places``: the offset and the size in bytes of
    each input, then of each of the ``outputs``.
    """

    placed: Placed
    run_s: float
    recheck_s: float
    places: list[tuple[int, int]]
    outputs: int


class Done(msgspec.Struct, tag=True, omit_defaults=True):
    """It was done, or ``error`` says why not."""

    error: str = ""
    outputs: list[ArrayForm] = []


FromExecutor: TypeAlias = Opened | Done

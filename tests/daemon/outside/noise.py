"""A random number generator as three channels from 0 to 1: a source of a third party, in one file.

It reads a character device, such as /dev/hwrng, and declares that with ``needs``.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from limpet.contracts.data import Samples, SampleSpec
from limpet.contracts.needs import Needs
from limpet.errors import SourceError

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """``device``: what it reads and declares. ``also``: another device that it opens before, undeclared."""

    device: str
    also: str = ""


def describe(config: Config) -> SampleSpec:  # noqa: ARG001 - the same for all devices
    """Return that samples are float32 (3,)."""
    return SampleSpec((3,), np.dtype(np.float32), ("ax", "ay", "az"), 50.0)


@contextmanager
def open(config: Config, dropped: Counter[str]) -> Iterator[Iterator[Samples]]:  # noqa: A001, ARG001
    """Open the devices; close them at the end."""
    try:
        if config.also:
            os.close(os.open(config.also, os.O_RDONLY))
        device = os.open(config.device, os.O_RDONLY)
    except OSError as error:
        raise SourceError(f"{error.filename}: {error.strerror}") from error
    try:
        yield _samples(device)
    finally:
        os.close(device)


def _samples(device: int) -> Iterator[Samples]:
    index = 0
    while True:
        values = np.frombuffer(os.read(device, 3), np.uint8).astype(np.float32).reshape(1, 3) / 255
        yield Samples(values, np.array([time.monotonic_ns()]), np.array([time.time_ns()]), index)
        index += 1
        time.sleep(0.02)


def needs(config: Config) -> Needs:
    """Return the device."""
    return Needs(devices=(config.device,))

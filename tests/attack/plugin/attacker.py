"""A source that takes over its worker: its ``open`` runs inside the sandbox, as code of an intruder would.

An attempt is a function with ``@attempt("name")`` in ``attacker_records``, ``attacker_floods`` or
``attacker_escapes``. The source runs the one that its configuration names, and writes what came of it to standard
error as a line ``ATTACK {json}``.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from limpet.contracts.data import Samples, SampleSpec
from limpet.contracts.needs import Needs

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator

CHANNELS = ("ax", "ay", "az")
PERIOD = 0.05
SETTLED = 0.2
"""Seconds from the first sample to the attack: the pipeline runs by then."""


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """``attempt`` is the name of an attempt. ``target``: a folder that the intruder has heard of.

    With ``url``, ``device`` or ``microphone``, it declares what such a camera or microphone needs.
    """

    attempt: str
    target: str
    start_at_once: bool = False
    url: str = ""
    device: str = ""
    microphone: bool = False


def needs(config: Config) -> Needs:
    if config.microphone:
        from limpet.sources import audio

        return audio.needs(audio.Config(device="hw:0"))
    if config.url or config.device:
        from limpet.sources import camera

        return camera.needs(camera.Config(url=config.url, device=config.device))
    return Needs()


def describe(_: Config) -> SampleSpec:
    return SampleSpec((len(CHANNELS),), np.dtype(np.float32), CHANNELS, 1 / PERIOD)


@contextmanager
def open(config: Config, _: Counter[str]) -> Iterator[Iterator[Samples]]:  # noqa: A001 - a plugin's function
    yield _samples(config)


def _samples(config: Config) -> Iterator[Samples]:
    if not config.start_at_once:
        yield _sample(0)
        time.sleep(SETTLED)
    _attack(config)
    index = 1
    while True:
        yield _sample(index)
        index += 1
        time.sleep(PERIOD)


def _sample(index: int) -> Samples:
    stamps = np.array([time.monotonic_ns()])
    return Samples(np.ones((1, len(CHANNELS)), np.float32), stamps, np.array([time.time_ns()]), index)


def _attack(config: Config) -> None:
    import attacker_escapes
    import attacker_expansions
    import attacker_floods
    import attacker_records
    import attacker_sensors
    import attacker_user
    from attacker_border import Border

    modules = (
        attacker_records,
        attacker_expansions,
        attacker_floods,
        attacker_escapes,
        attacker_user,
        attacker_sensors,
    )
    known = {name: attempt for module in modules for name, attempt in module.ATTEMPTS.items()}
    border = Border(Path(config.target))
    tell(config.attempt, begun=True)
    try:
        said = known[config.attempt](border)
    except Exception as error:  # noqa: BLE001 - what came of it
        tell(config.attempt, error=f"{type(error).__name__}: {error}"[:300], unread=border.unread())
    else:
        tell(config.attempt, said=said, unread=border.settle())


def tell(attempt: str, **facts: Any) -> None:
    """Write a line to standard error, the one way out that a sandboxed worker has beside its channel."""
    os.write(2, b"\nATTACK " + json.dumps({"attempt": attempt, **facts}, default=str).encode() + b"\n")

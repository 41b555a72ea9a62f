"""What boards send: the framings of the serial source."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from fuzz.registry import Prepared, parser
from limpet import plugins
from limpet.sources.framings import cobs

if TYPE_CHECKING:
    from pathlib import Path

CHANNELS = ("ax", "ay")
_CSV = [b"1,1000,3,4\r\n2,2000,5,6\r\n", b"# a comment\n1;2\n", b"ax:1,ay:2\n", b"ax,ay\n1.5,2.5\n3,4\n"]
_JSON = [b'{"sequence":1,"time_us":5,"ax":1,"ay":-2.5}\n', b'{"ax":"1","ay":null}\n', b'{"imu":{"ax":1,"ay":2}}\n']


def _take(kind: str, *configs: dict[str, Any]) -> Any:
    module = plugins.load("framings", kind)

    def take(data: bytes) -> None:
        for config in configs:
            framing = module.open(module.Config(**config), CHANNELS, Counter())
            for begin in range(0, len(data), 4096):
                framing.feed(data[begin : begin + 4096])

    return take


@parser("framing csv")
def _csv(_: Path) -> Prepared:
    return Prepared(
        _CSV, _take("csv", {"fields": ["sequence", "time_us", "ax", "ay"], "sequence_modulo": 256}, {})
    )


@parser("framing json")
def _json(_: Path) -> Prepared:
    return Prepared(_JSON, _take("json", {"sequence_modulo": 256}, {}))


@parser("framing cobs")
def _cobs(_: Path) -> Prepared:
    frames = [cobs.encode(np.array([[n, -n]], np.int16), n, n * 1000) for n in (1, 2, 300)]
    return Prepared([*frames, b"".join(frames)], _take("cobs", {}))

"""Each message that docs/how-to/troubleshooting.md quotes is one that Limpet writes, to the letter."""

from __future__ import annotations

import errno
import re
from collections import Counter
from pathlib import Path

import pytest

from limpet.commands import init
from limpet.contracts.fields import WindowSpec
from limpet.errors import SourceError
from limpet.sources import _recognition, serial
from limpet.worker.progress import Counts, Progress
from support.ptys import Board

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "troubleshooting.md"
PORT = "/dev/ttyUSB0"
CHANNELS = ("ax", "ay", "az")
SENT = (
    b"1,2\n",
    b"1,2,3,4\n",
    b'{"ax":1,"ay":2,"az":3}\n',
    b'{"x":1,"y":2,"z":3}\n',
    b"loop 17 ok\n",
    bytes(range(128, 250)),
    b"",
)
DROPPED = ("not_finite", "out_of_range")


def of_boards() -> list[str]:
    reasons = [
        _recognition.why_no_samples(b"x\n" * bool(line) + line * 4, CHANNELS, "csv", Counter()) for line in SENT
    ]
    reasons += [_recognition.why_no_samples(b"1,2,3\n", CHANNELS, "csv", Counter({cause: 9})) for cause in DROPPED]
    return [f"{PORT} at 115200 baud {reason}" for reason in reasons]


def of_ports(folder: Path) -> list[str]:
    """Return why a port cannot be opened: really, but for what the superuser can always do."""

    def why() -> str:
        with pytest.raises(SourceError) as raised, serial.open(config, Counter()):
            pass
        return str(raised.value).replace(str(folder / "node"), PORT)

    config = serial.Config(port=str(folder / "node"), channels=list(CHANNELS))
    away = why()
    with Board(folder / "node"), serial.open(config, Counter()):
        taken = why()
    return [away, taken, f"{PORT}: {serial.REASONS[errno.EACCES]}"]


def of_windows() -> list[str]:
    reasons = []
    for size, rate, lost in ((100_000, 1, False), (50, 100, True)):
        progress = Progress(WindowSpec(size=size), 1)
        for second in range(21):
            samples = 1 + second * rate
            progress.look(second, Counts(samples, 0, samples if lost else 0))
        reasons.append(progress.reason)
    return reasons


def test_each_quoted_message_is_one_that_limpet_writes(tmp_path: Path) -> None:
    quoted = re.findall(r"```text\n(.*?)\n```", PAGE.read_text(), re.DOTALL)
    written = [*of_boards(), *of_ports(tmp_path), *of_windows(), init.NOT_WRITTEN]
    assert sorted(quoted) == sorted(written)

"""Damaged .tflite files: each gives one clear line and ends no command. The damage is the same in each run."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest

from limpet_convert import cli

MODELS = sorted((Path(__file__).parents[1] / "data" / "models").glob("*.tflite"))
COUNT = 8
LARGE = (0, -1, 7, 99_999, 1 << 20, 1 << 30)


def cut(data: bytearray, chance: random.Random) -> bytes:
    return bytes(data[: chance.randrange(len(data))])


def flip(data: bytearray, chance: random.Random) -> bytes:
    for _ in range(chance.choice((1, 3, 20))):
        data[chance.randrange(len(data))] = chance.randrange(256)
    return bytes(data)


def resize(data: bytearray, chance: random.Random) -> bytes:
    """Write a huge, negative or other size where a small number is."""
    places = [at for at in range(0, len(data) - 3, 4) if 0 < struct.unpack_from("<i", data, at)[0] < 600]
    for _ in range(chance.choice((1, 2, 5))):
        struct.pack_into("<i", data, chance.choice(places), chance.choice(LARGE))
    return bytes(data)


def move(data: bytearray, chance: random.Random) -> bytes:
    """Write a piece of the file over another one, or zeros."""
    size = chance.randrange(1, 64)
    here, there = (chance.randrange(len(data) - size) for _ in range(2))
    data[here : here + size] = data[there : there + size] if chance.random() < 0.5 else bytes(size)
    return bytes(data)


@pytest.mark.parametrize("damage", [cut, flip, resize, move], ids=lambda one: str(one.__name__))
@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_a_damaged_file_gives_one_clear_line(
    path: Path, damage: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert callable(damage)
    chance = random.Random(f"{path.stem}-{damage.__name__}")
    damaged = tmp_path / "m.tflite"
    refused = 0
    for _ in range(COUNT):
        damaged.write_bytes(damage(bytearray(path.read_bytes()), chance))
        for command in (["inspect"], ["convert", "--output", str(tmp_path / "out")], ["diff", str(damaged)]):
            status = cli.main([*command, str(damaged)])
            error = capsys.readouterr().err.strip()
            assert status == bool(error), error
            assert len(error.splitlines()) <= 1, error
            assert len(error) < 1000, error
            assert "Traceback" not in error
            assert "its library" not in error
            refused += status
    assert refused

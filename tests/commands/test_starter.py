"""``limpet init --anomaly``: what a board sends, the window that suits it, and the model that is made."""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limpet.commands import _channels, _starter
from limpet.errors import ConfigError
from limpet.runtimes import mahalanobis
from limpet.sources.framings import cobs
from support.ptys import Board

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def lines(*made: str) -> bytes:
    return "".join(f"{line}\r\n" for line in ("", *made, "")).encode()


def rows(make: Callable[[int], str], count: int = 20) -> list[str]:
    return [make(number) for number in range(count)]


def wave(number: int) -> float:
    return round(math.sin(number), 3)


# --- channels


@pytest.mark.parametrize(
    ("data", "framing", "channels", "fields"),
    [
        (lines(*rows(lambda n: f"{wave(n)},{wave(2 * n)},{n % 3}")), "csv", ("c0", "c1", "c2"), ()),
        (lines(*rows(lambda n: f"{wave(n)};{wave(2 * n)}")), "csv", ("c0", "c1"), ()),
        (lines(*rows(lambda n: f"{wave(n)} {wave(2 * n)} {n % 3} {n % 5}")), "csv", ("c0", "c1", "c2", "c3"), ()),
        (lines(*rows(lambda n: f"{wave(n)}")), "csv", ("c0",), ()),
        (lines("ax,ay", *rows(lambda n: f"{wave(n)},{n % 3}")), "csv", ("ax", "ay"), ()),
        (
            lines("millis,ax,ay", *rows(lambda n: f"{10 * n},{wave(n)},{n % 3}")),
            "csv",
            ("ax", "ay"),
            ("millis", "ax", "ay"),
        ),
        (lines(*rows(lambda n: f"{10 * n + n % 2},{wave(n)}")), "csv", ("c1",), ("c0", "c1")),
        (lines(*rows(lambda n: f"x:{wave(n)},y:{n % 3}")), "csv", ("x", "y"), ()),
        (lines(*rows(lambda n: json.dumps({"t": n, "temp": wave(n), "hum": n % 3}))), "json", ("temp", "hum"), ()),
        (
            lines(*rows(lambda n: json.dumps({"a": {"x": n % 3}, "b": {"x": n % 4, "on": True, "name": "q"}}))),
            "json",
            ("a.x", "b.x"),
            (),
        ),
        (lines(*rows(lambda n: json.dumps([wave(n), n % 3, n % 5]))), "csv", ("c0", "c1", "c2"), ()),
        (
            b"\0" + b"".join(cobs.encode(np.full((2, 6), n % 7, np.int16), 2 * n, 20 * n) for n in range(20)),
            "cobs",
            tuple(f"c{n}" for n in range(6)),
            (),
        ),
    ],
)
def test_channels_are_found_in_what_a_board_sends(
    data: bytes, framing: str, channels: tuple[str, ...], fields: tuple[str, ...]
) -> None:
    found = _channels.find(data)
    assert found is not None
    assert (found.framing, found.channels, found.fields) == (framing, channels, fields)
    assert found.rows >= 8


@pytest.mark.parametrize("data", [b"", b"boot ok\r\n" * 30, bytes(range(128, 256)) * 10])
def test_what_is_no_sample_is_not_found(data: bytes) -> None:
    assert _channels.find(data) is None


@given(st.binary(max_size=400))
@settings(max_examples=10)
def test_any_bytes_may_come(data: bytes) -> None:
    found = _channels.find(data)
    assert found is None or found.rows > 0


def test_names_of_a_person_are_taken() -> None:
    data = lines(*rows(lambda n: f"{wave(n)},{n % 3}"))
    found = _channels.find(data, ["left", "right"])
    assert found is not None
    assert found.channels == ("left", "right")
    assert _channels.find(data, ["left", "middle", "right"]) is None


# --- windows


@pytest.mark.parametrize(
    ("rate", "channels", "window"),
    [
        (None, 3, (1, (), (1, 3))),
        (1.0, 9, (1, (), (1, 9))),
        (10.0, 3, (20, ("mean", "std", "min", "max"), (4, 3))),
        (100.2, 3, (100, ("mean", "std", "min", "max"), (4, 3))),
        (1000.0, 30, (1000, ("mean", "std"), (2, 30))),
        (1000.0, 64, (1000, ("rms",), (1, 64))),
    ],
)
def test_the_window_suits_the_rate_and_the_channels(rate: float | None, channels: int, window: Any) -> None:
    chosen = _channels.window(rate, channels)
    assert tuple(chosen) == window
    assert math.prod(chosen.shape) <= 64


def test_a_window_of_one_sample_can_be_chosen_for_a_fast_sensor() -> None:
    assert _channels.window(1000.0, 9, 1) == (1, (), (1, 9))


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("30s", {"seconds": 30}),
        ("1.5h", {"seconds": 5400}),
        ("2 d", {"seconds": 172_800}),
        ("500", {"windows": 500}),
    ],
)
def test_a_learning_time_is_a_duration_or_a_number_of_windows(text: str, keys: dict[str, float]) -> None:
    assert _starter.learning_time(text) == keys


@pytest.mark.parametrize("text", ["", "0", "0s", "-1h", "1 week", "h", "1e9d", "9" * 400, "٣", "99999999999d"])
def test_other_learning_times_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--learn"):
        _starter.learning_time(text)


@pytest.mark.parametrize(
    ("learn", "rate", "says"),
    [
        ({"seconds": 30}, 100.0, "learns for 60 windows, which take 60 s."),
        ({"seconds": 30}, None, "learns for 30 s, and from at least 60 windows."),
        ({"seconds": 3600}, 100.0, "learns for 3600 s."),
        ({"windows": 500}, 100.0, "learns for 500 windows, which take 500 s."),
    ],
)
def test_init_says_how_long_learning_takes(learn: dict[str, int], rate: float | None, says: str) -> None:
    choice = _channels.WindowChoice(100, _channels.FEATURES, (4, 3))
    assert says in _starter.described(choice, mahalanobis.Options(shape=[4, 3], **learn), rate)


# --- the command


@contextlib.contextmanager
def sending(path: Path, make: Callable[[int], str], rate: float) -> Iterator[None]:
    """A board that sends so many lines a second."""
    stop = threading.Event()

    def send(board: Board) -> None:
        number = 0
        while not stop.wait(1 / rate):
            with contextlib.suppress(OSError):
                board.send(f"{make(number)}\r\n".encode())
            number += 1

    with Board(path) as board:
        os.set_blocking(board.fileno(), False)
        thread = threading.Thread(target=send, args=(board,))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(10)


def limpet(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "limpet", *map(str, arguments)]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, timeout=60
    )


def test_init_makes_a_model_that_fits_the_board_and_passes_check(tmp_path: Path) -> None:
    with sending(tmp_path / "board", lambda n: f"{5 * n},{wave(n)},{n % 3}", 100):
        arguments = ("--port", tmp_path / "board", "--state", "state", "--listen", 1, "--learn", "10m")
        made = limpet(tmp_path, "init", "--anomaly", *arguments)
        assert made.returncode == 0, made.stderr
        assert "c1, c2 as csv at 115200 baud" in made.stdout
        assert "left out, as they count or are a clock: c0" in made.stdout
        assert "It learns for 600 s. Until then results say untrained." in made.stdout
        assert "limpet run" in made.stdout
        checked = limpet(tmp_path, "check")
        assert checked.stdout == "machine: sensor -> machine 0 on cpu\n"
    tables = tomllib.loads((tmp_path / "limpet.toml").read_text())
    assert tables["sources"]["sensor"]["channels"] == ["c1", "c2"]
    assert tables["sources"]["sensor"]["framing"] == {"kind": "csv", "fields": ["c0", "c1", "c2"]}
    shown = json.loads(limpet(tmp_path, "inspect", "state/models/machine-0.limpet", "--json").stdout)
    assert shown["manifest"]["transforms"] == [{"kind": "statistics", "features": ["mean", "std", "min", "max"]}]
    assert 50 < shown["manifest"]["window"]["size"] < 200
    assert shown["inputs"][0]["channels"] == ["c1", "c2"]
    assert shown["manifest"]["version"] == 0
    assert not shown["golden"]


def test_init_writes_nothing_if_the_board_sends_no_samples(tmp_path: Path) -> None:
    with sending(tmp_path / "board", lambda _: "sensor error", 50):
        arguments = ("--port", tmp_path / "board", "--state", "state", "--listen", 0.5, "--baud", 9600)
        made = limpet(tmp_path, "init", "--anomaly", *arguments)
    assert made.returncode == 78
    assert "sends text without samples, such as 'sensor error'" in made.stderr
    assert "nothing was written" in made.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can do harm with a link of another user")
@pytest.mark.parametrize(
    ("link", "said"),
    [
        ("state/models/machine-0.limpet", "machine-0.limpet is a symbolic link; a regular file is expected"),
        ("state/models", ": Permission denied\n"),
    ],
)
def test_as_root_it_follows_no_link_that_the_owner_of_the_state_has_put_into_it(
    tmp_path: Path, link: str, said: str
) -> None:
    for folder in (tmp_path, *list(tmp_path.parents)[:2]):
        folder.chmod(0o755)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / link).parent.mkdir(parents=True)
    (tmp_path / link).symlink_to(tmp_path / "elsewhere")
    for path in (tmp_path / "state", (tmp_path / link).parent, tmp_path / link):
        os.chown(path, 65534, 65534, follow_symlinks=False)
    with sending(tmp_path / "board", lambda n: f"{wave(n)},{n % 3}", 100):
        arguments = ("--port", tmp_path / "board", "--state", "state", "--listen", 2, "--baud", 9600, "--force")
        made = limpet(tmp_path, "init", "--anomaly", *arguments)
    assert made.returncode != 0
    assert said in made.stderr, made.stderr + made.stdout
    assert list((tmp_path / "elsewhere").iterdir()) == []

"""The board that is a program, which the tutorial uses."""

from __future__ import annotations

import gzip
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import serial

from support.broker import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

import contextlib

BOARD = Path(__file__).parents[2] / "firmware-configs" / "sensor-nodes" / "simulated_board.py"


@contextlib.contextmanager
def playing(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    (folder / "rows.csv.gz").write_bytes(gzip.compress(b"a,b,label\n1,2,still\n3,4,moving\n"))
    command = [sys.executable, BOARD, "rows.csv.gz", "--rate", "500", *arguments]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def test_the_simulated_board_plays_the_rows_again_and_again(tmp_path: Path) -> None:
    with playing(tmp_path, "--columns", "2") as process:
        wait_until((tmp_path / "board").exists)
        with serial.Serial(str(tmp_path / "board"), timeout=10) as port:
            port.readline()
            lines = {port.readline() for _ in range(5)}
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
    assert lines == {b"1,2\r\n", b"3,4\r\n"}
    assert not (tmp_path / "board").is_symlink()


def test_the_simulated_board_sends_all_columns_to_the_port_that_it_names(tmp_path: Path) -> None:
    with playing(tmp_path, "--port", "other") as process:
        wait_until((tmp_path / "other").exists)
        with serial.Serial(str(tmp_path / "other"), timeout=10) as port:
            port.readline()
            assert port.readline() in {b"1,2,still\r\n", b"3,4,moving\r\n"}
        process.terminate()
        assert process.wait(10) == 0
    assert not (tmp_path / "other").is_symlink()

"""A sensor board that is a program: it plays the rows of a CSV file over a pseudo-terminal, one line a row.

    python3 simulated_board.py recording.csv --rate 10 --columns 3 --port ./board

It needs Python on Linux or macOS, and nothing else. ``--port`` becomes a link to the pseudo-terminal, and
programs open it as they open ``/dev/ttyUSB0``. After the last row, the board begins again. Ctrl-C or
SIGTERM ends it.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import gzip
import itertools
import os
import signal
import time
import tty
from pathlib import Path


def rows(recording: Path, columns: int | None) -> list[bytes]:
    """Return the lines that the board sends. The header of the file is left out."""
    opened = gzip.open if recording.suffix == ".gz" else open
    with opened(recording, "rt", newline="") as file:
        return [(",".join(row[:columns]) + "\r\n").encode() for row in list(csv.reader(file))[1:]]


def play(lines: list[bytes], rate: float, port: Path) -> None:
    """Send lines until the program is interrupted. What no program reads is lost, as on a real board."""
    board, far_end = os.openpty()
    tty.setraw(far_end)
    os.set_blocking(board, False)
    port.unlink(missing_ok=True)
    port.symlink_to(os.ttyname(far_end))
    print(f"{port} sends {rate:g} lines a second. Ctrl-C ends it.", flush=True)
    started = time.monotonic()
    try:
        for number, line in enumerate(itertools.cycle(lines)):
            time.sleep(max(0.0, started + number / rate - time.monotonic()))
            with contextlib.suppress(BlockingIOError):
                os.write(board, line)
    except KeyboardInterrupt:
        pass
    finally:
        port.unlink(missing_ok=True)


def main() -> None:
    """Read the command line, and play the recording."""
    parser = argparse.ArgumentParser(description="Play the rows of a CSV file over a pseudo-terminal.")
    parser.add_argument("recording", type=Path, help="CSV file with a header; it may end in .gz")
    parser.add_argument("--rate", type=float, default=10.0, help="Lines a second. Default: 10.")
    parser.add_argument("--columns", type=int, help="Send the first COLUMNS of each row. Default: all.")
    parser.add_argument("--port", type=Path, default=Path("board"), help="Link to make. Default: ./board.")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    play(rows(arguments.recording, arguments.columns), arguments.rate, arguments.port)


if __name__ == "__main__":
    main()

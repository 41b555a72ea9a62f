"""The daemon for half an hour under trouble: what grows? Writes soak.md and soak.svg in docs/explanation.

Two workers run; the sensor of one is unplugged each minute, the broker is gone for five seconds every two minutes.
The last line is one JSON object. Exit status 1 if anything grew, or a worker had to be restarted.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tests"))

from stand import SHUTTLE, Stand  # noqa: E402
from support.broker import wait_until  # noqa: E402
from support.daemon import Daemon, daemon  # noqa: E402
from support.ptys import Board  # noqa: E402

LEAST_MINUTES = 10
"""A shorter run shows that the soak works; it is no proof and writes no page."""
ALLOWED = {"own_mb": 1.0, "descriptors": 2, "threads": 0, "disk_mb": 0.3, "wal_mb": 1.05}
"""Growth from the second third of the run to the last. The write-ahead log is deleted by files of 1.05 MB."""
PEAKS = frozenset({"disk_mb", "wal_mb"})
"""What rises and falls with each outage is compared by its highest, the rest by its median."""
TITLES = {
    "own_mb": "its own memory, MB",
    "pss_mb": "memory with libraries (PSS), MB",
    "descriptors": "open files",
    "threads": "threads",
    "disk_mb": "state directory, MB",
    "wal_mb": "write-ahead log in memory, MB",
}
ROW = b"50,21,77,0,28,0,27,48,22\n"


@dataclass
class Look:
    """The daemon at one moment, all its processes together."""

    minute: float
    own_mb: float
    pss_mb: float
    descriptors: int
    threads: int
    disk_mb: float
    wal_mb: float


def look(running: Daemon, folder: Path, minute: float) -> Look | None:
    """Return ``None`` while a process is coming or going."""
    pids = [running.process.pid, *running.descendants()]
    if len(pids) != 4:
        return None
    try:
        descriptors = sum(_entries(f"/proc/{pid}/fd") for pid in pids)
        threads = sum(_entries(f"/proc/{pid}/task") for pid in pids)
        own, whole = (sum(_memory(pid, key) for pid in pids) for key in ("Pss_Anon:", "Pss:"))
    except OSError:
        return None
    return Look(minute, own, whole, descriptors, threads, *sizes(folder))


def sizes(folder: Path) -> tuple[float, float]:
    """Return the size of the state directory and of the write-ahead log in MB."""
    return _size(folder / "state"), _size(folder / "runtime")


def _size(folder: Path) -> float:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # files come and go under it
            total += path.stat().st_size if path.is_file() else 0
    return total / 1e6


def _memory(pid: int, key: str) -> float:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(text.partition(key)[2].split()[0]) * 1024 / 1e6


def _entries(folder: str) -> int:
    return sum(1 for _ in Path(folder).iterdir())


class Sensor:
    """Sends a row each 10 ms, and is unplugged for three seconds each minute."""

    def __init__(self, board: Board) -> None:
        self.unplugged = 0
        self._board = board
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        again = time.monotonic() + 60
        while not self._stopped.wait(0.01):
            if time.monotonic() >= again:
                self._board.unplug()
                self._stopped.wait(3)
                self._board.plug()
                self.unplugged += 1
                again = time.monotonic() + 60
            else:
                self._board.send(ROW)


def soak(folder: Path, minutes: float) -> tuple[list[Look], dict[str, int]]:
    """Run it; return what was seen every few seconds, and what was counted."""
    stand = Stand(folder)
    channels = [f"f{i}" for i in range(1, 10)]
    serial = f'\n[sources.board]\nkind = "serial"\nport = "{folder / "port"}"\nchannels = {json.dumps(channels)}\n'
    parts = serial, stand.pipeline("board", SHUTTLE), stand.replay("fast", 500), stand.pipeline("fast", SHUTTLE)
    looks: list[Look] = []
    outages = 0
    with stand.running(), Board(folder / "port") as board, stand.consumer() as consumer:
        (folder / "runtime").mkdir()
        with daemon(stand.configure(*parts), {"RUNTIME_DIRECTORY": str(folder / "runtime")}) as running:
            wait_until(lambda: consumer.results > 100, 30)
            sensor = Sensor(board)
            began = time.monotonic()
            outage = began + 120
            pause = min(5.0, minutes * 60 / 100)
            while (now := time.monotonic()) < began + minutes * 60:
                if now >= outage:
                    stand.broker.stop()
                    peaks = watch(folder, 5)
                    stand.broker.start()
                    outages += 1
                    outage = now + 120
                else:
                    peaks = watch(folder, pause)
                if seen := look(running, folder, (now - began) / 60):
                    seen.disk_mb, seen.wal_mb = map(max, peaks, sizes(folder))
                    looks.append(seen)
            sensor.stop()
            with contextlib.suppress(AssertionError):
                wait_until(lambda: consumer.health.get("board") is not None, 10)
            health = consumer.health["board"]
        assert isinstance(health, dict)
    return looks, {"outages": outages, "unplugged": sensor.unplugged, "restarts": int(health["restarts"])}


def watch(folder: Path, seconds: float) -> tuple[float, float]:
    """Wait; return the largest sizes meanwhile."""
    disk = wal = 0.0
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        disk, wal = map(max, (disk, wal), sizes(folder))
        time.sleep(0.25)
    return disk, wal


def growth(looks: list[Look]) -> dict[str, float]:
    """Return how much higher the last third is than the second."""
    third = len(looks) // 3
    grown = {}
    for key in TITLES:
        level = max if key in PEAKS else median
        second, last = (
            level(getattr(seen, key) for seen in part) for part in (looks[third:-third], looks[-third:])
        )
        grown[key] = round(last - second, 2)
    return grown


def plot(looks: list[Look]) -> str:
    """Return an SVG with a curve for each figure, from zero up."""
    panels = []
    for number, (key, title) in enumerate(TITLES.items()):
        values = [getattr(seen, key) for seen in looks]
        most, last = max(*values, 1e-9) * 1.1, looks[-1].minute
        points = " ".join(
            f"{50 + 420 * seen.minute / last:.1f},{100 - 80 * value / most:.1f}"
            for seen, value in zip(looks, values, strict=True)
        )
        panels.append(
            f'<g transform="translate({number % 2 * 490},{number // 2 * 130})">'
            f'<text x="50" y="14">{title}: {values[-1]:.4g} at the end, at most {max(values):.4g}</text>'
            f'<path d="M50 20V100H470" fill="none" stroke="#888"/>'
            f'<text x="44" y="104" text-anchor="end">0</text>'
            f'<text x="44" y="28" text-anchor="end">{most:.3g}</text>'
            f'<text x="470" y="116" text-anchor="end">{last:.0f} min</text>'
            f'<polyline points="{points}" fill="none" stroke="#1f6feb" stroke-width="1.5"/></g>'
        )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 980 390" font-family="sans-serif" font-size="12">'
        f'<rect width="980" height="390" fill="white"/>{"".join(panels)}</svg>\n'
    )


def page(looks: list[Look], counted: dict[str, int]) -> str:
    grown = growth(looks)
    rows = [
        f"| {title} | {getattr(looks[0], key):.4g} | {getattr(looks[-1], key):.4g} | {grown[key]:+.4g} "
        f"| {ALLOWED.get(key, '')} |"
        for key, title in TITLES.items()
    ]
    return "\n".join(
        [
            "# Soak",
            "",
            f"`make soak` on {time.strftime('%Y-%m-%d')}: {looks[-1].minute:.0f} minutes,",
            "two workers, 600 samples a second.",
            f"The sensor was unplugged {counted['unplugged']} times, the broker away {counted['outages']} times.",
            "Growth is the change from the second third of the run to the last, of all processes together.",
            "It is that of medians. The state directory and the write-ahead log rise and fall with each",
            "outage, so theirs is the growth of the highest value. Other programs also change the share of",
            "libraries, so that has no limit.",
            "",
            "The state directory reaches its height within the first outages and keeps it. It has 2.1 MB of",
            "ballast, a database whose free pages are used again, and its own log of 1 MB. The outbox's",
            "write-ahead log is in memory, as in the service. Its files of 1 MB are deleted when their",
            "content is acknowledged or on the disk.",
            "",
            "![what grew](soak.svg)",
            "",
            "| | first | last | growth | allowed |",
            "| --- | --- | --- | --- | --- |",
            *rows,
            "",
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    minutes = parser.parse_args().minutes
    with tempfile.TemporaryDirectory() as folder:
        looks, counted = soak(Path(folder), minutes)
    grown = growth(looks)
    grew = [key for key, most in ALLOWED.items() if grown[key] > most]
    if minutes >= LEAST_MINUTES:
        (ROOT / "docs/explanation/soak.md").write_text(page(looks, counted))
        (ROOT / "docs/explanation/soak.svg").write_text(plot(looks))
    print(json.dumps({"minutes": minutes, "grew": grew, "growth": grown, "last": asdict(looks[-1]), **counted}))
    return 1 if grew or counted["restarts"] else 0


if __name__ == "__main__":
    sys.exit(main())

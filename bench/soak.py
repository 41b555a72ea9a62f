"""The daemon for half an hour under trouble: what grows? Writes docs/soak.md and docs/soak.svg.

Two workers run; the sensor of one is unplugged each minute, the broker is gone for five seconds every two minutes.
The last line is one JSON object. Exit status 1 if anything grew, or a result was lost.
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

from limpet.device.host import Host  # noqa: E402
from stand import SHUTTLE, Stand  # noqa: E402
from support.broker import wait_until  # noqa: E402
from support.daemon import Daemon, daemon  # noqa: E402
from support.ptys import Board  # noqa: E402

LEAST_MINUTES = 10
"""A shorter run shows that the soak works; it is no proof and writes no page."""
ALLOWED = {"pss_mb": 1.5, "descriptors": 2, "threads": 0, "disk_mb": 1.0}
"""Growth from the second quarter of the run to the last."""
TITLES = {
    "pss_mb": "memory (PSS), MB",
    "descriptors": "open files",
    "threads": "threads",
    "disk_mb": "state directory, MB",
}
ROW = b"50,21,77,0,28,0,27,48,22\n"


@dataclass
class Look:
    """The daemon at one moment, all its processes together."""

    minute: float
    pss_mb: float
    descriptors: int
    threads: int
    disk_mb: float


def look(running: Daemon, host: Host, state: Path, minute: float) -> Look | None:
    """Return ``None`` while a process is coming or going."""
    pids = [running.process.pid, *running.descendants()]
    if len(pids) != 4:
        return None
    try:
        descriptors = sum(_entries(f"/proc/{pid}/fd") for pid in pids)
        threads = sum(_entries(f"/proc/{pid}/task") for pid in pids)
    except OSError:
        return None
    disk = sum(path.stat().st_size for path in state.rglob("*") if path.is_file())
    return Look(minute, host.pss_mb(pids) or 0.0, descriptors, threads, disk / 1e6)


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
        with daemon(stand.configure(*parts)) as running:
            wait_until(lambda: consumer.results > 100, 30)
            sensor, host = Sensor(board), Host()
            began = time.monotonic()
            outage = began + 120
            while (now := time.monotonic()) < began + minutes * 60:
                if now >= outage:
                    stand.broker.stop()
                    time.sleep(5)
                    stand.broker.start()
                    outages += 1
                    outage = now + 120
                if seen := look(running, host, folder / "state", (now - began) / 60):
                    looks.append(seen)
                time.sleep(min(5.0, minutes * 60 / 100))
            sensor.stop()
            with contextlib.suppress(AssertionError):
                wait_until(lambda: consumer.health.get("board") is not None, 10)
            health = consumer.health["board"]
        assert isinstance(health, dict)
    return looks, {"outages": outages, "unplugged": sensor.unplugged, "restarts": int(health["restarts"])}


def growth(looks: list[Look]) -> dict[str, float]:
    """Return how much the median of the last quarter is above that of the second."""
    quarter = len(looks) // 4
    return {
        key: round(
            median(getattr(seen, key) for seen in looks[-quarter:])
            - median(getattr(seen, key) for seen in looks[quarter : 2 * quarter]),
            2,
        )
        for key in ALLOWED
    }


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
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 980 260" font-family="sans-serif" font-size="12">'
        f'<rect width="980" height="260" fill="white"/>{"".join(panels)}</svg>\n'
    )


def page(looks: list[Look], counted: dict[str, int]) -> str:
    grown = growth(looks)
    rows = [
        f"| {title} | {getattr(looks[0], key):.4g} | {getattr(looks[-1], key):.4g} | {grown[key]:+.4g} "
        f"| {ALLOWED[key]} |"
        for key, title in TITLES.items()
    ]
    return "\n".join(
        [
            "# Soak",
            "",
            f"`make soak` on {time.strftime('%Y-%m-%d')}: {looks[-1].minute:.0f} minutes,",
            "two workers, 600 samples a second.",
            f"The sensor was unplugged {counted['unplugged']} times, the broker away {counted['outages']} times.",
            "Growth is from the median of the second quarter to that of the last, all processes together.",
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
        (ROOT / "docs/soak.md").write_text(page(looks, counted))
        (ROOT / "docs/soak.svg").write_text(plot(looks))
    print(json.dumps({"minutes": minutes, "grew": grew, "growth": grown, "last": asdict(looks[-1]), **counted}))
    return 1 if grew or counted["restarts"] else 0


if __name__ == "__main__":
    sys.exit(main())

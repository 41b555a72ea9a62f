"""A reader who types the commands of a page, and compares what comes with what the page shows."""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from docs.pages import ROOT
from support.shell import Shell

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from typing_extensions import Self

    from docs.pages import Block, Command
    from support.shell import Done

GOES_ON = {
    r"simulated_board\.py": r"Ctrl-C ends it",
    r"^limpet run(?!.*--once)": r"running",
    r"^limpet watch(?!.*--seconds)": r"\w",
    r"^mosquitto_sub ": r"limpet/",
    r"^python3 -m http\.server ": r"Serving HTTP",
}
"""Commands that go on until Ctrl-C, and what they write when they work."""

_ANSWERS = {
    r"serial port of the sensor.*: $": "/tmp/board",  # noqa: S108 - the board of the pages
    r"MQTT broker \[.*\]: $": "mqtt://localhost:1883",
    r"name of this device.*: $": "",
    r"path of a model.*: $": "motion-3.limpet",
    r"(?:Go on|Trust it)\? \[y/N\] $": "y",
}
"""What is typed if a command asks."""

_DATE = re.compile(r"\d{4}-\d\d-\d\dT[\d:-]+")
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")
_BOARD = ROOT / "firmware-configs" / "sensor-nodes" / "simulated_board.py"
_SHUTTLE = ROOT / "agent" / "limpet" / "demo_data" / "shuttle-1.limpet"
_ROWS = _SHUTTLE.with_name("shuttle-test.csv.gz")
_CONFIG = """
[device]
id = "press-07"
commands = ["ping", "health"]

[mqtt]
url = "mqtt://localhost:1883"

[pipelines.motion]
source = "sensor"
model = "shuttle"

[sources.sensor]
"""
_SERIAL = """kind = "serial"
port = "/tmp/board"
channels = ["f1", "f2", "f3", "f4", "f5", "f6", "f7", "f8", "f9"]
"""
_RECORDING = f"""kind = "replay"
path = "{_ROWS}"
channels = ["f1", "f2", "f3", "f4", "f5", "f6", "f7", "f8", "f9"]
rate = 10
speed = "flat-out"
"""


class Difference(Exception):  # noqa: N818 - what a page says, and what happens
    """The page shows something else than what happened."""


class Reader:
    """Reads one page in terminal windows of its own. What goes on is left running until the page has ended."""

    def __init__(self, folder: Path, variables: Mapping[str, str], places: Mapping[str, str]) -> None:
        self._variables = variables
        self._places = dict(places)
        self._windows = [Shell(folder, variables)]
        self._running: dict[Shell, str] = {}
        self.commands = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for window in self._windows:
            window.__exit__()

    def read(self, block: Block) -> None:
        """Type the commands of a block. ``Difference``, ``AssertionError`` if the page says something else."""
        status = 0
        for key, value in block.notes:
            if key == "first":
                self._run(value, 0)
            elif key == "with":
                self._provide(value)
            elif key == "meanwhile":
                self._start_aside(self._window.folder, value, r"\w")
                time.sleep(3)  # until it listens
            elif key == "stop":
                self._stop(value)
            elif key == "status":
                status = int(value)
        for command in block.commands:
            self.commands += 1
            self._type(command, status if command is block.commands[-1] else 0)

    def _type(self, command: Command, status: int) -> None:
        sign = next((text for sign, text in GOES_ON.items() if re.search(sign, command.text)), "")
        if sign:
            self._start(command.text, sign)
            written = self._window.output
            self._open_window()
        else:
            written = self._run(command.text, status).text
        # The names of recordings have dates. Later commands are typed with those that came.
        self._places |= compare([self._placed(line) for line in command.output], written)

    @property
    def _window(self) -> Shell:
        """The window that is typed into, the newest one."""
        return self._windows[-1]

    def _start(self, command: str, sign: str) -> None:
        print(f"  $ {command}", flush=True)
        self._running[self._window] = command
        self._window.start(self._placed(command), sign)

    def _run(self, command: str, status: int) -> Done:
        print(f"  $ {command}", flush=True)
        answers = {question: self._placed(answer) for question, answer in _ANSWERS.items()}
        done = self._window.run(self._placed(command), 180, answers)
        if done.status != status:
            raise Difference(f"{command}: exit status {done.status}, not {status}:\n{done.text}")
        return done

    def _open_window(self) -> None:
        """Open another window. It begins in the same folder, as the tabs of a terminal do."""
        self._windows.append(Shell(self._window.folder, self._variables))

    def _stop(self, text: str) -> None:
        """Press Ctrl-C in a window, and go on there."""
        window = next(window for window, command in self._running.items() if text in command)
        del self._running[window]
        window.interrupt()
        self._windows.remove(window)
        self._windows.append(window)

    def _provide(self, what: str) -> None:
        """Make what the page says that the reader has. Programs run in windows that are not the page's."""
        folder = self._window.folder
        if what != "board":
            store = Path(self._variables["STATE_DIRECTORY"]) / "models"
            store.mkdir(parents=True)
            shutil.copyfile(_SHUTTLE, store / "shuttle-1.limpet")
            source = _RECORDING if what == "recording" else _SERIAL
            (folder / "limpet.toml").write_text(self._placed(_CONFIG + source))
        if what in {"board", "daemon"}:
            self._start_aside(ROOT, f"python3 {_BOARD} {_ROWS} --columns 9 --port /tmp/board", "Ctrl-C")
        if what == "daemon":
            self._start_aside(folder, "limpet run", "running")

    def _start_aside(self, folder: Path, command: str, sign: str) -> None:
        self._windows.insert(0, Shell(folder, self._variables))
        self._windows[0].start(self._placed(command), sign)
        self._running[self._windows[0]] = command

    def _placed(self, text: str) -> str:
        for place, here in self._places.items():
            text = text.replace(place, here)
        return text


def compare(expected: Sequence[str], written: str) -> dict[str, str]:
    """Return the dates that came, by those of the page. ``Difference`` if a line of the page did not come.

    ``...`` stands for anything, dates differ, and numbers may differ by a tenth.
    """
    dates: dict[str, str] = {}
    for line in expected:
        came = next((other for other in written.splitlines() if _is_like(line, other)), None)
        if came is None:
            raise Difference(f"the page shows {line!r}; what came:\n{written}")
        dates |= dict(zip(_DATE.findall(line), _DATE.findall(came), strict=False))
    return dates


def _is_like(shown: str, written: str) -> bool:
    shown, written = (" ".join(_DATE.sub("DATE", text).split()) for text in (shown, written))
    pattern = _NUMBER.sub("NUMBER", shown)
    parts = (re.escape(part).replace("NUMBER", f"({_NUMBER.pattern})") for part in pattern.split("..."))
    match = re.fullmatch(".*".join(parts), written)
    return bool(match) and all(
        abs(_value(here) - _value(there)) <= 0.1 * abs(_value(there))
        for here, there in zip(match.groups(), _NUMBER.findall(shown), strict=True)
    )


def _value(number: str) -> float:
    return float(number.replace(",", ""))

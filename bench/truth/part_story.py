"""Two stories, from the alarm to the new model: a real daemon, broker, sensor board and bundles of limpet-convert.

    remounted  the sensor is turned: two of its axes change places, of acceleration and of rotation
    new_class  a fourth motion comes, which the model did not learn

The data are real: motions of a wrist (BasicMotions; aeon). A simulated board plays recordings one after the
other, drawn at random, into a pseudo-terminal, ``SPEED`` times as fast as they were taken. Half of the recordings
make the first model; the other half is played.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from drift_data import series

from limpet.captures import ring
from limpet.sources.framings import cobs

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))
# ruff: noqa: E402 - the tests' folder must be on the path first
from support.broker import mosquitto, wait_until
from support.caller import caller
from support.daemon import Consumer, daemon
from support.ptys import Board

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from limpet.contracts.data import Array
    from support.caller import Caller
    from support.daemon import Daemon

CONVERT = ROOT / ".venv-convert" / "bin" / "python"
CHANNELS = ["ax", "ay", "az", "gx", "gy", "gz"]
LABELS = ["badminton", "running", "standing", "walking"]
NEW = "badminton"
TURNED = [2, 1, 0, 5, 4, 3]
"""The channels of the turned sensor: x and z have changed places."""
SPEED = 40
RATE = 10 * SPEED
SIZE = 20
QUIET = 1500
"""Windows before the change, and at least after the new model took over. If the alarm came later, so many more."""
LABELLED = 300
"""Captures that get a truth before the model is trained again."""
PATIENCE = 120.0
CONFIG = """
[device]
id = "press-07"
state = "state"
health_interval = 0.5
commands = ["promote"]

[mqtt]
url = "{url}"

[updates]

[governor]
busy = 1.0
down_after = 3600

[sources.imu]
kind = "serial"
port = "{port}"
baud = 921600
framing = "cobs"
rate = {rate}
channels = ["ax", "ay", "az", "gx", "gy", "gz"]

[pipelines.motion]
source = "imu"
model = "{model}"
keep = {{ drifted = 200, audit = 10, per_hour = 100000 }}
monitors = {{ share = 1.0 }}
"""


@dataclass
class Recording:
    """One recording, ``(samples, channels)``, and its motion."""

    values: Array
    label: str


@dataclass
class Wrist:
    """A board that plays recordings in random order. ``truths``: the recording and motion of each sample sent."""

    board: Board
    recordings: list[Recording]
    truths: list[tuple[int, str]] = field(default_factory=list)
    _ends: threading.Event = field(default_factory=threading.Event)

    def start(self) -> threading.Thread:
        """Begin to play."""
        thread = threading.Thread(target=self._play)
        thread.start()
        return thread

    def stop(self) -> None:
        """Play no more."""
        self._ends.set()

    def _play(self) -> None:
        random, began, played = np.random.default_rng(16), time.monotonic(), 0
        while not self._ends.is_set():
            one = self.recordings[int(random.integers(len(self.recordings)))]
            for row in one.values:
                number = len(self.truths)
                self.truths.append((played, one.label))
                clock = round(number * 1e6 / RATE) % 2**32
                self.board.send(cobs.encode(row[np.newaxis], number % 65536, clock))
                time.sleep(max(0.0, began + (number + 1) / RATE - time.monotonic()))
            played += 1

    def truth(self, sample: int) -> str | None:
        """Return the motion of the window that ends with a sample, ``None`` if it is of two recordings."""
        seen = set(self.truths[max(0, sample - SIZE + 1) : sample + 1])
        return next(iter(seen))[1] if len(seen) == 1 else None


@dataclass(frozen=True)
class Story:
    """What was seen. Delays and counts are in windows."""

    before: int
    """Windows before the change."""
    false_alarms: int
    """Alarms in them."""
    delay: int
    """Windows from the change to the first alarm."""
    monitors: list[str]
    moved: list[str]
    captured: dict[str, int]
    """Captures after the change, by their first reason."""
    labelled: int
    counted: int
    """Truths that health counted as feedback before the model was trained again."""
    unsure: int
    """Captures of two recordings: these got no truth."""
    accuracy: tuple[float, float, float]
    """Before the change, after it, and of the new model."""
    agreement: float
    """Of both models in the shadow."""
    compared: int
    cleared: bool
    after: int
    """Windows that the new model saw."""
    alarms_after: int
    faults: tuple[int, int]
    """Alarms that name a fault of the sensor, before the change and since. There is none, so these are false."""

    @property
    def figures(self) -> dict[str, Any]:
        """As JSON has them."""
        before, drifted, after = (round(one, 4) for one in self.accuracy)
        return {
            "windows_before": self.before,
            "false_alarms": self.false_alarms,
            "delay_windows": self.delay,
            "monitors": self.monitors,
            "captured": self.captured,
            "labelled": self.labelled,
            "counted_as_feedback": self.counted,
            "accuracy_before": before,
            "accuracy_drifted": drifted,
            "accuracy_after": after,
            "shadow_windows": self.compared,
            "shadow_agreement": round(self.agreement, 4),
            "cleared": self.cleared,
            "windows_after": self.after,
            "alarms_after": self.alarms_after,
            "false_fault_alarms": sum(self.faults),
        }


def measure() -> tuple[dict[str, Any], str]:
    """Return the figures, and the section of the page."""
    known, held = recordings()
    turned = [Recording(one.values[:, TURNED], one.label) for one in held]
    stories = {
        "remounted": tell(known, held, turned, keep_old=False),
        "new_class": tell(without(known), without(held), held, keep_old=True),
    }
    return {"story": {name: one.figures for name, one in stories.items()}}, section(stories)


def recordings() -> tuple[list[Recording], list[Recording]]:
    """Return the recordings that make the first model, and those that are played."""
    found, classes = series("BasicMotions")
    every = [
        Recording(np.asarray(one, np.float32).T, LABELS[label]) for one, label in zip(found, classes, strict=True)
    ]
    return every[::2], every[1::2]


def without(of: Sequence[Recording]) -> list[Recording]:
    """Return the recordings of the motions that the first model knows."""
    return [one for one in of if one.label != NEW]


def tell(known: list[Recording], usual: list[Recording], changed: list[Recording], *, keep_old: bool) -> Story:
    """Play a story. ``keep_old``: the new model learns from the old recordings, too."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        write(known, folder / "recordings")
        first = train(folder / "recordings", folder / "build")
        with mosquitto(folder / "broker") as broker, Board(folder / "board") as board:
            path = folder / "limpet.toml"
            path.write_text(CONFIG.format(url=broker.url, port=board.path, rate=RATE, model=first))
            consumer, wrist = Consumer(broker.port), Wrist(board, usual)
            with caller(broker.port) as operator, daemon(path) as running:
                try:
                    board.wait_opened()
                    player = wrist.start()
                    return _play(folder, running, consumer, operator, wrist, changed, keep_old=keep_old)
                finally:
                    wrist.stop()
                    player.join()
                    consumer.close()


def _play(  # noqa: PLR0913, PLR0917 - all that takes part in a story
    folder: Path,
    running: Daemon,
    consumer: Consumer,
    operator: Caller,
    wrist: Wrist,
    changed: list[Recording],
    *,
    keep_old: bool,
) -> Story:
    """Go through the steps of a story. Each waits for what it wants to see."""
    _until("windows before the change", lambda: len(consumer.results("motion")) >= QUIET)
    before = consumer.results("motion")
    false_alarms, faults = len(_alarms(consumer)), len(_faults(consumer))
    at, wrist.recordings = len(wrist.truths), changed
    _until("an alarm", lambda: len(_alarms(consumer)) > false_alarms)
    alarm = _alarms(consumer)[false_alarms]
    delay = sum(one["sample"] >= at and one["time"] <= alarm["time"] for one in consumer.results("motion"))
    root = folder / "state" / ring.CAPTURES
    _until("captures", lambda: sum(one.capture.sample >= at for one in ring.entries(root, "motion")) > LABELLED)
    kept = [one for one in ring.entries(root, "motion") if one.capture.sample >= at]
    found = [one.capture for one in kept]
    labelled = label(folder, wrist, kept)
    _until("feedback", lambda: _answers(consumer) > 0)
    counted = _answers(consumer)
    new = folder / "new"
    run(sys.executable, "-m", "limpet", "captures", "export", new, folder / "state", "--pipeline", "motion")
    if keep_old:
        add(folder / "recordings", new)
    drifted = [one for one in consumer.results("motion") if one["sample"] >= at]
    bundle = train(new, folder / "build")
    request(folder, running, bundle)
    _until("a shadow", lambda: _stage(consumer) == "shadow" and _compared(consumer))
    _until("its end", lambda: _compared(consumer).get("windows", 0) >= 200)
    compared = _compared(consumer)
    promote(operator, consumer, "shadow", "trial")
    _until(
        "results of the new model", lambda: sum(one["version"] == 2 for one in consumer.results("motion")) > 200
    )
    promote(operator, consumer, "trial", "good")
    taken = len(_alarms(consumer))
    _until("windows of the new model", lambda: len(_of_new(consumer)) >= max(QUIET, delay))
    after = _of_new(consumer)
    alarms_after, faults_after = len(_alarms(consumer)) - taken, len(_faults(consumer)) - faults
    health = consumer.last("health/motion")["monitors"]
    captured: dict[str, int] = {}
    for one in found:
        captured[one.reasons[0]] = captured.get(one.reasons[0], 0) + 1
    return Story(
        before=len(before),
        false_alarms=false_alarms,
        delay=delay,
        monitors=sorted({one["details"]["monitor"] for one in _alarms(consumer)[false_alarms:taken]}),
        moved=[one["name"] for one in alarm["details"]["moved"]][:3],
        captured=captured,
        labelled=labelled,
        counted=counted,
        unsure=len(found) - labelled,
        accuracy=(right(before, wrist), right(drifted, wrist), right(after, wrist)),
        agreement=compared["agreement"],
        compared=compared["windows"],
        cleared=not any(one["alarm"] and not one["alarm"]["fault"] for one in health["monitors"].values()),
        after=len(after),
        alarms_after=alarms_after,
        faults=(faults, faults_after),
    )


def _until(what: str, condition: Callable[[], object]) -> None:
    print(f"  story: waits for {what}", time.strftime("%X"), file=sys.stderr, flush=True)
    try:
        wait_until(condition, PATIENCE)
    except AssertionError:
        raise AssertionError(f"the story did not see: {what}") from None


def _new(consumer: Consumer) -> list[dict[str, Any]]:
    return [one for one in consumer.events("motion", "drift") if one["details"]["type"] == "new"]


def _alarms(consumer: Consumer) -> list[dict[str, Any]]:
    """Return the alarms about data that changed. Those that name a fault of the sensor find nothing here."""
    return [one for one in _new(consumer) if not one["details"].get("fault")]


def _faults(consumer: Consumer) -> list[dict[str, Any]]:
    return [one for one in _new(consumer) if one["details"].get("fault")]


def _of_new(consumer: Consumer) -> list[dict[str, Any]]:
    return [one for one in consumer.results("motion") if one["version"] == 2]


def _answers(consumer: Consumer) -> int:
    """Return how many answers of the review health counts."""
    accuracy = consumer.last("health/motion")["accuracy"]
    if not accuracy:
        return 0
    chosen = accuracy.get("chosen") or {"answers": 0}
    return int(accuracy["all"]["answers"] + chosen["answers"])


def _update(consumer: Consumer) -> dict[str, Any]:
    said = consumer.last("model/motion/reported")
    return (said and said["update"]) or {}


def _compared(consumer: Consumer) -> dict[str, Any]:
    return _update(consumer).get("compared") or {}


def _stage(consumer: Consumer) -> str:
    stage = str(_update(consumer).get("stage", ""))
    if stage in {"failed", "rolled_back"}:
        raise RuntimeError(f"the update is {stage}: {_update(consumer).get('reason')}")
    return stage


def promote(operator: Caller, consumer: Consumer, stage: str, following: str) -> None:
    """End a stage of the update by command."""
    _until(stage, lambda: _stage(consumer) == stage)
    answer = operator.call("promote", pipeline="motion")
    if not answer["ok"]:
        raise RuntimeError(f"promote: {answer}")
    _until(following, lambda: _stage(consumer) == following)


def label(folder: Path, wrist: Wrist, captures: Sequence[ring.Entry]) -> int:
    """Have ``limpet review`` keep the truth of captures, by a script. Return how many have one."""
    truths = [(one.capture.name, wrist.truth(one.capture.sample)) for one in captures]
    lines = [json.dumps({"capture": name, "truth": truth}) for name, truth in truths if truth is not None]
    script = folder / "answers.jsonl"
    script.write_text("\n".join(lines))
    run(sys.executable, "-m", "limpet", "review", folder / "state", "--pipeline", "motion", "--answers", script)
    return len(lines)


def right(results: Sequence[dict[str, Any]], wrist: Wrist) -> float:
    """Return the share of results that are right, of windows of one recording."""
    judged = [(one["output"]["label"], wrist.truth(one["sample"])) for one in results]
    return float(np.mean([said == truth for said, truth in judged if truth is not None]))


def write(of: Sequence[Recording], folder: Path) -> None:
    """Write recordings as ``limpet record`` does, as fast as they are played."""
    folder.mkdir()
    described = []
    for number, one in enumerate(of):
        table = np.column_stack([np.arange(len(one.values)) / RATE, one.values])
        name, seconds = f"old-{number:03d}.csv", len(one.values) / RATE
        np.savetxt(folder / name, table, "%.6g", ",", header=",".join(["time", *CHANNELS]), comments="")
        described.append(
            {
                "file": name,
                "source": "imu",
                "kind": "serial",
                "channels": CHANNELS,
                "rate": RATE,
                "samples": len(one.values),
                "seconds": seconds,
                "started": "2026-11-01T00:00:00Z",
                "spans": [{"label": one.label, "begin": 0.0, "end": seconds}],
            }
        )
    (folder / "recordings.json").write_text(json.dumps({"format": 1, "recordings": described}))


def add(old: Path, new: Path) -> None:
    """Add the recordings of a folder to another one."""
    described = [json.loads((one / "recordings.json").read_text())["recordings"] for one in (new, old)]
    for one in described[1]:
        (new / one["file"]).write_bytes((old / one["file"]).read_bytes())
    (new / "recordings.json").write_text(json.dumps({"format": 1, "recordings": described[0] + described[1]}))


def train(folder: Path, output: Path) -> Path:
    """Train with ``limpet-convert``; return the bundle, which has the next version."""
    run(
        *(CONVERT, "-m", "limpet_convert", "train", folder, "--name", "motion", "--output", output),
        *("--window", str(SIZE), "--budget", "10"),
    )
    return max(output.glob("motion-*.limpet"), key=lambda one: int(one.stem.partition("-")[2]))


def run(*words: object) -> str:
    """Run a command; return what it prints."""
    paths = os.pathsep.join(str(ROOT / one) for one in ("agent", "converters"))
    done = subprocess.run(
        [str(word) for word in words],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{words}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def request(folder: Path, running: Daemon, bundle: Path) -> None:
    """Request an update as ``limpet model install`` does: a shadow and a trial that a person ends."""
    data = bundle.read_bytes()
    requests = folder / "state" / "requests"
    requests.mkdir(exist_ok=True)
    (requests / "motion.limpet").write_bytes(data)
    wanted = {
        "model": "motion",
        "version": int(bundle.stem.partition("-")[2]),
        "sha256": hashlib.sha256(data).hexdigest(),
        "length": len(data),
        "policy": {"promote": "operator", "shadow_windows": 200, "trial_windows": 20},
    }
    (requests / "new").write_text(json.dumps({"order": "update", "desired": wanted}))
    (requests / "new").replace(requests / "motion.json")
    running.signal(signal.SIGHUP)


def section(stories: dict[str, Story]) -> str:
    """Return the section of the page."""
    named = {"remounted": "The sensor is remounted", "new_class": "A new class comes"}
    return "\n".join([HEAD, *(_told(named[name], one) for name, one in stories.items())])


def _told(name: str, one: Story) -> str:
    before, drifted, after = one.accuracy
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(one.captured.items()))
    cleared = "No alarm holds at the end." if one.cleared else "An alarm still holds at the end."
    return f"""### {name}

1. In {one.before} windows before the change, the model is right in {before:.1%}. Drift alarms: {one.false_alarms}.
2. The first alarm comes {one.delay} windows after the change: {", ".join(one.moved)}. These monitors raise alarms
   until the new model is there: {", ".join(one.monitors)}. The model is right in {drifted:.1%}.
3. Limpet keeps {sum(one.captured.values())} windows: {reasons}.
4. `limpet review` takes the truth of {one.labelled} captures from a script. The daemon has counted
   {one.counted} of them as feedback when the training begins. {one.unsure} have two motions, and get none.
5. `limpet captures export` and `limpet-convert train` make a new model of them.
6. It runs as a shadow in {one.compared} windows. Both models agree in {one.agreement:.1%}. The command `promote`
   ends shadow and trial.
7. In {one.after} windows the new model is right in {after:.1%}. New drift alarms: {one.alarms_after}. {cleared}

Alarms that name a fault of the sensor do not count above. There are {one.faults[0]} before the change and
{one.faults[1]} after it. They are false: the times of the simulated board vary with the load of the machine.
"""


HEAD = f"""## From the alarm to the new model

A real daemon runs a model that `limpet-convert train` made of recordings of a wrist's motions (BasicMotions).
Other recordings of the same motions are played in random order into a serial port, {SPEED} times as fast as they
were taken. Then something changes. In the first story the sensor is turned: x and z change places. In the second
story a motion comes that the model has not learned. It stands for a new fault.

Monitors may take as much time as the pipeline here, so that the story is short. By default they may take 5 %. The
first story was played so on a busy machine. The monitors looked at a fifth of the windows, and the alarm came
after 19,753 windows. The reference has 40 recordings, so its thresholds are high. The change is only just above
them.

The new model learned from parts of the recordings that are played afterwards. Its accuracy here says nothing about
others.
"""

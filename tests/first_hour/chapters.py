"""The chapters of a maker's first hour. Each types what its page in the documentation says."""

from __future__ import annotations

import contextlib
import csv
import json
import re
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from first_hour import motions
from first_hour.board import RATE, board
from support import shuttle
from support.broker import listener, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from first_hour.board import MovingBoard
    from first_hour.maker import Maker, Window
    from support.broker import Listener, Mosquitto

WRONG = "0.01,-0.02,9.81"
LEARNED_FROM = 2000
MEASURED_ON = 4000
INTERRUPTED = 0
_STATE = "--state limpet-state"
"""The default of a person who is not root. The one who runs this may be."""
_PATH = "export PATH=~/limpet/bin:$PATH"


def install(maker: Maker, checkout: Path) -> None:
    """README, "Install"."""
    maker.chapter("Install Limpet from a clone")
    with maker.window() as window:
        window.run(f"git clone --quiet {checkout} limpet-clone")
        window.run("cd limpet-clone")
        window.run("python3 -m venv ~/limpet")
        window.run("~/limpet/bin/pip install --quiet '.[watch]'", timeout=600)
        window.run("~/limpet/bin/limpet --version")


def connect_a_wrong_board(maker: Maker, folder: Path, broker: Mosquitto) -> bool:
    """Connect a board with three values to a model with nine; return whether each place says so."""
    maker.chapter("A board that does not fit the model")
    port = folder / "board"
    said: list[str] = []
    with maker.window() as window, board(port) as sensor, listener(broker.port) as client:
        sensor.move([WRONG])
        maker.note(
            f"a board sends three values, such as {WRONG}, at {RATE:g} lines a second; the model has nine inputs"
        )
        window.run(_PATH)
        window.run("mkdir ~/shuttle && cd ~/shuttle")
        window.run("cp ~/limpet-clone/agent/limpet/demo_data/shuttle-1.limpet .")
        init = f"limpet init --id press-07 --port {port} --model shuttle-1.limpet --url {broker.url} {_STATE}"
        said.append(window.run(init, status=78))
        maker.note("no file was written; with --framing, init does not listen, as if the board were not there yet")
        assert not (maker.home / "shuttle" / "limpet.toml").exists()
        window.run(f"{init} --framing csv")
        window.run("limpet check")
        said.append(window.run("limpet doctor", status=1))
        window.start("limpet run", r"3 numbers")
        wait_until(lambda: _reasons(client), 30)
        said.append(window.interrupt(INTERRUPTED))
        said += _reasons(client)[-1:]
        maker.note(f"MQTT, health/shuttle: {said[-1]}")
    return all(_names_both_numbers(text) for text in said)


def _reasons(client: Listener) -> list[str]:
    messages = [message.json for message in client.on("health/shuttle") if message.payload]
    return [message["reason"] for message in messages if "numbers" in message["reason"]]


def _names_both_numbers(text: str) -> bool:
    """Whether a text says that three numbers come, and that nine are wanted."""
    joined = " ".join(text.split())
    return bool(re.search(r"sends 3 numbers a line\. The (model needs|channels are) 9\b", joined))


def record(maker: Maker, folder: Path, converters: Path) -> None:
    """docs/how-to/record-and-label.md: a training session with keys, and a test session with --label."""
    port = folder / "board"
    channels = ",".join(motions.CHANNELS)
    arguments = f"--port {port} --channels {channels}"
    training, test = motions.read(converters, "TRAIN"), motions.read(converters, "TEST")
    with maker.window() as window, board(port) as sensor:
        window.run(_PATH)
        window.run("mkdir ~/motion && cd ~/motion")
        maker.chapter("Record a training session: five recordings, labels by key")
        for number in range(5):
            sensor.move([motions.REST])
            command = f"limpet record {arguments} --output training --labels {','.join(motions.LABELS)}"
            window.start(command, r"Recording port")
            for key, label in enumerate(motions.LABELS, 1):
                _move(
                    window,
                    sensor,
                    key,
                    [row for made in training[label][2 * number : 2 * number + 2] for row in made],
                )
            window.press("q")
            window.wait_end()
        window.run("limpet label training --list")
        maker.chapter("Record a test session: one recording for each class, labels by option")
        for label in motions.LABELS:
            rows = [row for made in test[label] for row in made]
            sensor.move(rows)
            window.run(f"limpet record {arguments} --output test --label {label} --seconds {len(rows) / RATE:g}")
        window.run("limpet label test --list")


def _move(window: Window, sensor: MovingBoard, key: int, rows: list[str]) -> None:
    """Make a motion, and press its key for most of the time."""
    sensor.move(rows)
    time.sleep(0.1)
    window.press(str(key))
    time.sleep(len(rows) / RATE)
    window.press("0")
    time.sleep(0.1)


def train(maker: Maker, converters: Path) -> None:
    """docs/how-to/train.md."""
    maker.chapter("Train a model of the training session")
    with maker.window() as window:
        window.run("cd ~/limpet-clone")
        window.run(f"{converters}/bin/python -m venv ~/workstation")
        (site,) = (maker.home / "workstation").glob("lib/python3*/site-packages")
        (packages,) = converters.glob("lib/python3*/site-packages")
        (site / "converters.pth").write_text(f"{packages}\n")
        maker.note("PyTorch comes from the checkout's .venv-convert, so that 4 GB are not downloaded again")
        window.run("~/workstation/bin/pip install --quiet '.[convert-torch]'", timeout=600)
        window.run("cd ~/motion")
        window.run("~/workstation/bin/limpet-convert train training", timeout=600)


def run(maker: Maker, folder: Path, broker: Mosquitto) -> float:
    """Run the model on the test session; return the share of its windows that the daemon recognised."""
    maker.chapter("Run the model on the board, and see the class")
    port = folder / "board"
    session = Session(maker.home / "motion" / "test")
    with contextlib.ExitStack() as stack:
        window, other = stack.enter_context(maker.window()), stack.enter_context(maker.window())
        sensor = stack.enter_context(board(port))
        client = stack.enter_context(listener(broker.port, "#"))
        sensor.move(session.rows)
        for one in window, other:
            one.run(_PATH)
            one.run("cd ~/motion")
        init = f"limpet init --id wrist-1 --port {port} --model build/motion-1.limpet --url {broker.url} {_STATE}"
        window.run(init)
        window.run(r"printf '\n[mqtt.dialects.json]\n\n[mqtt.dialects.homeassistant]\n' >> limpet.toml")
        window.run("limpet check")
        window.run("limpet doctor")
        shown = json.loads(window.run("limpet inspect build/motion-1.limpet --json", shown=False))
        size, hop = (shown["manifest"]["window"][key] for key in ("size", "hop"))
        sensor.rest()
        window.start("limpet run", "waiting")
        other.start("limpet watch --plain", "motion")
        sensor.move_once(session.rows, 60)
        wait_until(lambda: len(_results(client, "motion")) > (len(session.rows) - size) // hop, 60)
        other.interrupt(0)
        window.interrupt(INTERRUPTED)
        _see_home_assistant(maker, client)
        results = _results(client, "motion")
    _require_all_samples(client, "motion")
    return session.accuracy(maker, results, size)


class Session:
    """A folder of recordings, in the order in which they were made. ``rows``: lines of CSV without the time."""

    def __init__(self, folder: Path) -> None:
        self.rows: list[str] = []
        self._labels: list[tuple[int, str] | None] = []
        described = json.loads((folder / "recordings.json").read_text())
        for number, recording in enumerate(described["recordings"]):
            with (folder / recording["file"]).open(newline="") as file:
                for time_text, *values in list(csv.reader(file))[1:]:
                    at = float(time_text)
                    found = [span["label"] for span in recording["spans"] if span["begin"] <= at < span["end"]]
                    self.rows.append(",".join(values))
                    self._labels.append((number, found[0]) if found else None)

    def accuracy(self, maker: Maker, results: list[dict[str, Any]], size: int) -> float:
        """Return the share of right labels, of the windows that lie wholly in one span."""
        counts: Counter[tuple[str, bool]] = Counter()
        for result in results:
            end = result["sample"] + 1
            within = set(self._labels[end - size : end])
            if len(within) == 1 and (span := within.pop()):
                counts[span[1], result["output"]["label"] == span[1]] += 1
        for label in motions.LABELS:
            right, wrong = counts[label, True], counts[label, False]
            assert right + wrong, f"no window of {label}"
            maker.note(f"MQTT, result/motion: {right} of {right + wrong} windows of {label} were recognised")
        right = sum(count for (_, good), count in counts.items() if good)
        return right / counts.total()


def _see_home_assistant(maker: Maker, client: Listener) -> None:
    """Require that Home Assistant got an entity with the class, and saw each of the classes in it."""
    (label,) = [
        entity
        for message in list(client.messages)
        if message.topic.startswith("homeassistant/device/") and message.payload
        for entity in message.json["components"].values()
        if "fields" in entity.get("value_template", "") and "label" in entity["value_template"]
    ][-1:]
    states = [message.json["fields"] for message in list(client.messages) if message.topic == label["state_topic"]]
    seen = sorted({str(state["label"]) for state in states})
    assert set(seen) >= set(motions.LABELS), f"Home Assistant saw {seen}"
    maker.note(f"Home Assistant has the entity {label['name']!r}, and saw in it: {', '.join(seen)}")


def learn_what_is_normal(maker: Maker, folder: Path, broker: Mosquitto) -> float:
    """docs/tutorials/know-a-machines-normal.md; return the area under the ROC curve for the later rows."""
    maker.chapter("Learn what is normal, without a model")
    port = folder / "board"
    rows, anomalous = shuttle.rows(LEARNED_FROM + MEASURED_ON)
    with maker.window() as window, board(port) as sensor, listener(broker.port) as client:
        sensor.move(rows)
        maker.note(
            f"the board sends telemetry; {anomalous[:LEARNED_FROM].mean():.1%} of the first rows are anomalies"
        )
        window.run(_PATH)
        window.run("mkdir ~/normal && cd ~/normal")
        window.run(
            f"limpet init --anomaly --learn {LEARNED_FROM} --window 1 --name machine --id press-08"
            f" --port {port} --url {broker.url} {_STATE}"
        )
        window.run("limpet check")
        sensor.rest()
        window.start("limpet run", "waiting")
        sensor.move_once(rows, 60)
        wait_until(lambda: _results(client, "machine")[-1]["sample"] == len(rows) - 1, 60)
        window.interrupt(INTERRUPTED)
    _require_all_samples(client, "machine")
    results = _results(client, "machine")
    later = [result for result in results if not result["output"]["untrained"]]
    assert len(later) == MEASURED_ON
    maker.note(f"MQTT, result/machine: {len(later)} results of rows that the model did not learn from")
    return shuttle.area_of_results(results, anomalous)


def _results(client: Listener, pipeline: str) -> list[dict[str, Any]]:
    """Return the results that came over MQTT, those of Home Assistant's dialect left out."""
    found: list[dict[str, Any]] = []
    for message in client.on(f"result/{pipeline}"):
        content = message.json
        found += content if isinstance(content, list) else [content]
    return found


def _require_all_samples(client: Listener, pipeline: str) -> None:
    """Require that the daemon got each line that the board sent: the ordinals of samples are those of lines."""
    last = [message.json for message in client.on(f"health/{pipeline}") if message.payload][-1]
    dropped = {cause: count for cause, count in last["dropped"].items() if count and cause != "partial"}
    assert not dropped, dropped

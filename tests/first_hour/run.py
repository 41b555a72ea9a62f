"""``make first-hour``: plays a maker from a fresh clone in an empty home to a model that recognises motions.

The maker types what the documentation says, in terminal windows. Beside the terminal there are a board, which
sends recorded sensor data, and an MQTT client, which computes the figures. The last line is one JSON object.
Exit status 1 if a figure misses its threshold, or a page of the documentation is wrong.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from first_hour import chapters
from first_hour.maker import Maker
from support.broker import mosquitto

ROOT = Path(__file__).parents[2]


def prose_findings() -> int:
    """Return the number of places that break the house style."""
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "prose.py"], capture_output=True, text=True, check=False
    )
    if done.returncode not in {0, 1}:
        raise SystemExit(done.stderr)
    found = re.search(r"^(\d+) findings", done.stderr, re.MULTILINE)
    return int(found[1]) if found else 0


def read_docs(converters: Path) -> tuple[int, bool]:
    """Type all commands of the documentation; return how many ran, and whether all pages are right."""
    command = [sys.executable, ROOT / "tests" / "docs" / "run.py", "--converters", converters]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        last = ""
        for last in process.stdout:
            print(last, end="", flush=True)
    return int(json.loads(last)["docs_commands_run"]), process.returncode == 0


def play(folder: Path, converters: Path) -> dict[str, float | bool]:
    """Play the hour in a folder, and return its figures. ``converters``: the environment with the frameworks."""
    home = folder / "home"
    home.mkdir()
    maker = Maker(home)
    with mosquitto(folder / "broker") as broker:
        chapters.install(maker, ROOT)
        wrong = chapters.connect_a_wrong_board(maker, folder, broker)
        chapters.record(maker, folder, converters)
        chapters.train(maker, converters)
        accuracy = chapters.run(maker, folder, broker)
        area = chapters.learn_what_is_normal(maker, folder, broker)
    return {
        "seconds": round(maker.seconds, 1),
        "commands": maker.commands,
        "accuracy": round(accuracy, 4),
        "diagnosed_wrong_channels": wrong,
        "anomaly_auc": round(area, 4),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Play a maker's first hour.")
    parser.add_argument(
        "--converters", type=Path, default=ROOT / ".venv-convert", help="Environment with PyTorch and the data."
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="limpet-first-hour-") as folder:
        figures = play(Path(folder), arguments.converters.absolute())
    print("\nType the commands of the documentation", flush=True)
    figures["docs_commands_run"], right = read_docs(arguments.converters)
    figures["prose_findings"] = prose_findings()
    print(json.dumps(figures))
    good = figures["accuracy"] >= 0.95 and figures["anomaly_auc"] >= 0.95 and figures["diagnosed_wrong_channels"]
    return 0 if good and right else 1


if __name__ == "__main__":
    sys.exit(main())

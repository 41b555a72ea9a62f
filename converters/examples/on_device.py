"""What the agent makes of a bundle: its golden vectors, and `limpet run` on a recording. Prints one JSON object.

Needs the agent only, so that it runs on each TFLite runtime in that runtime's environment.
"""

import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from limpet.models import bundle, golden
from limpet.runtimes import tflite

CONFIG = """
[device]
id = "bench"
state = "{folder}"
[jsonl]
path = "{folder}/results.jsonl"
[sources.recording]
kind = "replay"
path = "{recording}"
speed = "flat-out"
channels = {channels}
[pipelines.example]
source = "recording"
model = "{model}"
"""
PATIENCE = 60.0


def main() -> None:
    """Take a bundle, a recording, the number of windows in it and the names of its channels as JSON."""
    model, recording, windows, channels = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text = CONFIG.format(folder=folder, recording=recording, model=model, channels=channels)
        (folder / "limpet.toml").write_text(text)
        found = {"golden_of_tolerance": share(model, folder), "results": run(folder, windows)}
    print(json.dumps(found))


def share(model: Path, cache: Path) -> float:
    """Return how far the outputs are from the golden ones, as a share of the bundle's tolerance."""
    loaded = bundle.load(model, cache)
    with tflite.open(loaded.model, tflite.Config()) as opened:
        return golden.check_golden(loaded, opened) / loaded.manifest.tolerance.absolute


def run(folder: Path, windows: int) -> int:
    """Start the daemon; return how many results it wrote by the time that there are enough."""
    daemon = subprocess.Popen([sys.executable, "-m", "limpet", "run", str(folder / "limpet.toml")])
    count, until = 0, time.monotonic() + PATIENCE
    while count < windows and time.monotonic() < until and daemon.poll() is None:
        time.sleep(0.2)
        count = results(folder / "results.jsonl")
    daemon.send_signal(signal.SIGTERM)
    daemon.wait()
    return results(folder / "results.jsonl")


def results(path: Path) -> int:
    lines = path.read_text().splitlines() if path.exists() else []
    return sum('"type":"result"' in line.replace(" ", "") for line in lines)


if __name__ == "__main__":
    main()

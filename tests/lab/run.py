"""``make lab``: cameras, microphones and serial boards with real kernel drivers, in a virtual machine.

The last line is one JSON object: for `camera`, `audio` and `usb_serial` whether it `ran`, was `lost_and_back`, and
whether each loss was `counted` by its cause. More is in build/lab: report.json, and console.log of the machine.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from lab.machine import Machine

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "build" / "lab"
PARTS = ("usb_serial", "camera", "audio")
LONGEST = 1500.0
"""Seconds that the machine may take for all parts."""


def main(parts: list[str]) -> int:
    FOLDER.mkdir(parents=True, exist_ok=True)
    report = FOLDER / "report.json"
    report.unlink(missing_ok=True)
    machine = Machine(FOLDER)
    machine.prepare()
    wanted = parts or list(PARTS)
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "PYTHONPATH": str(ROOT / "tests"),
        "SYSTEMD_IGNORE_CHROOT": "1",  # or udevadm does nothing
    }
    inside = str(Path(__file__).with_name("inside.py"))
    try:
        machine.run([sys.executable, inside, *wanted], environment, LONGEST)
    except subprocess.TimeoutExpired:
        print(f"the machine had not finished after {LONGEST:g} s; see {FOLDER}/console.log", file=sys.stderr)
    found: dict[str, Any] = json.loads(report.read_text()) if report.exists() else {}
    for name, part in found.items():
        print(f"{name}: {json.dumps(part)}")
    keys = ("ran", "lost_and_back", "counted")
    short = {name: {key: found.get(name, {}).get(key, False) for key in keys} for name in wanted}
    print(json.dumps(short))
    return 0 if all(all(part.values()) for part in short.values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

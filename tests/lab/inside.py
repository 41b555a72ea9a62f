"""What runs in the virtual machine, as root: the parts that it is given, each with the devices of its own.

``/lab/report.json`` has what each part found, also if a later one never ends.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

REPORT = Path("/lab/report.json")


def main(parts: list[str]) -> None:
    subprocess.run(["/lib/systemd/systemd-udevd", "--daemon"], check=True)
    found: dict[str, Any] = {}
    for name in parts:
        begin = time.monotonic()
        try:
            found[name] = importlib.import_module(f"lab.{name}").run(Path("/tmp") / name)
        except Exception:  # noqa: BLE001 - whatever fails is reported, and the next part runs
            found[name] = {"ran": False, "error": traceback.format_exc()}
            print(found[name]["error"], flush=True)
        found[name]["seconds"] = round(time.monotonic() - begin, 1)
        print(name, json.dumps(found[name]), flush=True)
        new = REPORT.with_suffix(".new")
        new.write_text(json.dumps(found, indent=2))
        new.rename(REPORT)


if __name__ == "__main__":
    main(sys.argv[1:])

"""``make docs-test``: types every command of the documentation that can run here, as it stands on its page.

Each page is read in terminal windows of its own: in a home without settings, in a fresh clone, with a broker on
a port of its own and a simulated board. Arguments name the pages that are wanted. Tutorials with the converters
run if their environment, ``.venv-convert``, is there. The last line is one JSON object. Exit status 1 if a page
shows something else than what happens.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1]))

from docs.pages import ROOT, blocks, pages
from docs.reader import Difference, Reader
from first_hour.maker import environment
from support.broker import free_port, mosquitto

if TYPE_CHECKING:
    from support.broker import Mosquitto


def install_converters(existing: Path, folder: Path) -> None:
    """Make an environment with the converters of this checkout, whose packages are those of another one."""
    subprocess.run([existing / "bin" / "python", "-m", "venv", folder], check=True)
    (packages,) = existing.glob("lib/python3*/site-packages")
    (site,) = folder.glob("lib/python3*/site-packages")
    (site / "converters.pth").write_text(f"{packages}\n")
    pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, ROOT], check=True)
    for name in ".installed", ".examples":  # newer than all that `make` compares them with
        (folder / name).touch()
        os.utime(folder / name, (time.time() + 3600, time.time() + 3600))


def read(page: Path, folder: Path, broker: Mosquitto, count: Counter[str]) -> str:
    """Read a page; return what differs, or the empty string."""
    name = str(page.relative_to(ROOT))
    home = folder / "home"
    here = folder / name.replace("/", "-")
    here.mkdir()
    (here / "mqtt-password").write_text("secret")
    clone = here / "limpet"
    subprocess.run(["git", "clone", "--quiet", "--shared", ROOT, clone], check=True)
    possible = {""}
    if (folder / "converters").exists() and "tutorials" in name:
        (clone / ".venv-convert").symlink_to(folder / "converters")
        possible.add("the converters")
    variables = environment(home) | {"STATE_DIRECTORY": str(here / "state")}
    if "tutorials" not in name and name != "README.md":
        variables["PATH"] = f"{home}/limpet/bin:{variables['PATH']}"  # such a page begins with Limpet installed
    address = f"127.0.0.1:{broker.port}"
    server = free_port()
    places = {
        "/tmp/board": str(here / "board"),  # noqa: S108 - the board of the pages
        "/dev/ttyUSB0": str(here / "board"),
        "/etc/limpet/limpet.toml": "limpet.toml",
        "/etc/limpet/mqtt-password": str(here / "mqtt-password"),
        "broker.example:1883": address,
        "localhost:1883": address,
        "localhost:8000": f"localhost:{server}",
        "http.server 8000": f"http.server {server}",
    }
    start = clone / page.parent.relative_to(ROOT) if "firmware-configs" in name else clone
    with Reader(start, variables, places) as reader:
        for block in blocks(page):
            runs = block.not_run in possible
            print(f"{block.place}", "" if runs else f"(not run: {block.not_run})", flush=True)
            try:
                if runs:
                    reader.read(block)
                else:
                    count["not run"] += len(block.commands)
            except (Difference, AssertionError) as error:
                print(f"  {error}")
                return f"{block.place}: {error}"
            finally:
                count["run"], reader.commands = count["run"] + reader.commands, 0
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(description="Type the commands of the documentation.")
    parser.add_argument("pages", nargs="*", type=Path, help="Default: all pages.")
    parser.add_argument(
        "--converters", type=Path, default=ROOT / ".venv-convert", help="Environment with TensorFlow."
    )
    arguments = parser.parse_args()
    wanted = [page.absolute() for page in arguments.pages]
    count: Counter[str] = Counter()
    # README.md comes first in any case: it installs Limpet.
    chosen = [ROOT / "README.md", *wanted] if wanted else pages()
    with tempfile.TemporaryDirectory(prefix="limpet-docs-") as name, mosquitto(Path(name) / "broker") as broker:
        settings = Path(name) / "home" / ".config"
        settings.mkdir(parents=True)
        for program in "mosquitto_sub", "mosquitto_pub", "mosquitto_rr":
            (settings / program).write_text(f"-h 127.0.0.1\n-p {broker.port}\n")
        if (arguments.converters / ".examples").exists():
            install_converters(arguments.converters.absolute(), Path(name) / "converters")
        differences = [text for page in chosen if (text := read(page, Path(name), broker, count))]
    for text in differences:
        print(f"\n{text}")
    print(
        json.dumps(
            {"docs_commands_run": count["run"], "not_run": count["not run"], "differences": len(differences)}
        )
    )
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())

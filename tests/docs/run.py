"""``make docs-test``: types every command of the documentation that can run here, as it stands on its page.

Each page is read in terminal windows of its own: in a home without settings, in a fresh clone, with a broker on
a port of its own and a simulated board. Arguments name the pages that are wanted. The last line is one JSON
object. Exit status 1 if a page shows something else than what happens.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1]))

from docs.pages import ROOT, blocks, pages
from docs.reader import Difference, Reader
from first_hour.maker import environment
from support.broker import mosquitto

if TYPE_CHECKING:
    from collections.abc import Sequence

    from support.broker import Mosquitto


def read(page: Path, folder: Path, broker: Mosquitto, count: Counter[str]) -> str:
    """Read a page; return what differs, or the empty string."""
    name = str(page.relative_to(ROOT))
    home = folder / "home"
    here = folder / name.replace("/", "-")
    here.mkdir()
    (here / "mqtt-password").write_text("secret")
    clone = here / "limpet"
    subprocess.run(["git", "clone", "--quiet", "--shared", ROOT, clone], check=True)
    variables = environment(home) | {"STATE_DIRECTORY": str(here / "state")}
    if "tutorials" not in name and name != "README.md":
        variables["PATH"] = f"{home}/limpet/bin:{variables['PATH']}"  # such a page begins with Limpet installed
    address = f"127.0.0.1:{broker.port}"
    places = {
        "/tmp/board": str(here / "board"),  # noqa: S108 - the board of the pages
        "/dev/ttyUSB0": str(here / "board"),
        "/etc/limpet/limpet.toml": "limpet.toml",
        "/etc/limpet/mqtt-password": str(here / "mqtt-password"),
        "broker.example:1883": address,
        "localhost:1883": address,
    }
    start = clone / page.parent.relative_to(ROOT) if "firmware-configs" in name else clone
    with Reader(start, variables, places) as reader:
        for block in blocks(page):
            print(f"{block.place}", f"(not run: {block.not_run})" if block.not_run else "", flush=True)
            try:
                if not block.not_run:
                    reader.read(block)
                count["not run"] += len(block.commands) if block.not_run else 0
            except (Difference, AssertionError) as error:
                print(f"  {error}")
                return f"{block.place}: {error}"
            finally:
                count["run"], reader.commands = count["run"] + reader.commands, 0
    return ""


def main(wanted: Sequence[str]) -> int:
    count: Counter[str] = Counter()
    # README.md comes first in any case: it installs Limpet.
    chosen = [ROOT / "README.md", *map(Path.absolute, map(Path, wanted))] if wanted else pages()
    with tempfile.TemporaryDirectory(prefix="limpet-docs-") as name, mosquitto(Path(name) / "broker") as broker:
        settings = Path(name) / "home" / ".config"
        settings.mkdir(parents=True)
        for program in "mosquitto_sub", "mosquitto_pub", "mosquitto_rr":
            (settings / program).write_text(f"-h 127.0.0.1\n-p {broker.port}\n")
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
    sys.exit(main(sys.argv[1:]))

"""The commands with curl of docs/reference/api.md work as written, but for the names. Run by ``make api``."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.api_daemon import api_daemon

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.api_daemon import ApiDaemon

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "api.md"
COMMANDS = re.findall(
    r"^\$ (curl .*)$", PAGE.read_text(encoding="utf-8").partition("## Open Inference")[0], re.MULTILINE
)
NEEDS = ("picture", "$TOKEN")
"""What this device has not: a camera, and TLS. Other tests have them."""
ENDLESS = 28
"""Exit status of curl if the time is over."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiDaemon]:
    with api_daemon(tmp_path_factory.mktemp("api"), commands='commands = ["restart"]') as started:
        yield started


@pytest.mark.parametrize("command", [each for each in COMMANDS if not any(need in each for need in NEEDS)])
def test_a_command_of_the_page_works(running: ApiDaemon, command: str) -> None:
    command = command.replace("http://127.0.0.1:7470", running.url).replace("press", "motion")
    words = shlex.split(command.replace("/run/limpet/api.sock", str(running.socket)))
    seconds = "2" if "-N" in words else "30"
    done = subprocess.run([*words, "-sS", "--fail", "-m", seconds], capture_output=True, text=True, check=False)
    assert done.returncode == (ENDLESS if "-N" in words else 0), done.stderr
    assert len(done.stdout) > len("[]\n")

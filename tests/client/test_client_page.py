"""The programs of docs/how-to/client.md run beside a daemon, as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from support.api_daemon import ApiDaemon

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "client.md"
PROGRAMS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_programs_of_the_page_print_what_they_read(program: str, served: ApiDaemon) -> None:
    environment = {**os.environ, "STATE_DIRECTORY": str(served.socket.parent), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", program],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        first = running.stdout.readline()
        if is_endless(program):
            running.terminate()
        else:
            running.wait(60)
            assert running.returncode == 0, running.stderr.read()
        assert first, running.stderr.read()


def is_endless(program: str) -> bool:
    return any(f"in client.{stream}(" in program or "in results" in program for stream in ("results", "events"))

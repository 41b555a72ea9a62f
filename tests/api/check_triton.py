"""Triton's own client uses the local API: run by ``make api``, not by ``make test``."""

from __future__ import annotations

import subprocess
from pathlib import Path

from support.api_daemon import api_daemon

ROOT = Path(__file__).parent.parent.parent
PYTHON = ROOT / ".venv-triton" / "bin" / "python"


def test_tritons_http_client_works_unchanged(tmp_path: Path) -> None:
    with api_daemon(tmp_path) as served:
        address = f"127.0.0.1:{served.port}"
        done = subprocess.run(
            [PYTHON, Path(__file__).with_name("triton_http.py"), address],
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
    assert done.returncode == 0, done.stdout + done.stderr

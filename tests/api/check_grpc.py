"""Triton's own client uses the local API over gRPC: run by ``make api``, not by ``make test``."""

from __future__ import annotations

import subprocess
from pathlib import Path

from limpet.gateway.open_inference import grpc_messages
from support.api_daemon import api_daemon

ROOT = Path(__file__).parent.parent.parent
PYTHON = ROOT / ".venv-triton" / "bin" / "python"


def test_tritons_grpc_client_works_unchanged(tmp_path: Path) -> None:
    description = tmp_path / "description.bin"
    description.write_bytes(grpc_messages.file().SerializeToString())
    with api_daemon(tmp_path, grpc=True) as served:
        address = f"127.0.0.1:{served.grpc_port}"
        done = subprocess.run(
            [PYTHON, Path(__file__).with_name("triton_grpc.py"), address, description],
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
    assert done.returncode == 0, done.stdout + done.stderr

"""Schemathesis finds no request with which the local API does what its OpenAPI document does not say."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from limpet.contracts.commands import REQUESTS
from limpet.gateway.api.openapi import document
from support.api_daemon import api_daemon

if TYPE_CHECKING:
    from support.api_daemon import ApiDaemon

ROOT = Path(__file__).parents[2]
SCHEMATHESIS = ROOT / ".venv-triton" / "bin" / "schemathesis"
PUBLISHED = ROOT / "docs" / "schemas" / "openapi.json"
CONFIGURATION = Path(__file__).with_name("schemathesis.toml")
TOKEN = "of-the-tester"  # noqa: S105 - of a daemon that the test starts
API = """
token_file = "tokens"
load = true
requests_per_second = 100000.0
"""


@pytest.mark.timeout(700)
def test_schemathesis_finds_no_failure(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text(f"tester {hashlib.sha256(TOKEN.encode()).hexdigest()}\n")
    (tmp_path / "work").mkdir()
    commands = f"commands = {json.dumps(list(REQUESTS))}"
    with api_daemon(tmp_path, api=API, commands=commands) as served:
        gateway = served.gateway_pid
        # A stream does not end. tests/gateway/test_stream_routes.py has its errors.
        done = schemathesis(served, tmp_path / "work", "--exclude-path", "/api/stream")
        assert served.gateway_pid == gateway, served.daemon.log
    assert done.returncode == 0, done.stdout
    described = sum(len(methods) for methods in document()["paths"].values())
    assert f"Tested: {described - 1}" in done.stdout


def schemathesis(served: ApiDaemon, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run it on all operations with all of its checks."""
    return subprocess.run(
        [
            *(SCHEMATHESIS, "--config-file", CONFIGURATION, "run", PUBLISHED, "--url", served.url),
            *("--header", f"Authorization: Bearer {TOKEN}"),
            *("--max-examples", "25", "--continue-on-failure", "--no-color"),
            *options,
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=600,
    )

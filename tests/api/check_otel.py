"""OpenTelemetry's own SDK reads what a real daemon exports. For ``make api``: no collector is to be had."""

from __future__ import annotations

import subprocess
from pathlib import Path

from support.api_daemon import api_daemon
from support.broker import wait_until
from support.collector import collector

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-triton" / "bin" / "python"


def test_what_is_exported_is_as_the_sdk_sends_it(tmp_path: Path) -> None:
    with collector() as received:
        otlp = f'otlp = {{ url = "{received.url}", interval = 0.2, traces = 1.0 }}'
        with api_daemon(tmp_path, api=otlp):
            wait_until(lambda: received.spans)
            wait_until(lambda: "limpet.pipeline.stage.duration" in received.metrics)
        for path, body in received.bodies.items():
            (tmp_path / f"{Path(path).name}.bin").write_bytes(body)
    done = subprocess.run(
        [PYTHON, Path(__file__).with_name("otel_sdk.py"), tmp_path],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all as the SDK has it" in done.stdout

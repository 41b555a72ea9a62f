"""Triton's own client uses the local API: run by ``make api``, not by ``make test``."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support import bundles, models
from support.api_daemon import api_daemon

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parent.parent.parent
PYTHON = ROOT / ".venv-triton" / "bin" / "python"
TOKEN = "of-triton"  # noqa: S105 - of a daemon that the test starts


def test_tritons_http_client_works_unchanged(tmp_path: Path) -> None:
    with api_daemon(tmp_path) as served:
        run("triton_http.py", f"127.0.0.1:{served.port}")


def test_tritons_http_client_loads_and_runs_models_of_the_store(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text(f"triton {hashlib.sha256(TOKEN.encode()).hexdigest()}\n")
    store = tmp_path / "state" / "models"
    put(store, "open", 2, models.dense, inputs=3, outputs=3, batch=-1, int8=False)
    put(store, "product", 1, models.times)
    put(store, "crash", 1, models.crashing)
    with api_daemon(tmp_path, api='load = true\ntoken_file = "tokens"') as served:
        run("triton_store.py", f"127.0.0.1:{served.port}", TOKEN)


def put(store: Path, name: str, version: int, make: Callable[..., Path], **options: Any) -> None:
    """Put a bundle with a model into the store."""
    store.mkdir(parents=True, exist_ok=True)
    content = make(store.parent / "made.tflite", **options).read_bytes()
    path = store / f"{name}-{version}.limpet"
    bundles.bundle(path, {"model.tflite": content}, name=name, version=version, model="model.tflite")


def run(script: str, *arguments: str) -> None:
    """Run a script in Triton's environment."""
    done = subprocess.run(
        [PYTHON, Path(__file__).with_name(script), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr

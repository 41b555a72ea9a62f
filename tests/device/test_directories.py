from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from limpet import config
from limpet.device import directories


def state(device: dict[str, Any]) -> Path:
    tables = {
        "device": {"id": "d", **device},
        "sources": {"s": {"kind": "replay", "path": "x"}},
        "pipelines": {"p": {"source": "s", "model": "m"}},
    }
    return config.build(tables, Path("/etc/limpet")).device.state


def test_state_is_where_the_service_manager_made_room_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    assert state({}) == Path("/var/lib/limpet")
    # As systemd hands over `StateDirectory=limpet-left limpet-left/models`.
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/limpet-left:/var/lib/limpet-left/models")
    assert state({}) == Path("/var/lib/limpet-left")
    assert state({"state": "/data"}) == Path("/data")


@pytest.mark.parametrize(
    ("given", "first"), [("", None), ("/run/limpet", Path("/run/limpet")), ("/run/a:/run/b", Path("/run/a"))]
)
def test_runtime(monkeypatch: pytest.MonkeyPatch, given: str, first: Path | None) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", given)
    assert directories.runtime() == first


def test_runtime_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    assert directories.runtime() is None

"""The gateway of a real daemon answers over TCP and over the Unix socket."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.api_daemon import ApiDaemon, api_daemon

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiDaemon]:
    with api_daemon(tmp_path_factory.mktemp("api")) as started:
        yield started


@pytest.mark.parametrize("unix", [False, True])
def test_the_device_is_described_over_tcp_and_over_the_unix_socket(running: ApiDaemon, *, unix: bool) -> None:
    answer = running.request("/api/device", unix=unix)
    assert (answer.status, answer.json["device"]) == (200, "press-07")


def test_a_gateway_with_http_alone_has_neither_numpy_nor_a_runtime_nor_grpc_in_memory(running: ApiDaemon) -> None:
    maps = Path(f"/proc/{running.gateway_pid}/maps").read_text()
    assert "libpython" in maps or "python" in maps
    assert {name for name in ("numpy", "litert", "tflite", "grpc", "protobuf") if name in maps} == set()

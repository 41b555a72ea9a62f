"""The gateway of a real daemon answers over TCP and over the Unix socket."""

from __future__ import annotations

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

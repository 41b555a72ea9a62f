"""A worker starts again when its device came back as another node, and not for less."""

from __future__ import annotations

import os
from pathlib import Path

from limpet.isolation import device_nodes
from limpet.worker.device_watch import DeviceWatch
from support.broker import wait_until
from support.ptys import Board


def watch_over(port: Path) -> DeviceWatch:
    return DeviceWatch([str(port)], device_nodes.present([str(port)]))


def test_a_device_that_was_away_at_the_start_is_seen_at_once(tmp_path: Path) -> None:
    watch = watch_over(tmp_path / "port")
    assert watch.replaced() is None
    with Board(tmp_path / "port") as board:
        assert watch.replaced() == board.path.resolve()


def test_a_device_that_comes_back_is_seen_after_a_pause(tmp_path: Path) -> None:
    with Board(tmp_path / "port") as board:
        watch = watch_over(board.path)
        held = os.open(board.path, os.O_RDWR | os.O_NOCTTY)  # so that the next has another number
        board.unplug()
        board.plug()
        os.close(held)
        assert watch.replaced() is None  # a loose plug would have it start again without end
        wait_until(lambda: watch.replaced() == board.path.resolve())


def test_a_worker_without_devices_never_starts_again() -> None:
    assert DeviceWatch([], frozenset()).replaced() is None


def test_a_device_that_came_back_by_another_name_is_seen(tmp_path: Path) -> None:
    now: list[str] = []
    watch = DeviceWatch([str(tmp_path / "away")], frozenset(), lambda: now)
    assert watch.replaced() is None
    now.append("/dev/nul?")  # a pattern for all devices: the source does not know yet which is its own
    assert watch.replaced() is None
    now[:] = ["/dev/null"]
    assert watch.replaced() == Path("/dev/null")

"""The short form of ``make faults``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from faults import captures, kills, namespace, network, power

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.timeout(300)
def test_a_killed_supervisor_loses_nothing_that_it_accepted(tmp_path: Path) -> None:
    counted = kills.run(tmp_path, 3)
    assert counted["accepted"] > 500
    assert counted["lost"] == 0
    assert counted["altered"] == 0


@pytest.mark.timeout(300)
def test_a_broker_killed_and_a_bad_line_lose_nothing(tmp_path: Path) -> None:
    counted = network.run(tmp_path, 7)
    assert counted["accepted"] > 500
    assert counted["lost"] == 0
    assert counted["altered"] == 0
    assert counted["distinct_reconnect_pauses"] > 3
    assert counted["max_supervisor_rss_mb"] < 120


@pytest.mark.timeout(300)
def test_a_network_that_drops_throttles_and_flaps_loses_nothing(tmp_path: Path) -> None:
    try:
        counted = namespace.run(tmp_path, 3)
    except namespace.NamespaceImpossibleError as error:
        pytest.skip(f"no network of our own can be made here: {error}")
    assert counted["accepted"] > 500
    assert counted["lost"] == 0
    assert counted["altered"] == 0
    assert counted["packets_dropped"] > 10


def test_a_power_cut_loses_nothing_that_was_synced(tmp_path: Path) -> None:
    try:
        counted = power.run(tmp_path, 3)
    except power.PowerCutsImpossibleError as error:
        pytest.skip(f"no file system of our own can be mounted here: {error}")
    assert counted["accepted"] > 100
    assert counted["lost"] == 0


def test_a_power_cut_leaves_whole_captures_in_a_bounded_ring(tmp_path: Path) -> None:
    try:
        counted = captures.cuts(tmp_path / "cuts", 1)
    except power.PowerCutsImpossibleError as error:
        pytest.skip(f"no file system of our own can be mounted here: {error}")
    assert counted["confirmed"] >= 1
    assert (counted["lost"], counted["half"]) == (0, 0)
    assert counted["largest"] <= captures.MOST

"""The benchmarks themselves, each for a moment: that they still run on what they measure, whatever it takes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "bench"))

import beside  # noqa: E402
import first  # noqa: E402
import hot_path  # noqa: E402
import startup  # noqa: E402
from stand import COPY, SHUTTLE, Processes, Stand  # noqa: E402
from support.broker import wait_until  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    with Stand(tmp_path_factory.mktemp("stand")).running() as running:
        yield running


def test_the_copied_python_shares_no_library_with_other_programs(stand: Stand) -> None:
    parts = stand.replay("one", 100), stand.pipeline("one", SHUTTLE)
    with stand.consumer() as consumer, stand.daemon(*parts) as running:
        wait_until(lambda: consumer.results > 10)
        processes = Processes(running.process.pid)
        maps = "".join(Path(f"/proc/{pid}/maps").read_text() for pid in processes.names())
        assert len(processes.names()) == 3
        assert all(size > 0 for size in processes.pss_mb().values())
    libraries = {line.split()[-1] for line in maps.splitlines() if ".so" in line}
    others = {Path(path).name.partition(".")[0] for path in libraries if not path.startswith(str(COPY))}
    assert others <= {"ld-linux-x86-64", "ld-linux-aarch64", "ld-linux-armhf", "libseccomp"}


def test_limpet_and_the_script_each_give_a_result_for_each_line(stand: Stand) -> None:
    figures = beside.measure(stand, 0.3, 1, settling=0.2)
    assert figures["beside_lost"] == figures["script_lost"] == 0
    assert 0 < figures["script_pss_ratio"] < figures["total_pss_mb"]


def test_a_start_and_a_restart_are_timed(stand: Stand) -> None:
    assert first.first_result(stand, 1)["first_result_ms"] > 0
    assert startup.restart(stand, 1)["restarted_ms"] > 0


def test_the_hot_path_is_timed_beside_both_loops() -> None:
    figures = hot_path.measure(SHUTTLE, 0.2)
    assert 0 < figures["throughput_ratio"] <= figures["fed_ratio"]

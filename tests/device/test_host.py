from __future__ import annotations

from pathlib import Path

import pytest

from limpet.device.host import Host, disk_free_mb, uptime_s


@pytest.fixture
def root(tmp_path: Path) -> Path:
    def write(path: str, text: str) -> None:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)

    write("proc/stat", "cpu  100 0 100 700 100 0 0 0 0 0\ncpu0 1 2 3 4\n")
    write("proc/loadavg", "0.42 0.30 0.20 1/100 4242\n")
    write("proc/meminfo", "MemTotal: 4000000 kB\nMemAvailable:    1000000 kB\n")
    write("proc/7/smaps_rollup", "Rss: 30000 kB\nPss:               20000 kB\n")
    write("sys/class/thermal/thermal_zone0/temp", "45000\n")
    write("sys/class/thermal/thermal_zone1/temp", "61234\n")
    write("sys/class/thermal/cooling_device0/cur_state", "0\n")
    return tmp_path


def test_figures_of_a_recorded_machine(root: Path) -> None:
    host = Host(root)
    assert host.cpu_share() is None
    (root / "proc/stat").write_text("cpu  200 0 200 800 100 0 0 0 0 0\n")
    assert host.cpu_share() == pytest.approx(200 / 300)
    assert host.load_1m() == 0.42
    assert host.memory_available_mb() == pytest.approx(1024)
    assert host.pss_mb([7, 8]) == pytest.approx(20.48)
    assert host.temperature_c() == pytest.approx(61.234)
    assert host.throttled() is False
    (root / "sys/class/thermal/cooling_device0/cur_state").write_text("2\n")
    assert host.throttled() is True


@pytest.mark.parametrize(
    ("kind", "state", "throttled"),
    [
        ("cpufreq-cpu0", 1, True),
        ("pwm-fan", 3, None),
        ("Fan", 1, None),
        ("intel_powerclamp", -1, False),
        ("intel_powerclamp", 20, True),
    ],
)
def test_a_fan_is_no_throttling(kind: str, state: int, root: Path, *, throttled: bool | None) -> None:
    device = root / "sys/class/thermal/cooling_device0"
    (device / "type").write_text(f"{kind}\n")
    (device / "cur_state").write_text(f"{state}\n")
    assert Host(root).throttled() is throttled


def test_what_is_not_there_is_none(tmp_path: Path) -> None:
    host = Host(tmp_path)
    assert host.cpu_share() is None
    assert host.load_1m() is None
    assert host.memory_available_mb() is None
    assert host.pss_mb([1]) is None
    assert host.temperature_c() is None
    assert host.throttled() is None
    assert disk_free_mb(tmp_path / "absent") is None


def test_this_machine_answers() -> None:
    assert uptime_s() > 0
    assert (disk_free_mb(Path("/")) or 0) > 0
    assert (Host().memory_available_mb() or 0) > 0

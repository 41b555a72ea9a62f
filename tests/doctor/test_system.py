"""``limpet doctor`` on clock, disk, memory, power, heat and kernel of machines laid out in files."""

from __future__ import annotations

from pathlib import Path

import pytest

from limpet.doctor import kernel, system
from limpet.doctor.installation import Installation
from limpet.isolation import landlock
from support.patients import only, patient, table

# --- clock, disk, memory, power, heat

NOW = 1_795_000_000


@pytest.mark.parametrize(
    ("files", "now", "result"),
    [
        ({"run/systemd/timesync/synchronized": ""}, NOW, "ok"),
        ({"run/chrony/chronyd.pid": "1"}, NOW, "ok"),
        ({}, NOW, "warn"),
        ({"run/systemd/timesync/synchronized": ""}, 1000.0, "bad"),
    ],
)
def test_clock(tmp_path: Path, files: dict[str, str], now: float, result: str) -> None:
    assert only(system.clock, patient(tmp_path, files, now=now)).result == result


def test_clock_without_a_battery(tmp_path: Path) -> None:
    assert "battery" in only(system.clock, patient(tmp_path, now=NOW)).why
    assert "battery" not in only(system.clock, patient(tmp_path / "b", {"sys/class/rtc/rtc0": ""}, now=NOW)).why


def test_disk(tmp_path: Path) -> None:
    assert only(system.disk, patient(tmp_path)).result == "skip"
    wanted = table(tmp_path)
    mounts = f"/dev/root / ext4 rw 0 0\ntmpfs {tmp_path} tmpfs rw 0 0\n"
    finding = only(system.disk, patient(tmp_path, {"proc/mounts": mounts}, config=wanted))
    assert (finding.result, "on tmpfs" in finding.what) == ("warn", True)
    real = {"proc/mounts": "/dev/root / ext4 rw 0 0\n"}
    assert only(system.disk, patient(tmp_path, real, config=wanted)).result == "ok"
    read_only = table(tmp_path, device={"id": "d", "state": "/sys/limpet"})  # no room, and none to be had
    assert only(system.disk, patient(tmp_path, config=read_only)).result == "bad"


@pytest.mark.parametrize(("kilobytes", "result"), [(500_000, "ok"), (50_000, "warn"), (None, "skip")])
def test_memory(tmp_path: Path, kilobytes: int | None, result: str) -> None:
    files = {"proc/meminfo": f"MemAvailable: {kilobytes} kB\n"} if kilobytes else {}
    assert only(system.memory, patient(tmp_path, files)).result == result


FIRMWARE = "sys/devices/platform/soc/soc:firmware/get_throttled"


@pytest.mark.parametrize(
    ("files", "result", "words"),
    [
        ({}, "ok", ""),
        ({FIRMWARE: "0\n"}, "ok", ""),
        ({FIRMWARE: "50005\n"}, "bad", "now: too low a voltage, throttling"),
        ({FIRMWARE: "10000\n"}, "warn", "since boot: too low a voltage"),
        ({"sys/class/hwmon/hwmon1/name": "rpi_volt", "sys/class/hwmon/hwmon1/in0_lcrit_alarm": "1"}, "bad", "now"),
        ({"sys/class/hwmon/hwmon1/name": "rpi_volt", "sys/class/hwmon/hwmon1/in0_lcrit_alarm": "0"}, "ok", ""),
        (
            {
                "sys/class/power_supply/b/type": "Battery",
                "sys/class/power_supply/b/status": "Discharging",
                "sys/class/power_supply/b/capacity": "41",
            },
            "warn",
            "41 %",
        ),
        ({"sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave"}, "warn", "powersave"),
        (
            {
                "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave",
                "sys/devices/system/cpu/cpu0/cpufreq/scaling_driver": "intel_pstate",
            },
            "ok",
            "",
        ),
    ],
)
def test_power(tmp_path: Path, files: dict[str, str], result: str, words: str) -> None:
    finding = only(system.power, patient(tmp_path, files))
    assert finding.result == result
    assert words in finding.what


def zone(celsius: int, kind: str = "", state: int = 0) -> dict[str, str]:
    device = "sys/class/thermal/cooling_device0"
    return {
        "sys/class/thermal/thermal_zone0/temp": f"{celsius}000\n",
        **({f"{device}/type": kind, f"{device}/cur_state": str(state)} if kind else {}),
    }


@pytest.mark.parametrize(
    ("files", "result"),
    [
        ({}, "skip"),
        (zone(45), "ok"),
        (zone(85), "warn"),
        (zone(60, "cpufreq-cpu0", 2), "warn"),
        (zone(60, "pwm-fan", 2), "ok"),
    ],
)
def test_heat(tmp_path: Path, files: dict[str, str], result: str) -> None:
    assert only(system.heat, patient(tmp_path, files)).result == result


# --- the kernel

RELEASE, LSM = "proc/sys/kernel/osrelease", "sys/kernel/security/lsm"
FILTER = {"proc/sys/kernel/seccomp/actions_avail": "kill_process errno allow"}
SECCOMP = {**FILTER, "usr/lib/aarch64-linux-gnu/libseccomp.so.2": "ELF"}


@pytest.mark.parametrize(
    ("files", "results"),
    [
        ({RELEASE: "6.6.31", LSM: "capability,landlock,yama", **SECCOMP}, ["ok", "ok"]),
        ({RELEASE: "6.6.31", LSM: "capability,yama", **SECCOMP}, ["warn", "ok"]),
        ({RELEASE: "5.10.110-rockchip", LSM: "capability"}, ["warn", "warn"]),
        ({RELEASE: "6.6.31", **SECCOMP}, ["skip", "ok"]),
        ({RELEASE: "6.6.31", LSM: "landlock", **FILTER}, ["ok", "warn"]),
        ({}, ["skip"]),
    ],
)
def test_sandbox(tmp_path: Path, files: dict[str, str], results: list[str]) -> None:
    assert [finding.result for finding in kernel.sandbox(patient(tmp_path, files))] == results


def test_landlock_is_asked_for_on_this_machine() -> None:
    found = next(kernel.sandbox(Installation(Path())))
    try:
        assert found.what.startswith(f"landlock {landlock.abi()}, kernel")
    except OSError:
        assert found.result != "ok"


@pytest.mark.parametrize(
    ("controllers", "result"), [("cpu io memory pids", "ok"), ("cpu io pids", "warn"), (None, "warn")]
)
def test_cgroups(tmp_path: Path, controllers: str | None, result: str) -> None:
    files = {"sys/fs/cgroup/cgroup.controllers": controllers} if controllers else {}
    assert only(kernel.cgroups, patient(tmp_path, files)).result == result

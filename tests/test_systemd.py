"""The units: understood by systemd to the last key, and as locked down as the documentation says."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from limpet.supervision.service_manager import start_complete

SYSTEMD = Path(__file__).parent.parent / "systemd"
UNITS = sorted(path.name for path in SYSTEMD.iterdir() if path.suffix in {".service", ".timer", ".slice"})
DROP_INS = sorted(path.stem for path in SYSTEMD.glob("drop-ins/*.conf"))
LIMITS = SYSTEMD.parent / "bench/limits.py"
MOST = 1.3
COSTS = {"jetson": 0.1, "shared-memory": 0.2}
"""What drop-ins cost: a driver that compiles to memory and executes it, and users that can be told apart."""


def lay(folder: Path, *drop_ins: str) -> Path:
    """Lay out the units as a package installs them, with a program that is there on every machine."""
    for name in UNITS:
        text = (SYSTEMD / name).read_text()
        (folder / name).write_text(text.replace("/opt/limpet/bin/limpet", "/bin/true"))
    for unit in ("limpet.service.d", "limpet@.service.d"):
        (folder / unit).mkdir()
        for name in drop_ins:
            shutil.copy(SYSTEMD / "drop-ins" / f"{name}.conf", folder / unit)
    return folder


def verify(folder: Path) -> str:
    units = [folder / name for name in UNITS]
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def exposure(unit: Path) -> float:
    """Return what `systemd-analyze security` makes of a unit with its drop-ins."""
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", unit]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return float(said.rpartition("exposure level for ")[2].split(":")[1].split()[0])


def test_systemd_understands_every_unit_and_drop_in(tmp_path: Path) -> None:
    assert len(UNITS) == 7
    folder = lay(tmp_path, *DROP_INS)
    assert verify(folder) == ""
    # Its exit status is 0 for an unknown key, so what it says is what counts.
    unit = folder / "limpet.service"
    unit.write_text(unit.read_text().replace("WatchdogSec", "WatchdogSecs"))
    assert "WatchdogSecs" in verify(folder)


def test_the_start_is_complete_in_time_whatever_a_pipeline_says() -> None:
    """systemd ends a service that is not ready in time. One worker must not be able to have it do so."""
    for name in ("limpet.service", "limpet@.service"):
        (limit,) = re.findall(r"(?m)^TimeoutStartSec=(\d+)$", (SYSTEMD / name).read_text())
        assert start_complete(["running", "starting"], float(limit) - 20)
    for states in (["running", "failed", "waiting"], []):
        assert start_complete(states, 0.1)
    for state in ("starting", "stopped"):
        assert not start_complete(["running", state], 100)


@pytest.mark.parametrize("name", ["limpet.service", "limpet@.service", "limpet-housekeeping.service"])
def test_exposure(name: str, tmp_path: Path) -> None:
    assert exposure(lay(tmp_path) / name) <= MOST


@pytest.mark.parametrize("drop_in", DROP_INS)
def test_exposure_with_an_accelerator(drop_in: str, tmp_path: Path) -> None:
    assert exposure(lay(tmp_path, drop_in) / "limpet.service") <= MOST + COSTS.get(drop_in, 0.0)


def test_exposure_with_every_sensor_and_accelerator(tmp_path: Path) -> None:
    every = set(DROP_INS) - COSTS.keys()
    assert exposure(lay(tmp_path, *every) / "limpet.service") <= MOST
    # It would notice: the same unit without its filter of system calls.
    unit = tmp_path / "limpet.service"
    unit.write_text("".join(line for line in unit.read_text().splitlines(True) if "SystemCallFilter" not in line))
    assert exposure(unit) > MOST


def test_the_template_is_the_service_for_several() -> None:
    service = (SYSTEMD / "limpet.service").read_text()
    template = (SYSTEMD / "limpet@.service").read_text()
    for one, many in (
        ("inference agent", "inference agent, instance %i"),
        ("/etc/limpet/limpet.toml", "/etc/limpet/%i.toml"),
        ("StateDirectory=limpet limpet/models", "StateDirectory=limpet-%i limpet-%i/models"),
        ("RuntimeDirectory=limpet", "RuntimeDirectory=limpet-%i"),
        ("SyslogIdentifier=limpet", "SyslogIdentifier=limpet-%i"),
        ("(systemctl edit limpet)", "(systemctl edit limpet@NAME)"),
    ):
        assert one in service
        service = service.replace(one, many)
    assert template.endswith(service)


def test_housekeeping_of_an_instance_is_that_of_the_service() -> None:
    service = (SYSTEMD / "limpet-housekeeping.service").read_text()
    for one, many in (
        ("Limpet's state directory", "the state directory of Limpet's instance %i"),
        ("/etc/limpet/limpet.toml", "/etc/limpet/%i.toml"),
        ("StateDirectory=limpet limpet/models", "StateDirectory=limpet-%i limpet-%i/models"),
    ):
        assert one in service
        service = service.replace(one, many)
    assert (SYSTEMD / "limpet-housekeeping@.service").read_text().endswith(service)
    # Both work in the directory that the daemon has.
    state = "StateDirectory=limpet limpet/models"
    assert state in (SYSTEMD / "limpet.service").read_text()
    assert state in (SYSTEMD / "limpet-housekeeping.service").read_text()


def test_every_group_that_a_unit_names_is_made() -> None:
    made = {line.split()[1] for line in (SYSTEMD / "limpet.sysusers").read_text().splitlines() if line[0] in "gu"}
    named: set[str] = set()
    for path in [*SYSTEMD.glob("*.service"), *SYSTEMD.glob("drop-ins/*.conf")]:
        for line in path.read_text().splitlines():
            key, _, value = line.partition("=")
            if key in {"User", "Group", "SupplementaryGroups"}:
                named.update(value.split())
    assert named
    assert named <= made


SIZES = {"M": 1 << 20, "G": 1 << 30}


def limits(text: str) -> tuple[int, int]:
    """Return the most tasks and bytes of memory that a unit may take."""
    keys = dict(line.split("=", 1) for line in text.splitlines() if "=" in line and line[0] not in "#[")
    return int(keys["TasksMax"]), int(keys["MemoryMax"][:-1]) * SIZES[keys["MemoryMax"][-1]]


def test_every_service_has_limits_that_fit_what_was_measured() -> None:
    for path in SYSTEMD.glob("*.service"):
        tasks, memory = limits(path.read_text())
        assert (tasks, memory) >= ((16, 128 << 20) if "housekeeping" in path.name else (4 * 37, 4 * 212_000_000))
        # One service alone does not reach the limit of all of them together.
        assert tasks < 512


def test_the_measured_daemon_stays_far_below_its_limits(tmp_path: Path) -> None:
    tasks, memory = limits((SYSTEMD / "limpet.service").read_text())
    command = [sys.executable, LIMITS, "--sources", "3", "--pipelines", "2", "--folder", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    measured = json.loads(done.stdout.splitlines()[-1])
    assert measured["running"] == 6
    assert 3 * 2 + 3 <= measured["tasks"] < tasks / 4
    assert 0 < measured["pss_mb"] < memory / 4e6

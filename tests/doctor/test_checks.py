"""Each check of ``limpet doctor`` against machines laid out in files, and the command on this one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from limpet.device.machine import Machine, Owner, User
from limpet.doctor import (
    CHECKS,
    access,
    configuration,
    examine,
    hardware,
    installation,
    runtime_packages,
    software,
)
from limpet.doctor.installation import Installation
from limpet.doctor.runtime_packages import Software
from support.boards import Board
from support.patients import GOOD, HERE, lay, only, patient, table

if TYPE_CHECKING:
    from pathlib import Path

    from limpet import config

# --- Python and what executes models


@pytest.mark.parametrize(
    ("package", "change", "reason"),
    [
        ("ai-edge-litert", {}, ""),
        ("ai-edge-litert", {"machine": "aarch64", "glibc": (2, 27)}, ""),
        ("ai-edge-litert", {"system": "Darwin", "machine": "arm64", "glibc": None}, ""),
        ("ai-edge-litert", {"machine": "armv7l"}, "armv7l"),
        ("ai-edge-litert", {"python": (3, 9)}, "Python 3.9"),
        ("ai-edge-litert", {"glibc": (2, 24)}, "2.27, here is 2.24"),
        ("ai-edge-litert", {"glibc": None}, "another C library"),
        ("tflite-runtime", {"machine": "armv7l"}, ""),
        ("tflite-runtime", {"machine": "armv7l", "glibc": (2, 31)}, "2.34, here is 2.31"),
        ("tflite-runtime", {"python": (3, 12)}, "Python 3.12"),
        ("tflite-runtime", {"system": "Darwin", "machine": "arm64", "glibc": None}, "Darwin"),
    ],
)
def test_which_runtime_has_a_wheel(package: str, change: dict[str, Any], reason: str) -> None:
    printed = software.no_wheel(package, HERE._replace(**change))
    assert reason in printed
    assert bool(printed) == bool(reason)


@pytest.mark.parametrize(
    ("change", "result"),
    [({}, "ok"), ({"python": (3, 9)}, "bad"), ({"python": (3, 14)}, "bad"), ({"bits": 32}, "warn")],
)
def test_python(tmp_path: Path, change: dict[str, Any], result: str) -> None:
    who = Installation(tmp_path, software=GOOD._replace(platform=HERE._replace(**change)))
    assert only(software.python, who).result == result


OLD_ARM = HERE._replace(machine="armv7l")


@pytest.mark.parametrize(
    ("found", "result", "fix"),
    [
        (GOOD, "ok", ""),
        (GOOD._replace(versions={}), "bad", "pip install ai-edge-litert"),
        (Software(OLD_ARM, {}, lambda _: ""), "bad", "pip install tflite-runtime"),
        (Software(OLD_ARM._replace(python=(3, 13)), {}, lambda _: ""), "bad", "another platform|a platform"),
        (GOOD._replace(versions={"tflite-runtime": "2.14.0", "numpy": "2.0.0"}), "bad", "numpy<2"),
        (GOOD._replace(versions={"tflite-runtime": "2.14.0", "numpy": "1.26.4"}), "warn", "ai-edge-litert"),
        (Software(OLD_ARM, {"tflite-runtime": "2.14.0", "numpy": "1.26.4"}, lambda _: ""), "ok", ""),
        (GOOD._replace(load=lambda module: f"{module}: Illegal instruction"), "bad", "--force-reinstall"),
    ],
)
def test_runtime(tmp_path: Path, found: Software, result: str, fix: str) -> None:
    finding = only(software.runtime, Installation(tmp_path, software=found))
    assert finding.result == result
    assert any(word in finding.fix for word in fix.split("|"))


def test_loading_is_really_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dying.py").write_text("import os\nos.abort()\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    load = runtime_packages.installed().load
    assert load("json") == ""
    assert "No module named" in load("no_such_module")
    assert load("dying") == "importing dying ended with signal 6"


# --- who may open what


def configured(tmp_path: Path, port: str) -> config.Config:
    return table(tmp_path, sources={"s": {"kind": "serial", "port": port, "channels": ["a"]}})


def board(tmp_path: Path) -> Board:
    made = Board("raspberry-pi-5-coral-usb", tmp_path / "board")
    made.lay(tmp_path / "board/dev/ttyUSB0", "crw-rw---- root dialout")
    if "dialout" not in made.groups:
        made.lay(tmp_path / "board/etc/group", "dialout:x:20:")
        made.groups["dialout"] = 20
    return made


def test_port(tmp_path: Path) -> None:
    machine = board(tmp_path)
    refused = patient(tmp_path, machine=machine.machine(), config=configured(tmp_path, "/dev/ttyUSB0"))
    finding = only(access.ports, refused)
    assert finding.result == "bad"
    assert "usermod -aG" in finding.fix
    allowed = patient(tmp_path, machine=machine.machine("dialout"), config=configured(tmp_path, "/dev/ttyUSB0"))
    assert only(access.ports, allowed).result == "ok"


def test_port_that_is_away_says_which_there_are(tmp_path: Path) -> None:
    who = patient(tmp_path, {"dev/ttyACM3": ""}, config=configured(tmp_path, "/dev/ttyUSB0"))
    finding = only(access.ports, who)
    assert (finding.result, finding.why) == ("bad", "serial ports here: /dev/ttyACM3")


def test_camera_that_is_away_says_which_there_are(tmp_path: Path) -> None:
    wanted = table(tmp_path, sources={"s": {"kind": "camera", "device": "/dev/video9"}})
    files = {"sys/class/video4linux/video0/name": "Webcam", "dev/video0": ""}
    finding = only(access.ports, patient(tmp_path, files, config=wanted))
    assert (finding.result, finding.why) == ("bad", "cameras here: /dev/video0")
    assert finding.fix == "plug it in, or correct device"
    wanted = table(tmp_path, sources={"s": {"kind": "camera", "url": "rtsp://h/s"}})
    assert only(access.ports, patient(tmp_path, files, config=wanted)).result == "skip"


def test_port_elsewhere_is_not_looked_for(tmp_path: Path) -> None:
    assert only(access.ports, patient(tmp_path, config=configured(tmp_path, "socket://h:1"))).result == "skip"
    assert only(access.ports, patient(tmp_path)).result == "skip"


def test_groups(tmp_path: Path) -> None:
    machine = board(tmp_path)
    found = {f.what.partition(":")[0]: f for f in access.groups(patient(tmp_path, machine=machine.machine()))}
    assert found["serial ports"].result == "warn"
    assert "dialout" in found["serial ports"].fix
    assert found["Edge TPUs on PCIe"].result == "skip"
    found = {
        f.what.partition(":")[0]: f for f in access.groups(patient(tmp_path, machine=machine.machine("dialout")))
    }
    assert found["serial ports"].result == "ok"


def test_rivals(tmp_path: Path) -> None:
    assert only(access.rivals, patient(tmp_path, {"proc/7/comm": "bash\n"})).result == "ok"
    who = patient(tmp_path / "b", {"proc/7/comm": "ModemManager\n", "proc/8/comm": "brltty\n"})
    found = list(access.rivals(who))
    assert [finding.result for finding in found] == ["warn", "warn"]
    assert "99-limpet.rules" in found[0].fix


def test_state(tmp_path: Path) -> None:
    assert only(access.state, patient(tmp_path)).result == "skip"
    here = installation.read(tmp_path / "x", Machine())
    who = Installation(here.path, table(tmp_path), machine=here.machine, software=GOOD)
    assert "can be made" in only(access.state, who).what
    (tmp_path / "state").mkdir()
    assert "can be written" in only(access.state, who).what
    (tmp_path / "file").touch()
    closed = table(tmp_path, device={"id": "d", "state": str(tmp_path / "file" / "state")})
    assert only(access.state, Installation(here.path, closed, machine=here.machine)).result == "bad"


@pytest.mark.parametrize(
    ("uid", "gids", "mode", "result"),
    [
        (990, {990}, 0o755, "bad"),
        (990, {990}, 0o757, "ok"),
        (990, {990, 7}, 0o775, "ok"),
        (990, {990, 7}, 0o757, "bad"),  # the group's bits count for its members, not those of all
        (5, {5}, 0o700, "ok"),
    ],
)
def test_state_for_another_user(tmp_path: Path, uid: int, gids: set[int], mode: int, result: str) -> None:
    machine = Machine(tmp_path, User("limpet", uid, frozenset(gids)), lambda _: Owner(mode, 5, 7))
    assert only(access.state, Installation(tmp_path, table(tmp_path), machine=machine)).result == result


# --- accelerators and delegates


def test_accelerators(tmp_path: Path) -> None:
    assert only(hardware.accelerators, patient(tmp_path)).result == "skip"
    made = Board("raspberry-pi-5-coral-usb", tmp_path / "board")
    found = list(hardware.accelerators(patient(tmp_path, machine=made.machine())))
    edgetpu = next(finding for finding in found if "Edge TPU" in finding.what)
    assert edgetpu.result == "warn"
    assert edgetpu.why
    assert edgetpu.fix


@pytest.mark.parametrize(
    ("delegates", "require", "results"),
    [
        (["cpu"], 0.0, ["skip"]),
        (["edgetpu", "cpu"], 0.0, ["warn"]),
        (["edgetpu"], 0.0, ["warn"]),  # the CPU follows unnamed
        (["edgetpu"], 0.9, ["bad"]),
        (["edgetpuu", "cpu"], 0.0, ["bad"]),
        (["external:/opt/vendor/lib/lib.so", "vx", "cpu"], 0.0, ["ok", "warn"]),
        (["mine", "cpu"], 0.0, ["ok"]),
        (["gpu"], 0.5, ["bad"]),
    ],
)
def test_delegates(tmp_path: Path, delegates: list[str], require: float, results: list[str]) -> None:
    pipeline = {"source": "s", "model": "m", "delegates": delegates, "require": require}
    mine = {"mine": {"kind": "external", "library": "/opt/vendor/lib/lib.so"}}
    wanted = table(tmp_path, pipelines={"p": pipeline}, delegates=mine)
    found = list(hardware.delegates(patient(tmp_path, {"opt/vendor/lib/lib.so": ""}, config=wanted)))
    assert [finding.result for finding in found] == results
    assert all(finding.fix for finding in found if finding.result in {"warn", "bad"})


# --- the configuration


def test_configuration(tmp_path: Path) -> None:
    path = tmp_path / "limpet.toml"
    machine = Machine(tmp_path)
    missing = only(configuration.configuration, installation.read(path, machine))
    assert (missing.result, missing.fix) == ("warn", "limpet init")
    path.write_text('[device]\nid = "a b"\n')
    found = list(configuration.configuration(installation.read(path, machine)))
    assert Counter(finding.result for finding in found) == {"bad": len(found)}
    assert any("device.id" in finding.what for finding in found)
    who = patient(tmp_path, config=table(tmp_path))
    assert "there is no model 'm'" in only(configuration.configuration, who).what


# --- all of it


def test_every_check_says_something_even_of_an_empty_machine(tmp_path: Path) -> None:
    found = examine(patient(tmp_path))
    assert len(found) >= len(CHECKS)
    for finding in found:
        assert finding.what
        assert bool(finding.fix) == (finding.result in {"warn", "bad"})
    order = list(dict.fromkeys(finding.check for finding in found))
    assert order.index("python") < order.index("ports") < order.index("broker") < order.index("clock")
    assert order[-1] == "configuration"


def doctor(*arguments: object, code: int) -> str:
    command = [sys.executable, "-m", "limpet", "doctor", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code < 2 and not done.stderr else done.stderr


def test_for_programs(tmp_path: Path) -> None:
    lay(
        tmp_path,
        {
            "proc/device-tree/model": "Raspberry Pi 4 Model B\0",
            "sys/devices/platform/soc/soc:firmware/get_throttled": "1\n",
        },
    )
    report = json.loads(doctor(tmp_path / "none.toml", "--json", "--root", tmp_path, code=1))
    assert report["machine"] == "Raspberry Pi 4 Model B"
    counted = Counter(finding["result"] for finding in report["findings"])
    assert {name: report[name] for name in counted} == dict(counted)
    (power,) = [finding for finding in report["findings"] if finding["check"] == "power"]
    assert power["result"] == "bad"


def test_for_people(tmp_path: Path) -> None:
    lay(tmp_path, {"sys/fs/cgroup/cgroup.controllers": "cpu memory"})
    lines = doctor(tmp_path / "none.toml", "--root", tmp_path, code=0).splitlines()
    assert "      > limpet init" in lines
    assert "0 bad" in lines[-1]


def test_a_root_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "there is no folder" in doctor(tmp_path, "--root", tmp_path / "absent", code=1)


def test_an_unknown_user_is_named(tmp_path: Path) -> None:
    assert "there is no user 'nobody-at-all'" in doctor(tmp_path, "--user", "nobody-at-all", code=1)

"""``limpet doctor`` on the installed unit: which devices it opens, and which drop-in is missing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from limpet.device.machine import User
from limpet.doctor import service
from support.boards import Board
from support.patients import lay, only, patient, table

if TYPE_CHECKING:
    from limpet.doctor.finding import Finding

SYSTEMD = Path(__file__).parents[2] / "systemd"
UNIT = {"usr/lib/systemd/system/limpet.service": (SYSTEMD / "limpet.service").read_text()}


def drop_in(name: str) -> dict[str, str]:
    text = (SYSTEMD / f"drop-ins/{name}.conf").read_text()
    return {f"etc/systemd/system/limpet.service.d/{name}.conf": text}


def finding_of(tmp_path: Path, files: dict[str, str], option: dict[str, Any]) -> Finding:
    config = table(tmp_path, sources={"s": {"kind": "camera", **option}})
    return only(service.service, patient(tmp_path, files, config=config))


@pytest.mark.parametrize(("begin", "allow", "name"), service.DROP_INS)
def test_the_drop_in_that_is_named_opens_the_node(tmp_path: Path, begin: str, allow: str, name: str) -> None:
    node = f"{begin}0"
    files = UNIT | {node[1:]: ""}
    refused = finding_of(tmp_path, files, {"device": node})
    assert (refused.result, refused.what) == ("bad", f"limpet.service may not open {node} (source s)")
    assert (
        f"/usr/share/limpet/drop-ins/{name}.conf /etc/systemd/system/limpet.service.d/{name}.conf" in refused.fix
    )
    assert f"DeviceAllow={allow} rw" in (SYSTEMD / f"drop-ins/{name}.conf").read_text()
    opened = finding_of(tmp_path, files | drop_in(name), {"device": node})
    assert (opened.result, opened.what) == ("ok", f"limpet.service opens {node}")


@pytest.mark.parametrize("node", ["/dev/ttyUSB0", "/dev/ttyAMA10", "/dev/pts/3"])
def test_serial_lines_are_open(tmp_path: Path, node: str) -> None:
    assert finding_of(tmp_path, UNIT | {node[1:]: ""}, {"port": node}).result == "ok"


def test_a_link_is_what_it_leads_to(tmp_path: Path) -> None:
    lay(tmp_path / "root", {"dev/video0": ""})
    (tmp_path / "root/dev/limpet-eye").symlink_to("video0")
    assert "/dev/video0" in finding_of(tmp_path, UNIT, {"device": "/dev/limpet-eye"}).what


def test_a_microphone_needs_the_drop_in_whatever_its_name_is(tmp_path: Path) -> None:
    config = table(tmp_path, sources={"s": {"kind": "audio", "device": "hw:CARD=Device,DEV=0"}})
    refused = only(service.service, patient(tmp_path, UNIT, config=config))
    assert (refused.result, refused.what) == ("bad", "limpet.service may not open /dev/snd/ (source s)")
    assert "drop-ins/audio.conf" in refused.fix
    opened = only(service.service, patient(tmp_path, UNIT | drop_in("audio"), config=config))
    assert (opened.result, opened.what) == ("ok", "limpet.service opens /dev/snd/")


HOME = "ProtectHome=tmpfs\nBindReadOnlyPaths=-/home/pi/pictures:/home/pi/pictures:rbind\n"


@pytest.mark.parametrize(
    ("path", "more", "seen"),
    [
        ("/var/lib/trap", {}, True),
        ("/srv/pictures/door", {}, False),
        ("/srv/pictures/door", drop_in("pictures"), True),
        ("/srv/picture", drop_in("pictures"), False),
        ("/mnt/stick", drop_in("pictures"), False),
        ("/tmp/one.jpg", {}, False),  # noqa: S108
        ("/home/pi/pictures", {}, False),
        ("/home/pi/pictures", {"etc/systemd/system/limpet.service.d/home.conf": HOME}, True),
        ("/home/pi", {"etc/systemd/system/limpet.service.d/home.conf": HOME}, False),
    ],
)
def test_a_folder_that_the_service_cannot_see_is_named(
    tmp_path: Path, path: str, more: dict[str, str], *, seen: bool
) -> None:
    config = table(
        tmp_path,
        sources={"s": {"kind": "images", "path": path}},
        pipelines={"p": {"source": "s", "model": f"{path}/m.tflite"}},
    )
    found = list(service.service(patient(tmp_path, UNIT | more, config=config)))
    assert [finding.result for finding in found] == (["ok"] if seen else ["bad", "bad"])
    if not seen:
        assert found[0].what == f"limpet.service cannot see {path} (source s)"
        assert found[1].what == f"limpet.service cannot see {path}/m.tflite (pipeline p)"


def test_what_no_drop_in_opens_is_a_line_to_write(tmp_path: Path) -> None:
    finding = finding_of(tmp_path, UNIT, {"device": "/dev/lidar0"})
    assert "DeviceAllow=/dev/lidar0 rw" in finding.fix
    own = {"run/systemd/system/limpet.service.d/lidar.conf": "[Service]\nDeviceAllow=/dev/lidar0 rw\n"}
    assert finding_of(tmp_path, UNIT | own, {"device": "/dev/lidar0"}).result == "ok"


@pytest.mark.parametrize(
    ("board", "name"),
    [
        ("raspberry-pi-5-coral-usb", "edgetpu-usb"),
        ("imx8mp-evk", "npu-vivante"),
        ("rk3588-mainline", "npu-accel"),
        ("coral-dev-board", "edgetpu-pcie"),
        ("jetson-orin-nano", "jetson"),
    ],
)
def test_accelerators_of_boards(tmp_path: Path, board: str, name: str) -> None:
    machine = Board(board, tmp_path / "board").machine()
    lay(machine.root, UNIT)
    findings = list(service.service(patient(tmp_path, machine=machine)))
    assert {finding.result for finding in findings} == {"warn"}
    missing = {re.findall(r"drop-ins/([a-z-]+)\.conf", finding.fix)[0] for finding in findings}
    assert name in missing
    for each in missing:
        lay(machine.root, drop_in(each))
    assert only(service.service, patient(tmp_path, machine=machine)).result == "ok"


def test_without_a_unit_there_is_nothing_to_say(tmp_path: Path) -> None:
    assert only(service.service, patient(tmp_path)).result == "skip"


def test_a_unit_that_closes_nothing(tmp_path: Path) -> None:
    unit = {"etc/systemd/system/limpet.service": "[Service]\nExecStart=/usr/bin/limpet run x\n# DeviceAllow=no\n"}
    assert finding_of(tmp_path, UNIT | unit, {"device": "/dev/video0"}).result == "ok"
    assert finding_of(tmp_path, UNIT, {"device": "/dev/video0"}).result == "ok"  # the one in etc still counts


def test_an_empty_line_takes_back_what_was_opened(tmp_path: Path) -> None:
    files = (
        UNIT
        | drop_in("camera")
        | {"etc/systemd/system/limpet.service.d/zz.conf": "[Service]\nDeviceAllow=\nSupplementaryGroups=\n"}
    )
    assert finding_of(tmp_path, files, {"device": "/dev/video0"}).result == "bad"
    unit = service.installed(lay(tmp_path / "root", {}))
    assert unit is not None
    assert (unit.user, unit.groups, unit.opens) == ("limpet", frozenset(), frozenset())


def test_the_services_user_has_the_groups_that_the_unit_gives(tmp_path: Path) -> None:
    board = Board("raspberry-pi-5-coral-usb", tmp_path / "board")
    lay(board.root, UNIT | drop_in("edgetpu-usb"))
    machine = board.machine()
    given = service.with_groups(machine).gids - machine.user.gids
    assert {name for name, gid in board.groups.items() if gid in given} >= {"plugdev"}
    assert service.with_groups(board.machine("plugdev")).name == "limpet"
    somebody = User("pi", 1000, frozenset({1000}))
    assert service.with_groups(type(machine)(board.root, somebody, board.owner)) == somebody

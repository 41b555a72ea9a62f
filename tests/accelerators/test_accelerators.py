"""What is found on each board, and what is said of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from limpet.accelerators.delegate_kinds import KINDS
from limpet.accelerators.inventory import Accelerator, discover, explain
from limpet.device.machine import Machine, User
from support.boards import BOARDS, Board


@pytest.fixture
def litert(tmp_path: Path) -> Path:
    """LiteRT's package with what Limpet looks for in it."""
    package = tmp_path / "ai_edge_litert"
    for name in (
        "libLiteRtWebGpuAccelerator.so",
        "vendors/intel_openvino/dispatch/libLiteRtDispatch_IntelOpenvino.so",
    ):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).touch()
    return package


def only(found: list[Accelerator], sort: str) -> Accelerator:
    (one,) = [device for device in found if device.sort == sort]
    return one


def test_edge_tpu_on_usb(tmp_path: Path, litert: Path) -> None:
    board = Board("raspberry-pi-5-coral-usb", tmp_path / "board")
    found = discover(board.machine("plugdev", "render", litert=litert))
    tpu = only(found, "edgetpu")
    assert (tpu.usable, tpu.delegate, tpu.where, tpu.node) == (True, "edgetpu", "usb 4-1", "/dev/bus/usb/004/003")
    assert tpu.notes == []
    gpu = only(found, "gpu")
    assert (gpu.usable, gpu.name, gpu.delegate) == (True, "Broadcom VideoCore GPU", "gpu")


def test_edge_tpu_that_this_user_may_not_open(tmp_path: Path) -> None:
    tpu = only(discover(Board("raspberry-pi-5-coral-usb", tmp_path).machine()), "edgetpu")
    assert not tpu.usable
    assert tpu.why_not == ["limpet may not open /dev/bus/usb/004/003 (crw-rw-r-- group plugdev)"]
    assert tpu.todo == ["sudo usermod -aG plugdev limpet, then start Limpet again"]


def test_edge_tpu_before_its_firmware_is_loaded(tmp_path: Path) -> None:
    board = Board("raspberry-pi-5-coral-usb", tmp_path)
    device = board.root / "sys/bus/usb/devices/4-1"
    for name, text in (("idVendor", "1a6e"), ("idProduct", "089a"), ("speed", "480")):
        (device / name).write_text(text)
    tpu = only(discover(board.machine("plugdev")), "edgetpu")
    assert tpu.usable
    assert [note.split(":")[0] for note in tpu.notes] == [
        "not used since it was plugged in",
        "plugged into USB 2",
    ]


def test_edge_tpu_unplugged(tmp_path: Path) -> None:
    board = Board("raspberry-pi-5-coral-usb", tmp_path)
    assert explain("edgetpu", board.machine("plugdev")) == ""
    (board.root / "sys/bus/usb/devices/4-1/idVendor").unlink()
    assert "edgetpu" not in {device.sort for device in discover(board.machine("plugdev"))}
    assert "is it plugged in?" in explain("edgetpu", board.machine("plugdev"))


def test_edge_tpu_without_its_library(tmp_path: Path) -> None:
    board = Board("raspberry-pi-5-coral-usb", tmp_path)
    (board.root / "usr/lib/aarch64-linux-gnu/libedgetpu.so.1").unlink()
    tpu = only(discover(board.machine("plugdev")), "edgetpu")
    assert tpu.why_not == ["libedgetpu.so.1 is not installed"]
    assert "install libedgetpu1-std" in tpu.todo[0]
    assert "install libedgetpu1-std" in explain("edgetpu", board.machine("plugdev"))


def test_edge_tpu_on_pcie(tmp_path: Path) -> None:
    board = Board("coral-dev-board", tmp_path)
    found = discover(board.machine("apex"))
    tpu = only(found, "edgetpu")
    assert (tpu.usable, tpu.node, tpu.driver, tpu.notes) == (True, "/dev/apex_0", "apex", ["45 °C"])
    vivante = only(found, "npu")
    assert vivante.why_not == [
        "limpet may not open /dev/galcore (crw-rw---- group video)",
        "libvx_delegate.so is not installed",
    ]


def test_edge_tpu_on_pcie_dead_or_without_driver(tmp_path: Path) -> None:
    board = Board("coral-dev-board", tmp_path)
    (board.root / "sys/class/apex/apex_0/status").write_text("DEAD\n")
    tpu = only(discover(board.machine("apex")), "edgetpu")
    assert (tpu.why_not, tpu.todo) == (["the chip says DEAD"], ["switch the power off and on"])
    (board.root / "sys/class/apex/apex_0/device").unlink()
    tpu = only(discover(board.machine("apex")), "edgetpu")
    assert tpu.why_not == ["no driver serves it"]
    assert "gasket-dkms" in tpu.todo[0]


def test_npu_with_a_vendors_delegate(tmp_path: Path) -> None:
    board = Board("imx8mp-evk", tmp_path)
    npu = only(discover(board.machine("video")), "npu")
    assert (npu.usable, npu.delegate, npu.node) == (True, "vx", "/dev/galcore")
    (board.root / "dev/galcore").unlink()
    assert discover(board.machine("video")) == []


def test_jetson(tmp_path: Path, litert: Path) -> None:
    board = Board("jetson-orin-nano", tmp_path / "board")
    gpu = only(discover(board.machine("video", litert=litert)), "gpu")
    assert (gpu.usable, gpu.name, gpu.where) == (True, "NVIDIA GPU", "platform 17000000.gpu")
    without = only(discover(board.machine("video")), "gpu")
    assert without.why_not == ["ai-edge-litert is not installed"]


def test_rockchip_with_the_vendors_kernel(tmp_path: Path) -> None:
    found = discover(Board("rk3588", tmp_path).machine("render"))
    npu = only(found, "npu")
    assert (npu.usable, npu.delegate, npu.node) == (False, "", "/dev/dri/renderD129")
    assert "runs .rknn files only" in npu.why_not[0]
    assert "rocket" in npu.todo[0]
    gpu = only(found, "gpu")
    assert (gpu.node, gpu.delegate) == ("/dev/mali0", "armnn")
    assert [reason.split()[0] for reason in gpu.why_not] == ["limpet", "libarmnnDelegate.so"]


def test_rockchip_with_the_mainline_kernel(tmp_path: Path, litert: Path) -> None:
    found = discover(Board("rk3588-mainline", tmp_path / "board").machine("render", litert=litert))
    npu, gpu = only(found, "npu"), only(found, "gpu")
    assert (npu.usable, npu.delegate, npu.node) == (True, "teflon", "/dev/accel/accel0")
    assert (gpu.usable, gpu.name) == (True, "Arm Mali GPU")


def test_intel_npu(tmp_path: Path, litert: Path) -> None:
    board = Board("intel-nuc-npu", tmp_path / "board")
    npu = only(discover(board.machine("render", litert=litert)), "npu")
    assert (npu.usable, npu.delegate) == (False, "npu")
    assert npu.why_not == [
        "ai-edge-litert-sdk-intel is not installed",
        "the NPU's user-space driver is not installed",
    ]
    (board.root / "usr/lib/x86_64-linux-gnu/libze_intel_npu.so.1").touch()
    machine = board.machine("render", litert=litert, modules=("ai_edge_litert_sdk_intel",))
    assert only(discover(machine), "npu").usable
    assert only(discover(machine), "gpu").usable


def test_gpu_without_a_vulkan_driver(tmp_path: Path, litert: Path) -> None:
    gpu = only(
        discover(Board("raspberry-pi-5-ai-hat", tmp_path / "board").machine("render", litert=litert)), "gpu"
    )
    assert gpu.why_not == ["libvulkan.so.1 is not installed", "no Vulkan driver for v3d (there are none)"]


def test_hailo_is_found_and_said_to_be_of_no_use(tmp_path: Path) -> None:
    npu = only(discover(Board("raspberry-pi-5-ai-hat", tmp_path).machine()), "npu")
    assert (npu.name, npu.node, npu.driver, npu.usable) == ("Hailo-8", "/dev/hailo0", "hailo", False)
    assert "HEF" in npu.why_not[0]


def test_a_machine_without_any(tmp_path: Path) -> None:
    machine = Board("virtual-machine", tmp_path).machine()
    assert discover(machine) == []
    assert "is it plugged in?" in explain("edgetpu", machine)
    assert explain("external", machine) == ""


def test_a_folder_that_is_no_machine(tmp_path: Path) -> None:
    assert discover(Machine(tmp_path, platform="linux")) == []


def test_apple(tmp_path: Path) -> None:
    package = tmp_path / "litert"
    package.mkdir()
    (package / "libLiteRtMetalAccelerator.dylib").touch()
    with_ = Machine(tmp_path, litert=package, has_module=lambda _: True, platform="darwin")
    without = Machine(tmp_path, litert=None, has_module=lambda _: False, platform="darwin")
    assert [(device.name, device.usable) for device in discover(with_)] == [
        ("Apple GPU (Metal)", True),
        ("Apple Neural Engine", True),
    ]
    assert [device.todo[0] for device in discover(without)] == [
        KINDS["gpu"].install,
        "pip install 'limpet[coreml]'",
    ]


@pytest.mark.parametrize("name", BOARDS)
def test_all_that_is_said_holds_together(name: str, tmp_path: Path) -> None:
    for device in discover(Board(name, tmp_path).machine()):
        assert device.usable == (not device.why_not)
        assert len(device.why_not) == len(device.todo)
        assert device.delegate in {*KINDS, ""}
        if device.delegate and device.node:
            opened = KINDS[device.delegate].devices
            assert any(path.match(pattern) for path in at_or_above(device.node) for pattern in opened), device


def at_or_above(node: str) -> list[Path]:
    return [Path(node), *Path(node).parents]


@pytest.mark.parametrize(
    ("mode", "uid", "gids", "want"),
    [
        (0o600, None, set(), True),
        (0o400, None, set(), False),
        (0o660, 12345, {"own"}, True),
        (0o640, 12345, {"own"}, False),
        (0o660, 12345, set(), False),
        (0o666, 12345, set(), True),
        (0o000, 0, set(), True),
    ],
)
def test_permissions_of_real_files(
    mode: int, uid: int | None, gids: set[str], want: object, tmp_path: Path
) -> None:
    node = tmp_path / "dev" / "thing"
    node.parent.mkdir()
    node.touch()
    node.chmod(mode)
    status = node.stat()
    own = status.st_uid or 4321
    if status.st_uid == 0:  # For root everything is open: give the file to somebody.
        os.chown(node, own, 4321)
    group = node.stat().st_gid
    user = User("somebody", own if uid is None else uid, frozenset({group} if gids else ()))
    refusal = Machine(tmp_path, user).refusal("/dev/thing")
    assert (refusal is None) is want
    assert Machine(tmp_path, user).refusal("/dev/other")

"""Which accelerators this machine has, and for each whether Limpet can use it, why not, and what to do then.

What is found is what the kernel and the file system say. That a model really runs there is proven by running it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

from limpet.accelerators.delegate_kinds import KINDS
from limpet.device.machine import Machine, Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from limpet.contracts.delegate import Choice

Sort: TypeAlias = Literal["edgetpu", "gpu", "npu"]


class Accelerator(msgspec.Struct, kw_only=True):
    """An accelerator and what Limpet makes of it.

    ``where`` is its place on a bus, ``node`` what must be opened to use it. ``delegate`` goes into a pipeline's
    list of delegates; it is empty where nothing in Limpet can use the device. ``usable`` if ``why_not`` is empty;
    ``todo`` has a remedy for each reason. ``notes`` are worth knowing and stop nothing.
    """

    sort: Sort
    name: str
    where: str = ""
    node: str = ""
    driver: str = ""
    delegate: str = ""
    usable: bool = True
    why_not: list[str] = []
    todo: list[str] = []
    notes: list[str] = []

    def add_problems(self, *problems: Problem | None) -> Accelerator:
        """Note problems: the accelerator is not usable."""
        for problem in problems:
            if problem:
                self.usable = False
                self.why_not.append(problem.reason)
                self.todo.append(problem.todo)
        return self


def discover(machine: Machine | None = None) -> list[Accelerator]:
    """Return the accelerators of a machine, this one if none is given."""
    machine = machine or Machine()
    return [found for family in _FAMILIES for found in family(machine)]


def explain(delegate: str, machine: Machine | None = None) -> str:
    """Say in a line why a delegate may not find its device; empty where nothing is known of it.

    For a library that fails without a reason, as libedgetpu does.
    """
    if delegate not in {"edgetpu", "vx", "teflon", "ethosu", "hexagon", "armnn", "gpu", "npu"}:
        return ""
    found = [device for device in discover(machine) if device.delegate == delegate]
    if not found:
        return f"no device for it was found ({KINDS[delegate].title}); is it plugged in?"
    return "; ".join(
        f"{device.name}: {reason}: {todo}"
        for device in found
        for reason, todo in zip(device.why_not, device.todo, strict=True)
    )


def missing(machine: Machine, choice: Choice) -> tuple[str, str]:
    """Return what a delegate lacks, and what to do; two empty texts where nothing is known to be missing."""
    kind = KINDS[choice.kind]
    if choice.how == "library" and not any(machine.has_library(name) for name in choice.libraries):
        return f"{choice.libraries[0]} is not installed", kind.install
    if choice.how == "compiled" and machine.litert is None:
        return "ai-edge-litert is not installed", kind.install
    usable = any(device.usable and device.delegate == choice.kind for device in discover(machine))
    reason = "" if usable else explain(choice.kind, machine)
    return reason, "limpet devices says what to do about it" if reason else ""


# --- what a delegate needs besides its device


def _library(machine: Machine, delegate: str) -> Problem | None:
    names = KINDS[delegate].libraries
    if any(machine.has_library(name) for name in names):
        return None
    return Problem(f"{names[0]} is not installed", KINDS[delegate].install)


def _litert(machine: Machine, file: str, what: str) -> Problem | None:
    """Say what is missing of LiteRT's own package."""
    if machine.litert is None:
        return Problem("ai-edge-litert is not installed", KINDS["gpu"].install)
    if any(True for _ in machine.litert.glob(file)):
        return None
    return Problem(f"this build of ai-edge-litert has no {what}", "nothing to be done on this platform")


def _dispatch(machine: Machine, vendor: str, module: str = "") -> Iterator[Problem | None]:
    """Say what is missing for LiteRT's NPU dispatch of a vendor."""
    yield _litert(machine, f"vendors/{vendor}/dispatch/*", f"dispatch library for {vendor}")
    if module and not machine.has_module(module):
        name = module.replace("_", "-")
        yield Problem(f"{name} is not installed", f"pip install {name}, in the version of ai-edge-litert")


# --- Edge TPU


def _edgetpu_usb(machine: Machine) -> Iterator[Accelerator]:
    """Find Coral's USB accelerator. It changes its ids when the library has loaded its firmware."""
    for device in machine.paths("sys/bus/usb/devices/*"):
        ids = machine.text(device / "idVendor"), machine.text(device / "idProduct")
        if ids not in {("1a6e", "089a"), ("18d1", "9302")}:
            continue
        bus, number = machine.text(device / "busnum"), machine.text(device / "devnum")
        node = f"/dev/bus/usb/{int(bus or 0):03}/{int(number or 0):03}"
        found = Accelerator(
            sort="edgetpu",
            name="Google Edge TPU (USB)",
            where=f"usb {device.name}",
            node=node,
            delegate="edgetpu",
        )
        if ids[0] == "1a6e":
            found.notes.append("not used since it was plugged in: its firmware is loaded on first use")
        if machine.text(device / "speed") in {"12", "480"}:
            found.notes.append("plugged into USB 2: transfers are ten times slower than on USB 3")
        yield found.add_problems(machine.refusal(node), _library(machine, "edgetpu"))


def _edgetpu_pci(machine: Machine) -> Iterator[Accelerator]:
    for device in _pci(machine, "0x1ac1", {"0x089a"}):
        found = Accelerator(
            sort="edgetpu",
            name="Google Edge TPU (PCIe)",
            where=f"pci {device.name}",
            driver=machine.link(device / "driver"),
            delegate="edgetpu",
        )
        chips = [path for path in machine.paths("sys/class/apex/apex_*") if _belongs(path, device)]
        if not chips:
            found.add_problems(
                Problem("no driver serves it", "install gasket-dkms from Coral's package repository")
            )
        for chip in chips[:1]:
            found.node = f"/dev/{chip.name}"
            found.add_problems(machine.refusal(found.node))
            state = machine.text(chip / "status")
            if state and state != "ALIVE":
                found.add_problems(Problem(f"the chip says {state}", "switch the power off and on"))
            temperature = machine.text(chip / "temp")
            if temperature.isdecimal():
                found.notes.append(f"{int(temperature) / 1000:.0f} °C")
        yield found.add_problems(_library(machine, "edgetpu"))


# --- GPUs

_GPU_DRIVERS = {
    "i915": ("Intel GPU", "intel"),
    "xe": ("Intel GPU", "intel"),
    "amdgpu": ("AMD GPU", "radeon"),
    "nouveau": ("NVIDIA GPU", "nouveau"),
    "nvidia": ("NVIDIA GPU", "nvidia"),
    "nvgpu": ("NVIDIA GPU", "nvidia"),
    "gk20a": ("NVIDIA GPU", "nvidia"),
    "v3d": ("Broadcom VideoCore GPU", "broadcom"),
    "msm": ("Qualcomm Adreno GPU", "freedreno"),
    "msm_dpu": ("Qualcomm Adreno GPU", "freedreno"),
    "panfrost": ("Arm Mali GPU", "panfrost"),
    "panthor": ("Arm Mali GPU", "panfrost"),
    "mali": ("Arm Mali GPU", "mali"),
    "powervr": ("Imagination PowerVR GPU", "powervr"),
    "asahi": ("Apple GPU", "asahi"),
    "virtio_gpu": ("virtual GPU (virtio)", "virtio"),
    "virtio-pci": ("virtual GPU (virtio)", "virtio"),
}
"""By kernel driver: what it is, and a word in the name of its Vulkan driver's library."""
_NOT_GPUS = {"rknpu", "etnaviv", "vgem", "vkms", "tegra-host1x", "rockchip-drm"}


def _gpus(machine: Machine) -> Iterator[Accelerator]:
    for render in machine.paths("sys/class/drm/renderD*"):
        driver = machine.uevent(render / "device").get("DRIVER") or machine.link(render / "device" / "driver")
        if driver.lower() not in _NOT_GPUS:
            yield _gpu(machine, driver, f"/dev/dri/{render.name}", render.name)
    for device in machine.paths("sys/bus/platform/drivers/gk20a/*.gpu"):  # NVIDIA Jetson has no render node for it
        node = next((n for n in ("/dev/nvgpu/igpu0/ctrl", "/dev/nvhost-gpu") if _exists(machine, n)), "")
        yield _gpu(machine, "gk20a", node or "/dev/nvhost-gpu", f"platform {device.name}")


def _gpu(machine: Machine, driver: str, node: str, where: str) -> Accelerator:
    name, word = _GPU_DRIVERS.get(driver, (f"GPU with driver {driver or 'unknown'}", driver))
    found = Accelerator(sort="gpu", name=name, where=where, node=node, driver=driver, delegate="gpu")
    found.add_problems(
        machine.refusal(node), _litert(machine, "libLiteRtWebGpuAccelerator.*", "WebGPU accelerator")
    )
    if not machine.has_library("libvulkan.so.1"):
        found.add_problems(Problem("libvulkan.so.1 is not installed", "sudo apt install libvulkan1"))
    drivers = machine.vulkan_drivers()
    if not any(word and word in library.lower() for library in drivers):
        having = f"there are {', '.join(drivers)}" if drivers else "there are none"
        todo = "sudo apt install mesa-vulkan-drivers, or the vendor's Vulkan driver"
        found.add_problems(Problem(f"no Vulkan driver for {driver or 'it'} ({having})", todo))
    return found


def _apple(machine: Machine) -> Iterator[Accelerator]:
    if machine.platform != "darwin":
        return
    gpu = Accelerator(sort="gpu", name="Apple GPU (Metal)", driver="Metal", delegate="gpu")
    yield gpu.add_problems(_litert(machine, "libLiteRtMetalAccelerator.*", "Metal accelerator"))
    engine = Accelerator(sort="npu", name="Apple Neural Engine", driver="Core ML")
    engine.notes.append("for Core ML models: runtime coreml with compute units that include it")
    if not machine.has_module("coremltools"):
        engine.add_problems(Problem("coremltools is not installed", "pip install 'limpet[coreml]'"))
    yield engine


# --- NPUs

_ACCEL_DRIVERS = {
    "intel_vpu": ("Intel NPU", "npu"),
    "rocket": ("Rockchip NPU (driver rocket)", "teflon"),
    "ethosu": ("Arm Ethos-U NPU (driver ethosu)", "teflon"),
    "amdxdna": ("AMD NPU (XDNA)", ""),
    "qaic": ("Qualcomm Cloud AI 100", ""),
    "habanalabs": ("Intel Gaudi", ""),
}
_NOTHING = Problem("Limpet has no delegate for it", "use the CPU")


def _accel(machine: Machine) -> Iterator[Accelerator]:
    """Find NPUs with a driver of the kernel's accel subsystem."""
    for entry in machine.paths("sys/class/accel/accel*"):
        driver = machine.uevent(entry / "device").get("DRIVER") or machine.link(entry / "device" / "driver")
        name, delegate = _ACCEL_DRIVERS.get(driver, (f"accelerator with driver {driver or 'unknown'}", ""))
        node = f"/dev/accel/{entry.name}"
        found = Accelerator(sort="npu", name=name, where=entry.name, node=node, driver=driver, delegate=delegate)
        found.add_problems(machine.refusal(node))
        if delegate == "npu":
            found.add_problems(
                *_dispatch(machine, "intel_openvino", "ai_edge_litert_sdk_intel"), _intel_npu(machine)
            )
        else:
            found.add_problems(_library(machine, delegate) if delegate else _NOTHING)
        yield found


def _intel_npu(machine: Machine) -> Problem | None:
    if machine.has_library("libze_intel_npu.so.1") or machine.has_library("libze_intel_vpu.so.1"):
        return None
    todo = "install intel-level-zero-npu and intel-driver-compiler-npu of Intel's linux-npu-driver"
    return Problem("the NPU's user-space driver is not installed", todo)


def _with_delegate(machine: Machine) -> Iterator[Accelerator]:
    """Find what shows as a device node of a vendor's driver and has a delegate as a library."""
    vendors: tuple[tuple[str, Sort, str, str, str], ...] = (
        ("dev/galcore", "npu", "galcore", "Vivante NPU or GPU (driver galcore)", "vx"),
        ("dev/ethosu*", "npu", "ethosu", "Arm Ethos-U NPU (vendor's driver)", "ethosu"),
        ("dev/fastrpc-cdsp*", "npu", "fastrpc", "Qualcomm Hexagon DSP", "hexagon"),
        ("dev/adsprpc-smd", "npu", "adsprpc", "Qualcomm Hexagon DSP", "hexagon"),
        ("dev/mali[0-9]", "gpu", "mali", "Arm Mali GPU (vendor's driver)", "armnn"),
    )
    for pattern, sort, driver, name, delegate in vendors:
        for path in machine.paths(pattern):
            if path.name.endswith("-secure"):
                continue
            node = f"/dev/{path.name}"
            found = Accelerator(sort=sort, name=name, where=node, node=node, driver=driver, delegate=delegate)
            yield found.add_problems(machine.refusal(node), _library(machine, delegate))


def _with_dispatch(machine: Machine) -> Iterator[Accelerator]:
    """Find NPUs that show as a vendor's device node and that LiteRT can dispatch to."""
    for name, vendor, patterns in (
        ("MediaTek APU", "mediatek", ("dev/apusys*", "dev/vpu*")),
        ("Google Tensor TPU", "google_tensor", ("dev/abrolhos*", "dev/janeiro*", "dev/rio*")),
    ):
        for path in list(machine.paths(*patterns))[:1]:
            node = f"/dev/{path.name}"
            found = Accelerator(sort="npu", name=name, where=node, node=node, delegate="npu")
            yield found.add_problems(machine.refusal(node), *_dispatch(machine, vendor))


def _etnaviv(machine: Machine) -> Iterator[Accelerator]:
    for render in machine.paths("sys/class/drm/renderD*"):
        if machine.uevent(render / "device").get("DRIVER") == "etnaviv":
            node = f"/dev/dri/{render.name}"
            found = Accelerator(
                sort="npu",
                name="Vivante core (driver etnaviv)",
                where=render.name,
                node=node,
                driver="etnaviv",
                delegate="teflon",
            )
            found.notes.append("useful only if the core is an NPU; the driver serves GPUs too")
            yield found.add_problems(machine.refusal(node), _library(machine, "teflon"))


def _rknpu(machine: Machine) -> Iterator[Accelerator]:
    renders = [
        path
        for path in machine.paths("sys/class/drm/renderD*")
        if machine.uevent(path / "device").get("DRIVER", "").lower() == "rknpu"
    ]
    nodes = [f"/dev/dri/{path.name}" for path in renders] or [f"/dev/{p.name}" for p in machine.paths("dev/rknpu")]
    for node in nodes:
        found = Accelerator(sort="npu", name="Rockchip NPU", where=node, node=node, driver="rknpu")
        todo = "use a kernel with the driver rocket (6.18 or later) and the delegate teflon"
        yield found.add_problems(
            Problem("the vendor's driver runs .rknn files only, and has no TFLite delegate", todo)
        )


def _hailo(machine: Machine) -> Iterator[Accelerator]:
    for device in _pci(machine, "0x1e60"):
        chip = {"0x2864": "Hailo-8", "0x45c4": "Hailo-10H"}.get(machine.text(device / "device"), "Hailo chip")
        found = Accelerator(
            sort="npu", name=chip, where=f"pci {device.name}", driver=machine.link(device / "driver")
        )
        for path in [p for p in machine.paths("sys/class/hailo_chardev/hailo*") if _belongs(p, device)]:
            found.node = f"/dev/{path.name}"
        todo = "use the CPU, or HailoRT beside Limpet"
        yield found.add_problems(
            Problem("it runs HEF files of Hailo's own compiler, and has no TFLite delegate", todo)
        )


def _pci(machine: Machine, vendor: str, devices: set[str] | None = None) -> Iterator[Path]:
    for path in machine.paths("sys/bus/pci/devices/*"):
        if machine.text(path / "vendor") == vendor and (
            devices is None or machine.text(path / "device") in devices
        ):
            yield path


def _belongs(entry: Path, device: Path) -> bool:
    """Whether an entry of a class in sysfs is that of a device."""
    return (entry / "device").resolve() == device.resolve()


def _exists(machine: Machine, node: str) -> bool:
    return (machine.root / node.lstrip("/")).exists()


_FAMILIES: tuple[Callable[[Machine], Iterator[Accelerator]], ...] = (
    _edgetpu_usb,
    _edgetpu_pci,
    _accel,
    _with_delegate,
    _with_dispatch,
    _etnaviv,
    _rknpu,
    _hailo,
    _gpus,
    _apple,
)

"""The delegates that Limpet knows by name, and which options a configuration may give them. No I/O, no numpy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from limpet.contracts.assignment import DelegateTable, Option
from limpet.contracts.delegate import Choice, How
from limpet.contracts.needs import Needs
from limpet.errors import ConfigError
from limpet.wording import suggest

EXTERNAL = "external"
_DEV = Path("/dev")


class DelegateKind(msgspec.Struct, frozen=True):
    """A sort of delegate.

    ``how`` it is reached: a shared ``library`` with TFLite's external delegate interface, or ``compiled``, by
    LiteRT's CompiledModel. ``coreml`` is for that runtime alone. ``libraries`` are the file names to look for.
    ``install`` says where to get the library. ``options`` are its default options; the configuration can override
    them. ``devices`` are patterns of what its executor may open in ``/dev``: all if that is not known.
    ``exclusive``: one process at a time can have the device.
    """

    title: str
    how: How = "library"
    libraries: tuple[str, ...] = ()
    install: str = ""
    options: Mapping[str, Option] = msgspec.field(default_factory=dict)
    devices: tuple[str, ...] = ("/dev",)
    exclusive: bool = False


_GPUS = ("/dev/dri", "/dev/mali*", "/dev/dma_heap")
_NPUS = ("/dev/accel", "/dev/dri")
_HEXAGON = ("/dev/fastrpc-*", "/dev/adsprpc-smd*", "/dev/dma_heap")

KINDS: Mapping[str, DelegateKind] = {
    "cpu": DelegateKind("the CPU", "cpu", devices=()),
    "gpu": DelegateKind(
        "GPU through LiteRT",
        "compiled",
        install="pip install 'ai-edge-litert>=2.1'",
        devices=(*_GPUS, "/dev/nvidia*", "/dev/nvhost*", "/dev/nvmap", "/dev/nvgpu", "/dev/kgsl-3d0", "/dev/dxg"),
    ),
    "npu": DelegateKind(
        "NPU through LiteRT's dispatch",
        "compiled",
        install="install ai-edge-litert 2.1 or later and the SDK package for the NPU, as ai-edge-litert-sdk-intel",
        devices=(*_NPUS, *_HEXAGON, "/dev/apusys*", "/dev/vpu*", "/dev/abrolhos*", "/dev/janeiro*", "/dev/rio*"),
    ),
    "edgetpu": DelegateKind(
        "Google Edge TPU (Coral)",
        libraries=("libedgetpu.so.1", "libedgetpu.1.dylib"),
        install="install libedgetpu1-std from Coral's package repository",
        # All of USB: it comes back as another device once its firmware is loaded.
        devices=("/dev/bus/usb", "/dev/apex_*"),
        exclusive=True,
    ),
    "vx": DelegateKind(
        "Vivante NPU, vendor's driver (i.MX 8M Plus, STM32MP2)",
        libraries=("libvx_delegate.so", "libvx_delegate.so.2"),
        install="install tensorflow-lite-vx-delegate, which NXP's and ST's images have",
        devices=("/dev/galcore", "/dev/dri", "/dev/dma_heap"),
    ),
    "teflon": DelegateKind(
        "NPU through Mesa (Vivante, RK3588, Ethos-U)",
        libraries=("libteflon.so",),
        install="install mesa-teflon-delegate; the kernel must have the driver etnaviv, rocket or ethosu",
        devices=_NPUS,
    ),
    "ethosu": DelegateKind(
        "Arm Ethos-U, vendor's driver (i.MX 93)",
        libraries=("libethosu_delegate.so",),
        install="install tensorflow-lite-ethosu-delegate, which NXP's images have; compile the model with Vela",
        devices=("/dev/ethosu*",),
    ),
    "armnn": DelegateKind(
        "Arm NN (Mali GPU, Neon)",
        libraries=("libarmnnDelegate.so",),
        install="install Arm NN with its TFLite delegate; Debian's package is too old to have it",
        options={"backends": "GpuAcc,CpuAcc"},
        devices=_GPUS,
    ),
    "hexagon": DelegateKind(
        "Qualcomm Hexagon through AI Engine Direct (QNN)",
        libraries=("libQnnTFLiteDelegate.so",),
        install="install the Qualcomm AI Runtime SDK (libQnnTFLiteDelegate.so and libQnnHtp.so)",
        options={"backend_type": "htp"},
        devices=_HEXAGON,
    ),
    "tidl": DelegateKind(
        "TI deep learning accelerator (AM62A, AM68A)",
        libraries=("libtidl_tfl_delegate.so",),
        install="use TI's Processor SDK image; the option artifacts_folder names the compiled model",
    ),
    "ane": DelegateKind("Apple Neural Engine", "coreml", install="use the runtime coreml on a Mac", devices=()),
    EXTERNAL: DelegateKind(
        "any library with TFLite's external delegate interface", install="install it, or correct its path"
    ),
}


def resolve(name: str, tables: Mapping[str, DelegateTable]) -> Choice:
    """Find out what ``name`` means: a table of that name, a known kind, or ``external:LIBRARY``.

    ``ConfigError`` says what is wrong with the name or its table.
    """
    kind, _, library = name.partition(":")
    if library and kind == EXTERNAL:
        return _choose(name, DelegateTable(kind=EXTERNAL, library=library))
    table = tables.get(name)
    if table is None and name not in KINDS:
        known = {*KINDS, *tables} - {EXTERNAL}
        raise ConfigError([f"delegate {name!r} is neither known nor described by a table{suggest(name, known)}"])
    return _choose(name, table or DelegateTable())


def needs(choice: Choice) -> Needs:
    """Return what the executor of a delegate opens: its kind's devices, and the paths among its options.

    An option with "cache" in its name is a folder that the delegate writes in, or a file there.
    """
    paths = {key: Path(text).absolute() for key, text in choice.options.items() if "/" in text}
    nodes = {path for path in paths.values() if _DEV in path.parents}
    caches = {path.parent if path.suffix else path for key, path in paths.items() if "cache" in key}
    return Needs(
        devices=(*KINDS[choice.kind].devices, *sorted(map(str, nodes))),
        read=tuple(sorted({*paths.values()} - nodes)),
        write=tuple(sorted(caches)),
    )


def _choose(name: str, table: DelegateTable) -> Choice:
    named = table.kind or name
    kind = KINDS.get(named)
    if kind is None:
        raise ConfigError([f"delegates.{name}.kind: {named!r} is unknown{suggest(named, KINDS)}"])
    libraries = (table.library,) if table.library else kind.libraries
    if kind.how == "library" and not libraries:
        raise ConfigError([f"delegates.{name}.library: missing; it names the shared library"])
    if kind.how != "library" and table.library:
        raise ConfigError([f"delegates.{name}.library: {kind.title} has none"])
    options = {key: _text(value) for key, value in {**kind.options, **table.options}.items()}
    return Choice(name, named, libraries, options, kind.how)


def _text(option: Option) -> str:
    return str(int(option)) if isinstance(option, bool) else str(option)

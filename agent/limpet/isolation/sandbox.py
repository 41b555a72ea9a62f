"""What a worker gives up before it reads the first byte that somebody else wrote.

Afterwards it can read Python, the system's libraries, its models and its source's files; write its cache of
unpacked models; open devices if it has any; and start threads. It can start no program, open no socket, signal
nobody and gain no privilege. All of it works without any privilege.
"""

from __future__ import annotations

import ctypes
import logging
import os
import resource
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from limpet.deploy import store
from limpet.errors import DeployError
from limpet.isolation import landlock, seccomp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from limpet.config import Config
    from limpet.inference.plan import SourcePlan

log = logging.getLogger(__name__)

_PR_SET_NO_NEW_PRIVS = 38
_LIMITS = {
    resource.RLIMIT_CORE: 0,  # a core has the last samples in it
    resource.RLIMIT_NOFILE: 512,
    resource.RLIMIT_FSIZE: 1 << 31,  # the largest model
}
_FIRST_TO_GO = 500
"""Of 1000: whom the kernel kills when memory runs out. The supervisor stays at its unit's -200."""
_SYSTEM = ("/usr", "/lib", "/lib64", "/sys", "/run/udev", "/etc/ld.so.cache", "/etc/localtime")
# Not all of /proc: the environment and the memory of other processes are in it.
_PROC = ("self", "sys", "cpuinfo", "meminfo", "stat", "version", "filesystems", "devices", "driver", "bus")
_DRIVERS = ("/etc/vulkan", "/etc/OpenCL", "/etc/glvnd")
_ALWAYS = ("/dev/null", "/dev/zero", "/dev/urandom")
_RESOLVER = ("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/services", "/etc/gai.conf", "/etc/ssl")
_WITHOUT_DEVICES = {"replay", "mqtt"}
"""Kinds of sources. Any other may be a third party's, and is taken to have one."""
_LIBRARY_PATHS = ("LD_LIBRARY_PATH", "VK_ICD_FILENAMES", "VK_DRIVER_FILES")


@dataclass(frozen=True, slots=True)
class Needs:
    """What a worker cannot do without. ``devices``: all that its user may open in ``/dev``.

    ``network``: its source is on the network.
    """

    read: frozenset[Path]
    change: frozenset[Path]
    devices: bool = False
    network: bool = False

    def covers(self, other: Needs) -> bool:
        """Whether a worker that entered its sandbox with these needs can do with it what ``other`` asks for."""
        return (
            all(self._reads(path) for path in other.read)
            and other.change <= self.change
            and self.devices >= other.devices
            and self.network >= other.network
        )

    def _reads(self, path: Path) -> bool:
        return not self.read.isdisjoint({path, *path.parents})


def needs(config: Config, source: SourcePlan, *, executor: bool = False) -> Needs:
    """Return what the worker of one source needs, or an ``executor`` of one of its models. Nothing is opened.

    An executor uses an accelerator and reads no source; for a worker it is the other way round.
    """
    paths = {config.models, *_paths(source.part.config), *_named(config)}
    paths |= {_model(config, pipeline.model) for pipeline in config.pipelines.values()}
    read = {beside for path in paths for beside in _with_folder(path, config.base)}
    return Needs(
        frozenset(path.resolve() for path in read),
        frozenset({config.device.state.resolve() / "cache"}),
        devices=executor or config.sources[source.name].kind not in _WITHOUT_DEVICES,
        network=not executor and any("://" in text for text in _texts(source.part.config)),
    )


def enter(wanted: Needs) -> list[str]:
    """Give up everything else, for ever; return in words what is in force.

    Of ``no-new-privileges``, ``limits``, ``landlock-VERSION``, ``seccomp`` and ``no-network``. What this system
    cannot do is left out and said in one line. To be called in a process without other threads: Landlock holds
    for the thread that calls it and for what that one starts.
    """
    if sys.platform != "linux":
        log.info("no sandbox: this is not Linux")
        return []
    for folder in wanted.change:
        _make(folder)
    in_force, missing = [], []
    if ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0:
        in_force.append("no-new-privileges")
    if _limit():
        in_force.append("limits")
    try:
        in_force.append(f"landlock-{landlock.restrict(_allowed(wanted), network=wanted.network)}")
    except OSError as error:
        missing.append(f"landlock: {error.strerror}; it may read and write what its user may")
    try:
        seccomp.install(seccomp.rules(devices=wanted.devices, network=wanted.network))
        in_force += ["seccomp"] if wanted.network else ["seccomp", "no-network"]
    except seccomp.Unavailable as reason:
        missing.append(f"seccomp: {reason}; it may start programs and open sockets")
    if missing:
        log.warning("sandbox not complete: %s", "; ".join(missing))
    return in_force


def _allowed(wanted: Needs) -> dict[Path, int]:
    """Return rights by path; of two rights on one path the later is the greater."""
    proc = (f"/proc/{name}" for name in _PROC)
    system = [*_SYSTEM, *proc, *_DRIVERS, *(_RESOLVER if wanted.network else ())]
    return {
        **{Path(path): landlock.READ for path in (*system, *_python(), *_libraries())},
        **dict.fromkeys(wanted.read, landlock.READ),
        **{Path(path): landlock.USE for path in _ALWAYS},
        **({Path("/dev"): landlock.USE} if wanted.devices else {}),
        **dict.fromkeys(wanted.change, landlock.CHANGE),
    }


def _python() -> set[str]:
    """Return where modules come from: plugins, and what the runtimes import on first use."""
    return {sys.prefix, sys.base_prefix, sys.exec_prefix, *(path for path in sys.path if path)}


def _libraries() -> Iterator[str]:
    """Return folders of libraries and drivers that the environment names."""
    for key in _LIBRARY_PATHS:
        for path in os.environ.get(key, "").split(":"):
            if path:
                yield path if Path(path).is_dir() else str(Path(path).parent)


def _model(config: Config, model: str) -> Path:
    """Return a model's file; the store where it is not there yet."""
    try:
        return store.find(model, config.base, config.models)
    except DeployError:
        return config.models


def _with_folder(path: Path, base: Path) -> set[Path]:
    """Return a path and its folder, so that a file put in its place by renaming can be read as well.

    The folder of the configuration may hold secrets, as may those above it: of these only the file.
    """
    if path.is_dir() or path.parent.resolve() in {base.resolve(), *base.resolve().parents}:
        return {path}
    return {path, path.parent}


def _paths(value: Any) -> set[Path]:
    """Return the paths among the fields of a plugin's ``Config``."""
    return {path for path in msgspec.structs.asdict(value).values() if isinstance(path, Path)}


def _named(config: Config) -> set[Path]:
    """Return the files that its tables name: a delegate's library, a list of labels."""
    words = {word.partition(":")[2] or word for word in _texts(config)}
    return {path for word in words if "/" in word and (path := config.base / word).is_file()}


def _texts(value: Any) -> Iterator[str]:
    """Return every text in a tree of structs, tables and lists."""
    if isinstance(value, msgspec.Struct):
        value = msgspec.structs.asdict(value)
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        log.warning("%s: %s", folder, error.strerror)


def _limit() -> bool:
    """Lower the limits; those that are lower already stay. When memory runs out, let it be a worker that goes."""
    for which, most in _LIMITS.items():
        hard = resource.getrlimit(which)[1]
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(which, (least, least))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(_FIRST_TO_GO))
    return True

"""What a worker or an executor gives up before bytes that someone else wrote can do harm.

Afterwards it can read Python, the system's libraries and the files that it needs; write its cache; open devices
that it needs; and start threads. It can start no program, open no socket, signal no process and gain no privilege.
All of it works without any privilege.
"""

from __future__ import annotations

import ctypes
import logging
import os
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from limpet.device import state_files
from limpet.isolation import device_nodes, landlock, seccomp

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from limpet.isolation.permissions import Permissions

log = logging.getLogger(__name__)

_PR_SET_NO_NEW_PRIVS = 38
_LIMITS = {
    resource.RLIMIT_CORE: 0,  # a core has the last samples in it
    resource.RLIMIT_NOFILE: 512,
    resource.RLIMIT_FSIZE: 1 << 31,  # the largest model
}
_SYSTEM = ("/usr", "/lib", "/lib64", "/sys", "/run/udev", "/etc/ld.so.cache", "/etc/localtime")
# Not all of /proc: the environment and the memory of other processes are in it.
_PROC = ("self", "sys", "cpuinfo", "meminfo", "stat", "version", "filesystems", "devices", "driver", "bus")
_DRIVERS = ("/etc/vulkan", "/etc/OpenCL", "/etc/glvnd")
_SHARED_MEMORY = "/dev/shm"  # noqa: S108 - where POSIX shared memory is
_ALWAYS = ("/dev/null", "/dev/zero", "/dev/urandom")
# Not all of /etc/ssl: servers have their private keys in it.
_RESOLVER = (
    *("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/services", "/etc/gai.conf"),
    *("/etc/ssl/certs", "/etc/ssl/openssl.cnf"),
)
_LIBRARY_PATHS = ("LD_LIBRARY_PATH", "VK_ICD_FILENAMES", "VK_DRIVER_FILES")
_OWN = str(Path(__file__).parents[1])
_libc = ctypes.CDLL(None)


def enter(wanted: Permissions, state: Path | None = None) -> list[str]:
    """Give up everything else until the process ends. Return in words what is in force.

    Below ``state``, the state directory without links, no link is followed to a folder to change.
    Of ``no-new-privileges``, ``limits``, ``landlock-VERSION``, ``seccomp``, and ``no-network`` or ``tcp-ports``:
    it can connect to no port but those of its endpoints. What this system cannot do is ``without-landlock`` or
    ``without-seccomp``, and one line of the log says why. To be called in a process without other threads:
    Landlock holds for the thread that calls it and for what that one starts.
    """
    if sys.platform != "linux":
        log.info("no sandbox: this is not Linux")
        return []
    wanted = wanted._replace(change=frozenset(folder for folder in wanted.change if _made(folder, state)))
    for file in device_nodes.other_files(wanted.devices):
        log.warning("%s is no device; it stays closed", file)
    in_force, missing = [], []
    if _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0:
        in_force.append("no-new-privileges")
    if _limit():
        in_force.append("limits")
    try:
        in_force += _restrict(wanted)
    except OSError as error:
        in_force.append("without-landlock")
        missing.append(f"landlock: {error.strerror}; it may read and write what its user may")
    try:
        seccomp.install(seccomp.rules(wanted))
        is_closed = not (wanted.connects or wanted.accepts or wanted.listens)
        in_force += ["seccomp", "no-network"] if is_closed else ["seccomp"]
    except seccomp.Unavailable as reason:
        in_force.append("without-seccomp")
        missing.append(f"seccomp: {reason}; it may start programs and open sockets")
    if missing:
        log.warning("sandbox not complete: %s", "; ".join(missing))
    return in_force


def limits_devices(in_force: Iterable[str]) -> bool:
    """Whether ``in_force``, as ``enter`` returned it, keeps a process from devices that it was not permitted."""
    return any(word.startswith("landlock-") for word in in_force)


def _restrict(wanted: Permissions) -> list[str]:
    version = landlock.restrict(
        _allowed(wanted),
        {endpoint.port for endpoint in wanted.endpoints},
        network=wanted.network,
        listens=wanted.listens,
    )
    if not wanted.endpoints or wanted.network:
        return [f"landlock-{version}"]
    if version < landlock.TCP:
        log.warning("landlock %d does not limit connections: the source may connect to any address", version)
        return [f"landlock-{version}"]
    return [f"landlock-{version}", "tcp-ports"]


def _allowed(wanted: Permissions) -> dict[Path, int]:
    """Return rights by path; of two rights on one path the later is the greater."""
    proc = (f"/proc/{name}" for name in _PROC)
    system = [*_SYSTEM, *proc, *_DRIVERS, *(_RESOLVER if wanted.connects else ())]
    return {
        **{Path(path): landlock.READ for path in (*system, *_python(), *_libraries())},
        **dict.fromkeys(device_nodes.folders_of_patterns(wanted.devices), landlock.LIST),
        **dict.fromkeys(wanted.read, landlock.READ),
        **{Path(path): landlock.USE for path in _ALWAYS},
        **{node.path: landlock.USE for node in device_nodes.present(wanted.devices)},
        **({Path(_SHARED_MEMORY): landlock.WRITE} if wanted.shared_memory else {}),
        **dict.fromkeys(wanted.change, landlock.CHANGE),
        **dict.fromkeys(wanted.scratch, landlock.MOVE),
    }


def _python() -> set[str]:
    """Return where modules come from: plugins, and what the runtimes import on first use.

    Not the working directory, where ``python -m`` looks first, nor a folder above it: secrets may be there.
    """
    try:
        here = Path.cwd()
    except FileNotFoundError:  # it was deleted, so there is nothing to keep closed
        closed: set[Path] = set()
    else:
        closed = {here, *here.parents}
    modules = {path for path in sys.path if path and Path(path).resolve() not in closed}
    return {sys.prefix, sys.base_prefix, sys.exec_prefix, _OWN, *modules}


def _libraries() -> Iterator[str]:
    """Return folders of libraries and drivers that the environment names."""
    for key in _LIBRARY_PATHS:
        for path in os.environ.get(key, "").split(":"):
            if path:
                yield path if Path(path).is_dir() else str(Path(path).parent)


def _made(folder: Path, state: Path | None) -> bool:
    """Make a folder, unless it is there. Return whether it may be changed.

    A link below the state directory could lead anywhere. It is set aside.
    """
    below = [each for each in (folder, *folder.parents) if state in each.parents]
    try:
        for each in reversed(below):
            if state_files.is_irregular_folder(each):
                log.warning(
                    "%s is %s; it was renamed to %s", each, state_files.kind(each), state_files.set_aside(each)
                )
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        log.warning("%s: %s", folder, error.strerror)
        return False
    return True


def _limit() -> bool:
    """Lower the limits; those that are lower already stay."""
    for which, most in _LIMITS.items():
        hard = resource.getrlimit(which)[1]
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(which, (least, least))
    return True

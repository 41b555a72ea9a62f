"""What the kernel offers for the sandbox."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from limpet.doctor.finding import ok, skip, warn
from limpet.isolation import landlock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from limpet.device.machine import Machine
    from limpet.doctor.finding import Finding
    from limpet.doctor.installation import Installation


def sandbox(installation: Installation) -> Iterator[Finding]:
    """Look for Landlock (files) and seccomp (system calls). Without them a worker's sandbox is weaker."""
    if not installation.machine.text("proc/sys/kernel/osrelease"):
        yield skip("sandbox", "not a Linux kernel")
        return
    yield _landlock(installation.machine)
    yield _seccomp(installation.machine)


def _landlock(machine: Machine) -> Finding:
    release = machine.text("proc/sys/kernel/osrelease")
    modules = machine.text("sys/kernel/security/lsm")
    if machine.root == Path("/"):
        with suppress(OSError):
            return ok("sandbox", f"landlock {landlock.abi()}, kernel {release}")
    elif "landlock" in modules.split(","):
        return ok("sandbox", f"landlock, kernel {release}")
    why = "without it, a worker can read and write all files of its user"
    if _version(release) < (5, 13):
        return warn("sandbox", f"no landlock in kernel {release}", why, "use kernel 5.13 or later")
    if not modules:
        return skip("sandbox", "landlock: /sys/kernel/security cannot be read here")
    fix = f"add lsm=landlock,{modules} to the kernel's command line; the kernel needs CONFIG_SECURITY_LANDLOCK=y"
    return warn("sandbox", f"landlock is not enabled in kernel {release}", why, fix)


def _seccomp(machine: Machine) -> Finding:
    why = "without it, a worker can start programs and open sockets"
    if not machine.text("proc/sys/kernel/seccomp/actions_avail"):
        return warn("sandbox", "no seccomp", why, "use a kernel with CONFIG_SECCOMP_FILTER=y")
    if not machine.has_library("libseccomp.so.2"):
        return warn("sandbox", "seccomp: libseccomp.so.2 is not installed", why, "sudo apt install libseccomp2")
    return ok("sandbox", "seccomp")


def _version(release: str) -> tuple[int, int]:
    numbers = re.match(r"(\d+)\.(\d+)", release)
    return (int(numbers[1]), int(numbers[2])) if numbers else (0, 0)


def cgroups(installation: Installation) -> Iterator[Finding]:
    """Look for cgroup v2 and its memory controller, with which systemd limits the service."""
    controllers = installation.machine.text("sys/fs/cgroup/cgroup.controllers").split()
    if not controllers:
        why = "systemd cannot limit the memory of the service"
        yield warn(
            "cgroups", "no unified hierarchy (cgroup v2)", why, "boot with systemd.unified_cgroup_hierarchy=1"
        )
    elif "memory" not in controllers:
        why = "MemoryMax= of the service has no effect, and a leak can take down the whole board"
        fix = "add cgroup_enable=memory to the kernel's command line (/boot/firmware/cmdline.txt)"
        yield warn("cgroups", f"cgroup v2 with {', '.join(controllers)}, not memory", why, fix)
    else:
        yield ok("cgroups", f"cgroup v2 with {', '.join(controllers)}")

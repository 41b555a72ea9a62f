"""Clock, disk, memory, power and heat, as the kernel shows them."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from limpet.device.host import Host
from limpet.device.system_files import MB
from limpet.doctor.access import nearest
from limpet.doctor.finding import bad, ok, skip, warn

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from limpet.device.machine import Machine
    from limpet.doctor.finding import Finding
    from limpet.doctor.installation import Installation

_RELEASED = 1_760_000_000
"""October 2025: no clock that is right shows less to this program."""
_KEEPERS = {
    "systemd-timesyncd": ("run/systemd/timesync/synchronized",),
    "chrony": ("run/chrony/chronyd.pid", "run/chronyd.pid"),
    "ntpd": ("run/ntpd.pid", "run/ntpsec/ntpd.pid"),
}
_LITTLE, _SCARCE = 50, 500
"""Free MB on the disk: below the first it is a problem, below the second a warning."""
_HOT = 80.0
_VOLATILE = {"tmpfs", "ramfs", "overlay"}
_THROTTLED = {0: "too low a voltage", 1: "a capped frequency", 2: "throttling", 3: "the soft temperature limit"}
"""Bits of the Raspberry Pi firmware's get_throttled; 16 higher: since the start."""


def clock(installation: Installation) -> Iterator[Finding]:
    """Check that the wall clock is synchronised: results carry its time, and TLS needs it."""
    shown = datetime.fromtimestamp(installation.now, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    keeper = next(
        (n for n, files in _KEEPERS.items() if any(True for _ in installation.machine.paths(*files))), ""
    )
    fix = "sudo timedatectl set-ntp true; without Internet access, name your own server in timesyncd.conf"
    if installation.now < _RELEASED:
        yield bad(
            "clock",
            f"it shows {shown}",
            "certificates seem not to be valid yet, and results carry the wrong time",
            fix,
        )
    elif keeper:
        yield ok("clock", f"{shown}, kept by {keeper}")
    else:
        battery = any(True for _ in installation.machine.paths("sys/class/rtc/rtc*"))
        why = (
            "no time service sets it"
            if battery
            else "no time service sets it, and without a battery it stops at power-off"
        )
        yield warn("clock", f"{shown}, not synchronised", why, fix)


def disk(installation: Installation) -> Iterator[Finding]:
    """Check the file system that holds the state directory."""
    if not installation.config:
        yield skip("disk", "no configuration says where the state directory is")
        return
    folder = nearest(installation.config.device.state)
    status = os.statvfs(folder)
    free = status.f_bavail * status.f_frsize / MB
    what = f"{folder}: {free:.0f} MB free"
    if status.f_flag & os.ST_RDONLY:
        why = "nothing survives a restart. The kernel remounts a disk read-only after an error"
        fix = "read dmesg, or set device.state to a directory that can be written"
        yield bad("disk", f"{folder} is mounted read-only", why, fix)
    elif free < _LITTLE or (status.f_files and not status.f_favail):
        yield bad("disk", what, "messages that wait for the broker cannot be stored", "delete what is not needed")
    elif free < _SCARCE:
        why = "logs and messages that wait for the broker will fill it"
        yield warn("disk", what, why, "delete what is not needed; journalctl --vacuum-size=50M")
    elif (kind := _file_system(installation.machine, folder)) in _VOLATILE:
        fix = "set device.state to a directory on a disk"
        yield warn("disk", f"{what}, on {kind}", "its files may be gone after a reboot", fix)
    else:
        yield ok("disk", what)


def _file_system(machine: Machine, folder: Path) -> str:
    """Return the kind of file system that a folder is on, empty if the kernel does not say."""
    kind, longest = "", -1
    for line in machine.text("proc/mounts").splitlines():
        fields = line.split()
        if len(fields) > 2 and folder.resolve().is_relative_to(fields[1]) and len(fields[1]) >= longest:
            kind, longest = fields[2], len(fields[1])
    return kind


def memory(installation: Installation) -> Iterator[Finding]:
    """Check that there is memory for a supervisor, its fork server and a worker."""
    free = Host(installation.machine.root).memory_available_mb()
    if free is None:
        yield skip("memory", "the kernel does not say how much is available")
    elif free < 100:
        why = "the daemon with one small model takes about 50 MB"
        yield warn(
            "memory",
            f"{free:.0f} MB available",
            why,
            "stop other programs, or add zram",
        )
    else:
        yield ok("memory", f"{free:.0f} MB available")


def power(installation: Installation) -> Iterator[Finding]:
    """Check the power supply (Raspberry Pi firmware, batteries) and the CPU frequency governor."""
    found = [*_raspberry(installation.machine), *_battery(installation.machine), *_governor(installation.machine)]
    yield from found or [ok("power", "no undervoltage reported")]


def _raspberry(machine: Machine) -> Iterator[Finding]:
    text = machine.text("sys/devices/platform/soc/soc:firmware/get_throttled")
    try:
        bits = int(text, 16)
    except ValueError:
        bits = 0
    low = [path for path in machine.paths("sys/class/hwmon/hwmon*") if machine.text(path / "name") == "rpi_volt"]
    bits |= any(machine.text(path / "in0_lcrit_alarm") == "1" for path in low)
    fix = "use the board's own supply and a short cable; cool the board"
    if now := [name for bit, name in _THROTTLED.items() if bits >> bit & 1]:
        yield bad("power", f"now: {', '.join(now)}", "the board slows down, and USB devices drop out", fix)
    elif past := [name for bit, name in _THROTTLED.items() if bits >> (bit + 16) & 1]:
        yield warn(
            "power",
            f"since boot: {', '.join(past)}",
            "the board was slow, and USB devices may drop out",
            fix,
        )


def _battery(machine: Machine) -> Iterator[Finding]:
    for path in machine.paths("sys/class/power_supply/*"):
        if machine.text(path / "type") == "Battery" and machine.text(path / "status") == "Discharging":
            charge = machine.text(path / "capacity") or "?"
            yield warn(
                "power",
                f"on battery, {charge} %",
                "Limpet stops when the battery is empty",
                "connect the power supply",
            )


def _governor(machine: Machine) -> Iterator[Finding]:
    folder = "sys/devices/system/cpu/cpu0/cpufreq"
    driver = machine.text(f"{folder}/scaling_driver")
    if machine.text(f"{folder}/scaling_governor") == "powersave" and "pstate" not in driver:
        fix = "echo schedutil | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
        yield warn("power", "the CPU stays at its lowest frequency (powersave)", "models run slowly", fix)


def heat(installation: Installation) -> Iterator[Finding]:
    """Check the hottest thermal zone, and whether the kernel slows something down. Fans do not count."""
    temperature = Host(installation.machine.root).temperature_c()
    slowed = [
        kind
        for path in installation.machine.paths("sys/class/thermal/cooling_device*")
        if "fan" not in (kind := installation.machine.text(path / "type")).lower()
        and installation.machine.text(path / "cur_state") not in {"", "0", "-1"}
    ]
    shown = "no thermal zone" if temperature is None else f"{temperature:.0f} °C"
    if slowed or (temperature or 0) > _HOT:
        what = f"{shown}{', slowed: ' if slowed else ''}{', '.join(slowed)}"
        yield warn("heat", what, "the board slows down to cool", "add a heat sink or a fan; run a lighter model")
    elif temperature is None:
        yield skip("heat", shown)
    else:
        yield ok("heat", shown)

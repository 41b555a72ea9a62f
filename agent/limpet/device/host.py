"""Load, memory, temperature and power of this machine. What the kernel does not report is ``None``."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from limpet.device.clock import PLAUSIBLE
from limpet.device.system_files import MB, SystemFiles

if TYPE_CHECKING:
    from collections.abc import Iterable


_TICKS = os.sysconf("SC_CLK_TCK")


class Readings(msgspec.Struct, frozen=True):
    """Signs of distress. ``pressure`` and ``charge`` are shares, 0 to 1; ``charge`` only of a battery in use."""

    temperature_c: float | None = None
    throttled: bool | None = None
    pressure: float | None = None
    charge: float | None = None
    power_w: float | None = None


class ProcessMemory(msgspec.Struct, frozen=True):
    """Resident memory of a process in MB: what it allocated, all of it, and the most that all of it was."""

    anonymous_mb: float
    resident_mb: float
    peak_mb: float


class Host:
    """Reads ``/proc`` and ``/sys`` below ``root``."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._files = SystemFiles(root)
        self._cpu: tuple[int, int] | None = None

    def beside(self) -> Host:
        """Return a reader of the same machine. What either takes since its last call is its own."""
        return Host(self._files.root)

    def cpu_share(self) -> float | None:
        """Return the busy share, 0 to 1, of all cores since the last call."""
        now = self._cpu_ticks()
        if now is None:
            return None
        before, self._cpu = self._cpu, now
        if before is None or now[1] <= before[1]:
            return None
        return (now[0] - before[0]) / (now[1] - before[1])

    def cpu_seconds(self) -> tuple[float, float] | None:
        """Return for how long all cores together worked, and worked or idled, in s since the machine started."""
        now = self._cpu_ticks()
        return (now[0] / _TICKS, now[1] / _TICKS) if now else None

    def _cpu_ticks(self) -> tuple[int, int] | None:
        first = self._files.text("proc/stat").partition("\n")[0].split()[1:]
        if len(first) < 5:
            return None
        ticks = [int(field) for field in first[:8]]
        return sum(ticks) - ticks[3] - ticks[4], sum(ticks)

    def load_1m(self) -> float | None:
        """Return the load average over a minute."""
        fields = self._files.text("proc/loadavg").split()
        return float(fields[0]) if fields else None

    def memory_available_mb(self) -> float | None:
        """Return the memory that is available without swapping, in MB."""
        return self._files.megabytes("proc/meminfo", "MemAvailable")

    def address_space_mb(self) -> float | None:
        """Return the address space that this process has taken, in MB."""
        return self._files.megabytes("proc/self/status", "VmSize")

    def memory_of_this_process(self) -> ProcessMemory:
        """Return what memory this process has. Zeros where the kernel does not say."""
        found = [self._files.megabytes("proc/self/status", key) for key in ("RssAnon", "VmRSS", "VmHWM")]
        return ProcessMemory(*(size or 0.0 for size in found))

    def pss_mb(self, pids: Iterable[int]) -> float | None:
        """Return the proportional set size of these processes together, in MB."""
        sizes = [self._files.megabytes(f"proc/{pid}/smaps_rollup", "Pss") for pid in pids]
        known = [size for size in sizes if size is not None]
        return sum(known) if known else None

    def temperature_c(self) -> float | None:
        """Return the temperature in °C of the hottest thermal zone or Edge TPU."""
        patterns = ("sys/class/thermal/thermal_zone*/temp", "sys/class/apex/apex_*/temp")
        zones = [self._files.number(path) for path in self._files.paths(*patterns)]
        return max((zone / 1000 for zone in zones if zone is not None), default=None)

    def throttled(self) -> bool | None:
        """Return whether something is slowed down: a cooling device that is no fan is active, or a Pi says so.

        The four lowest bits of what a Raspberry Pi says are about now: low voltage, capped, throttled, hot.
        """
        slowing = [
            path
            for path in self._files.paths("sys/class/thermal/cooling_device*")
            if "fan" not in self._files.text(path / "type").lower()
        ]
        states = [self._files.number(path / "cur_state") for path in slowing]
        word = self._files.text("sys/devices/platform/soc/soc:firmware/get_throttled")
        # Intel's powerclamp is at -1 while it does nothing.
        known = [state > 0 for state in states if state is not None]
        if word:
            known.append(int(word, 16) & 0xF != 0)
        return any(known) if known else None

    def readings(self) -> Readings:
        """Return the signs of distress of this machine."""
        charge, power = self._battery()
        return Readings(self.temperature_c(), self.throttled(), self.pressure(), charge, power)

    def pressure(self) -> float | None:
        """Return the share of the last ten seconds in which some task waited for a CPU."""
        match = re.search(r"some avg10=([\d.]+)", self._files.text("proc/pressure/cpu"))
        return float(match[1]) / 100 if match else None

    def _battery(self) -> tuple[float | None, float | None]:
        """Return the charge, 0 to 1, of the emptiest battery that discharges, and the W that all of them give."""
        charges: list[int] = []
        powers: list[float] = []
        for path in self._files.paths("sys/class/power_supply/*"):
            if (self._files.text(path / "type"), self._files.text(path / "status")) != ("Battery", "Discharging"):
                continue
            names = ("capacity", "power_now", "current_now", "voltage_now")
            capacity, power, current, voltage = (self._files.number(path / name) for name in names)
            if capacity is not None:
                charges.append(capacity)
            if power is not None:
                powers.append(power / 1e6)
            elif current is not None and voltage is not None:
                powers.append(abs(current) * voltage / 1e12)
        return min(charges) / 100 if charges else None, sum(powers) if powers else None


def disk_free_mb(path: Path) -> float | None:
    """Return the space left for unprivileged writers where ``path`` is, in MB."""
    try:
        disk = os.statvfs(path)
    except OSError:
        return None
    return disk.f_bavail * disk.f_frsize / MB


def clock_synchronised() -> bool | None:
    """Return whether the kernel's clock is kept by a time service, if the system says so."""
    if Path("/run/systemd/timesync/synchronized").exists():
        return True
    # Before any service has set it, a device without a battery-backed clock believes that it is 1970.
    return None if time.time() > PLAUSIBLE else False


def uptime_s() -> float:
    """Return the seconds since this machine started."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()

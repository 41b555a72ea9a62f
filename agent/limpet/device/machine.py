"""A machine as Linux shows it in files below a root that tests set, and what a user may open there."""

from __future__ import annotations

import json
import os
import pwd
import stat
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from limpet.device.system_files import SystemFiles

if TYPE_CHECKING:
    from collections.abc import Callable

_LIBRARIES = ("lib", "usr/lib", "usr/local/lib", "lib/*-linux-gnu*", "usr/lib/*-linux-gnu*", "opt/*/lib")


class Owner(NamedTuple):
    """Who may open a file: ``st_mode``, ``st_uid`` and ``st_gid`` of its status."""

    mode: int
    uid: int
    gid: int


class User(NamedTuple):
    """A user and its groups."""

    name: str
    uid: int
    gids: frozenset[int]


class Problem(NamedTuple):
    """Why something is refused, and what to do about it."""

    reason: str
    todo: str


def this_user() -> User:
    """Return who runs this process."""
    uid = os.geteuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    return User(name, uid, frozenset({os.getegid(), *os.getgroups()}))


def owner_of(path: Path) -> Owner:
    """Return who may open a file. ``OSError`` where it is not there."""
    status = path.stat()
    return Owner(status.st_mode, status.st_uid, status.st_gid)


def _litert() -> Path | None:
    spec = find_spec("ai_edge_litert")
    return Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None


class Machine(SystemFiles, frozen=True):
    """Reads what the system's files say, and the library folders below ``root``.

    ``litert`` is the folder of the package ai_edge_litert, ``has_module`` whether Python could import a module.
    """

    user: User = msgspec.field(default_factory=this_user)
    owner: Callable[[Path], Owner] = owner_of
    litert: Path | None = msgspec.field(default_factory=_litert)
    has_module: Callable[[str], bool] = lambda name: find_spec(name) is not None
    platform: str = sys.platform

    def link(self, path: Path) -> str:
        """Return the last part of where a symbolic link leads, as sysfs names drivers; empty if it is none."""
        try:
            return path.readlink().name
        except OSError:
            return ""

    def uevent(self, device: Path) -> dict[str, str]:
        """Return the kernel's facts about a device: ``DRIVER``, ``PCI_ID``, ``OF_COMPATIBLE_0`` and more."""
        lines = (line.partition("=") for line in self.text(device / "uevent").splitlines())
        return {key: value for key, _, value in lines}

    def model(self) -> str:
        """Return the board's name as its device tree or its firmware has it."""
        return self.text("proc/device-tree/model") or self.text("sys/class/dmi/id/product_name")

    def has_library(self, name: str) -> bool:
        """Whether a shared library is where the loader looks."""
        if name.startswith("/"):
            return (self.root / name[1:]).exists()
        configured = [
            line.strip().lstrip("/")
            for file in self.paths("etc/ld.so.conf.d/*.conf")
            for line in self.text(file).splitlines()
            if line.strip().startswith("/")
        ]
        return any(True for folder in (*_LIBRARIES, *configured) for _ in self.root.glob(f"{folder}/{name}"))

    def vulkan_drivers(self) -> list[str]:
        """Return the libraries of the Vulkan drivers that are installed."""
        drivers = []
        for path in self.paths("usr/share/vulkan/icd.d/*.json", "etc/vulkan/icd.d/*.json"):
            try:
                drivers.append(str(json.loads(self.text(path))["ICD"]["library_path"]))
            except (ValueError, KeyError, TypeError):
                continue
        return drivers

    def refusal(self, node: str) -> Problem | None:
        """Return why the user cannot open a device node for reading and writing, ``None`` if possible."""
        try:
            owner = self.owner(self.root / node.lstrip("/"))
        except OSError:
            return Problem(f"{node} does not exist", "load the device's driver; `dmesg` says why it may refuse")
        if self._may(owner):
            return None
        group = self._group(owner.gid)
        shown = f"{stat.filemode(owner.mode)} group {group}"
        if owner.mode & 0o060 == 0o060 and owner.gid:
            todo = f"sudo usermod -aG {group} {self.user.name}, then start Limpet again"
        else:
            todo = f"add a udev rule that gives {node} to a group, and {self.user.name} to that group"
        return Problem(f"{self.user.name} may not open {node} ({shown})", todo)

    def _may(self, owner: Owner) -> bool:
        if self.user.uid == 0:
            return True
        if self.user.uid == owner.uid:
            return owner.mode & 0o600 == 0o600
        if owner.gid in self.user.gids:
            return owner.mode & 0o060 == 0o060
        return owner.mode & 0o006 == 0o006

    def _group(self, gid: int) -> str:
        for line in self.text("etc/group").splitlines():
            name, _, rest = line.partition(":")
            if rest.split(":")[1:2] == [str(gid)]:
                return name
        return str(gid)

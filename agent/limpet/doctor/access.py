"""Permissions: serial ports, cameras, microphones, accelerators' device nodes, the state directory."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from limpet.device.cameras import cameras
from limpet.doctor.finding import bad, ok, skip, warn

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from limpet.device.machine import Machine
    from limpet.doctor.finding import Finding
    from limpet.doctor.installation import Installation

_KINDS = {
    "serial ports": ("dev/ttyUSB*", "dev/ttyACM*"),
    "cameras": ("dev/video*",),
    "microphones": ("dev/snd/pcmC*D*c",),
    "GPUs": ("dev/dri/renderD*",),
    "Edge TPUs on PCIe": ("dev/apex_*",),
}
"""Nodes that distributions give to a group: dialout, video, audio, render, apex."""
_NODES = {"serial": "port", "camera": "device"}
"""Kinds of sources with a device node, and the key that names it."""
_RIVALS = {
    "ModemManager": (
        "it writes AT commands to serial ports that it takes for modems",
        "install 99-limpet.rules of your board in firmware-configs/, which keep it away",
    ),
    "brltty": ("it takes USB serial adapters for Braille displays", "sudo apt remove brltty"),
    "gpsd": (
        "it opens USB serial adapters on its own",
        "sudo systemctl disable --now gpsd.socket",
    ),
}


def ports(installation: Installation) -> Iterator[Finding]:
    """Check that each configured serial port and camera exists and can be opened."""
    sources = installation.config.sources if installation.config else {}
    named = {name: table for name, table in sources.items() if table.kind in _NODES}
    for source, table in named.items():
        key = _NODES[table.kind]
        node = str(table.options.get(key, ""))
        if not node.startswith("/"):
            yield skip("ports", f"{source}: {node or 'a stream'} is reached over the network")
        else:
            yield _port(installation.machine, source, node, key)
    if not named:
        yield skip("ports", "no serial port and no camera is configured")


def _port(machine: Machine, source: str, node: str, key: str) -> Finding:
    if not (machine.root / node[1:]).exists():
        if key == "device":
            there = "cameras here: " + (", ".join(camera.stable for camera in cameras(machine)) or "none")
        else:
            ports_here = ", ".join(f"/{path.relative_to(machine.root)}" for path in _serial(machine))
            there = "serial ports here: " + (ports_here or "none")
        return bad("ports", f"{source}: {node} does not exist", there, f"plug it in, or correct {key}")
    if problem := machine.refusal(node):
        return bad("ports", f"{source}: {node}", problem.reason, problem.todo)
    return ok("ports", f"{source}: {node} can be opened")


def _serial(machine: Machine) -> list[Path]:
    named = list(machine.paths("dev/serial/by-id/*"))
    return named or list(machine.paths(*_KINDS["serial ports"]))


def groups(installation: Installation) -> Iterator[Finding]:
    """Check that the device nodes of sensors and accelerators can be opened."""
    machine = installation.machine
    for kind, patterns in _KINDS.items():
        nodes = [f"/{path.relative_to(machine.root)}" for path in machine.paths(*patterns)]
        refused = [problem for node in nodes if (problem := machine.refusal(node))]
        if not nodes:
            yield skip("groups", f"{kind}: none")
        elif refused:
            what = f"{kind}: {len(refused)} of {len(nodes)} cannot be opened"
            yield warn("groups", what, refused[0].reason, refused[0].todo)
        else:
            yield ok("groups", f"{kind}: {', '.join(nodes)} can be opened")


def rivals(installation: Installation) -> Iterator[Finding]:
    """Look for programs that open serial ports on their own."""
    running = {installation.machine.text(path) for path in installation.machine.paths("proc/[0-9]*/comm")}
    for name, (why, fix) in _RIVALS.items():
        if name in running:
            yield warn("rivals", f"{name} is running", why, fix)
    if not running.intersection(_RIVALS):
        yield ok("rivals", "no program runs that is known to open serial ports")


def state(installation: Installation) -> Iterator[Finding]:
    """Check that the state directory can be written."""
    if not installation.config:
        yield skip("state", "no configuration says where the state directory is")
        return
    folder = installation.config.device.state
    there = nearest(folder)
    if _may_write(installation.machine, there):
        yield ok("state", f"{folder} can be {'written' if there == folder else 'made'}")
    else:
        why = "without it, unsent messages are lost at a power cut, and ids begin again at each start"
        fix = f"sudo install -d -o {installation.machine.user.name} {folder}"
        yield bad("state", f"{installation.machine.user.name} cannot write to {there}", why, fix)


def _may_write(machine: Machine, folder: Path) -> bool:
    """Whether the user may create files in a folder. For another user, the folder's mode decides."""
    if machine.user.uid in {0, os.geteuid()}:
        return os.access(folder, os.W_OK | os.X_OK)
    owner = machine.owner(folder)
    shift = 6 if owner.uid == machine.user.uid else 3 if owner.gid in machine.user.gids else 0
    return owner.mode >> shift & 0o3 == 0o3


def nearest(folder: Path) -> Path:
    """Return a folder, or its nearest parent that exists."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder

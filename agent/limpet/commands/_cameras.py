"""Cameras in the output of ``limpet devices``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from limpet.device.cameras import Camera, cameras
from limpet.sources import _v4l2

if TYPE_CHECKING:
    from limpet.device.machine import Machine

MOST_SIZES = 12
"""Sizes of a camera that are shown for each format."""


class SeenCamera(msgspec.Struct):
    """A camera. ``why_not``: why it cannot be used now, empty if it can. ``formats``: its sizes by format."""

    name: str
    node: str
    device: str
    why_not: str = ""
    todo: str = ""
    formats: dict[str, list[tuple[int, int]]] = {}


def seen(machine: Machine) -> list[SeenCamera]:
    """Return the cameras of a machine."""
    return [_look(machine, camera) for camera in cameras(machine)]


def _look(machine: Machine, camera: Camera) -> SeenCamera:
    """Return what a camera offers. Of another machine's, only the name and the permissions are known."""
    seen = SeenCamera(camera.name, camera.node, camera.stable)
    if problem := machine.refusal(camera.node):
        seen.why_not, seen.todo = problem.reason, problem.todo
    elif machine.root == Path("/"):
        try:
            offered = _v4l2.look(camera.node)
        except OSError as error:
            seen.why_not, seen.todo = (
                error.strerror or "it cannot be opened",
                "use another way: docs/how-to/cameras.md",
            )
        else:
            seen.formats = offered.formats
            if offered.busy:
                seen.why_not, seen.todo = "another program uses it", "end that program, or use another camera"
            elif not offered.formats:
                seen.why_not = "it has no format that Limpet reads"
                seen.todo = "for a CSI camera of a Raspberry Pi see docs/how-to/cameras.md"
    return seen


def describe(camera: SeenCamera) -> list[str]:
    """Return lines for people that describe a camera."""
    lines = ["", f"{camera.name or 'camera'}, {camera.node}"]
    if camera.why_not:
        lines += ["  not usable", f"  - {camera.why_not}", f"    {camera.todo}"]
    else:
        lines += [f'  usable: kind = "camera", device = "{camera.device}"']
    for kind, sizes in camera.formats.items():
        shown = ", ".join(f"{width}x{height}" for width, height in sizes[:MOST_SIZES]) or "any size"
        lines += [f"  {kind}: {shown}{', ...' if len(sizes) > MOST_SIZES else ''}"]
    return lines

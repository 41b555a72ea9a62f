"""The cameras of a machine, as the kernel and udev name them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from limpet.device.machine import Machine


class Camera(NamedTuple):
    """A video node that may give frames. ``stable``: its name that stays, else ``node``. ``name``: the maker's."""

    node: str
    stable: str
    name: str


def cameras(machine: Machine) -> list[Camera]:
    """Return the cameras. A camera's other nodes, such as for metadata, have an index above 0."""
    stable = dict(_stable(machine))
    return [
        Camera(node, stable.get(path.name, node), machine.text(path / "name"))
        for path in machine.paths("sys/class/video4linux/video*")
        if machine.text(path / "index") in {"", "0"} and (node := f"/dev/{path.name}")
    ]


def _stable(machine: Machine) -> Iterator[tuple[str, str]]:
    """Yield the names below ``/dev/v4l`` with the node to which each leads; those by id are the last."""
    for folder in ("by-path", "by-id"):
        for link in machine.paths(f"dev/v4l/{folder}/*"):
            yield machine.link(link), f"/{link.relative_to(machine.root)}"

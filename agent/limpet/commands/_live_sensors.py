"""Cameras and microphones for ``limpet init``: which there are, which models they have, and whether one works."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from limpet.commands import _cameras
from limpet.device.microphones import microphones
from limpet.doctor import samples
from limpet.errors import ConfigError, LimpetError
from limpet.models import bundle, starter, store

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import Any

    from limpet.commands._cameras import SeenCamera
    from limpet.config import Config
    from limpet.device.machine import Machine
    from limpet.device.microphones import Microphone
    from limpet.models.starter import Starter, Takes

OPTIONS: Mapping[Takes, str] = {"picture": "--camera", "sound": "--microphone", "samples": "--port"}
"""The option that names a sensor, by what models of it take."""
NOTHING_WRITTEN = "nothing was written. To write the file anyway, use --listen 0"


class LiveSensor(NamedTuple):
    """A camera or a microphone. ``source``: its name in the configuration. ``table``: what is written of it.

    ``label``: its name for people. ``problem``: why it cannot be used now, empty if it can.
    """

    takes: Takes
    source: str
    table: Mapping[str, Any]
    label: str
    problem: str = ""


def found(machine: Machine) -> list[LiveSensor]:
    """Return the cameras and microphones of a machine."""
    return [
        *(_of_camera(one) for one in _cameras.seen(machine)),
        *(_of_microphone(machine, one) for one in microphones(machine)),
    ]


def _of_camera(one: SeenCamera) -> LiveSensor:
    problem = f"{one.device}: {one.why_not}. {one.todo}" if one.why_not else ""
    return camera(one.device)._replace(label=f"{one.name or 'camera'}, {one.device}", problem=problem)


def _of_microphone(machine: Machine, one: Microphone) -> LiveSensor:
    problem = ""
    if refused := machine.refusal(one.node):
        problem = f"{one.device}: {refused.reason}. {refused.todo}"
    elif one.used_by:
        problem = f"{one.device}: process {one.used_by} uses it. End that program, or use another microphone"
    return microphone(one.device)._replace(label=f"{one.name}, {one.device}", problem=problem)


def camera(device: str, user: str | None = None, password_file: Path | None = None) -> LiveSensor:
    """Return a camera by its device node or its URL, with its login."""
    table = {"kind": "camera", "url" if "://" in device else "device": device}
    if user:
        table["user"] = user
    if password_file:
        table["password_file"] = str(password_file.absolute())
    return LiveSensor("picture", "camera", table, device)


def microphone(device: str) -> LiveSensor:
    """Return a microphone by its name for ALSA."""
    return LiveSensor("sound", "microphone", {"kind": "audio", "device": device}, device)


def newest(models: Path, wanted: Takes) -> Path | None:
    """Return the newest bundle of the store that takes this. Those that cannot be read are left out."""
    paths = [path for versions in store.stored(models).values() for path in versions.values()]
    for path in sorted(paths, key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            if starter.takes(bundle.manifest_of(path)) == wanted:
                return path
        except LimpetError:
            continue
    return None


def starters(wanted: Takes) -> Sequence[Starter]:
    """Return the ready-made bundles that take this. ``ConfigError`` says how to get some."""
    if matching := [one for one in starter.found() if starter.takes(bundle.manifest_of(one.path)) == wanted]:
        return matching
    what = "pictures" if wanted == "picture" else "sound"
    raise ConfigError(
        [f"--model: there is no model for {what}. Run: {starter.INSTALL}, or use --model with a file of yours"]
    )


def refuse_silent(config: Config, name: str) -> str:
    """Open a source and wait for its first samples; return what came. ``ConfigError`` if it cannot work."""
    finding = samples.of_source(config, name)
    if finding.result in {"ok", "skip"}:
        return finding.what
    # Of a source that does not open, the reason says what to do.
    reason = finding.what if finding.result == "bad" else f"{finding.what}: {finding.why}. {finding.fix}"
    raise ConfigError([reason, NOTHING_WRITTEN])

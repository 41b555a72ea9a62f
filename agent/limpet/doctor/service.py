"""The installed service: whether its unit allows the devices that are needed, and which drop-in would."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from limpet.accelerators.inventory import discover
from limpet.doctor.finding import bad, ok, skip, warn

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from limpet.device.machine import Machine, User
    from limpet.doctor.finding import Finding
    from limpet.doctor.installation import Installation

_FOLDERS = (
    "etc/systemd/system",
    "run/systemd/system",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
)
"""Where units are, the first that has one counts; see systemd.unit(5)."""

DROP_INS = (
    ("/dev/bus/usb/", "char-usb_device", "edgetpu-usb"),
    ("/dev/apex_", "char-apex", "edgetpu-pcie"),
    ("/dev/dri/", "char-drm", "gpu"),
    ("/dev/accel/", "char-accel", "npu-accel"),
    ("/dev/galcore", "/dev/galcore", "npu-vivante"),
    ("/dev/ethosu", "char-ethosu", "npu-ethosu"),
    ("/dev/fastrpc-", "/dev/fastrpc-cdsp", "npu-hexagon"),
    ("/dev/nvhost", "char-nvhost", "jetson"),
    ("/dev/nvgpu", "char-nvgpu", "jetson"),
    ("/dev/video", "char-video4linux", "camera"),
    ("/dev/snd/", "char-alsa", "audio"),
    ("/dev/iio:", "char-iio", "iio"),
    ("/dev/gpiochip", "char-gpiochip", "gpio-i2c-spi"),
    ("/dev/i2c-", "char-i2c", "gpio-i2c-spi"),
    ("/dev/spidev", "char-spi", "gpio-i2c-spi"),
)
"""Beginning of a node's path, the ``DeviceAllow=`` that opens it, and the file in systemd/drop-ins with it."""

_SOUND = "/dev/snd/"
_SERIAL = ("ttyUSB", "ttyACM", "ttyS", "ttyAMA", "ttymxc", "ttyTHS")


class Unit(NamedTuple):
    """A unit with all its drop-ins. ``opens``: its ``DeviceAllow=``, ``None`` if it closes no device."""

    user: str
    groups: frozenset[str]
    opens: frozenset[str] | None


def installed(machine: Machine) -> Unit | None:
    """Return limpet.service with its drop-ins, ``None`` if it is not installed."""
    units = [path for folder in _FOLDERS if (path := machine.root / folder / "limpet.service").exists()]
    if not units:
        return None
    drop_ins = [path for folder in _FOLDERS for path in machine.paths(f"{folder}/limpet.service.d/*.conf")]
    user, policy = "", ""
    groups: list[str] = []
    opens: list[str] = []
    for key, value in _settings(machine, [units[0], *sorted(drop_ins, key=lambda path: path.name)]):
        if key == "User":
            user = value
        elif key == "DevicePolicy":
            policy = value
        elif key == "SupplementaryGroups":
            groups = groups + value.split() if value else []
        elif key == "DeviceAllow":
            opens = [*opens, value.split()[0]] if value else []
    closed = opens or policy in {"closed", "strict"}
    return Unit(user, frozenset(groups), frozenset(opens) if closed else None)


def _settings(machine: Machine, files: list[Path]) -> Iterator[tuple[str, str]]:
    for file in files:
        for line in machine.text(file).splitlines():
            key, equals, value = line.partition("=")
            if equals and not line.startswith(("#", ";")):
                yield key.strip(), value.strip()


def with_groups(machine: Machine) -> User:
    """Return the machine's user. If it is the service's, the groups of the unit are added."""
    user, unit = machine.user, installed(machine)
    if unit is None or unit.user != user.name:
        return user
    lines = (line.split(":") for line in machine.text("etc/group").splitlines())
    added = {int(fields[2]) for fields in lines if len(fields) > 2 and fields[0] in unit.groups}
    return user._replace(gids=user.gids | added)


def service(installation: Installation) -> Iterator[Finding]:
    """Check that the service may open the configured devices and the accelerators of this machine."""
    unit = installed(installation.machine)
    if unit is None:
        yield skip("service", "limpet.service is not installed")
        return
    configured = _configured(installation)
    found = {node: name for node, name in _accelerators(installation.machine) if node not in configured}
    closed = False
    for node, name in {**configured, **found}.items():
        if unit.opens is not None and (finding := _closed(unit.opens, node, name, configured=node in configured)):
            closed = True
            yield finding
    if not closed:
        what = ", ".join([*configured, *found]) or "no device; none is needed"
        yield ok("service", f"limpet.service opens {what}")


def _configured(installation: Installation) -> dict[str, str]:
    """Return the device nodes that sources name, each with its source. ALSA's names stand for its folder."""
    sources = installation.config.sources if installation.config else {}
    named = [(value, name) for name, table in sources.items() for value in table.options.values()]
    root = installation.machine.root
    microphones = [name for name, table in sources.items() if table.kind == "audio"]
    nodes = {_SOUND: f"source {microphones[0]}"} if microphones else {}
    for value, name in named:
        if isinstance(value, str) and value.startswith("/dev/"):
            real = (root / value[1:]).resolve()
            inside = real.is_relative_to(root.resolve() / "dev")
            nodes[f"/{real.relative_to(root.resolve())}" if inside else value] = f"source {name}"
    return nodes


def _accelerators(machine: Machine) -> Iterator[tuple[str, str]]:
    for device in discover(machine):
        if device.node and device.delegate:
            yield device.node, device.name


def _closed(opens: frozenset[str], node: str, name: str, *, configured: bool) -> Finding | None:
    """Return the finding for a node that the unit does not open, ``None`` if it does or if that is unknown."""
    serial = next((f"char-{kind}" for kind in _SERIAL if node.startswith(f"/dev/{kind}")), "")
    allow, drop_in = next((row[1:] for row in DROP_INS if node.startswith(row[0])), (serial or node, ""))
    if {allow, node} & opens or node.startswith("/dev/pts/"):
        return None
    folder = "/etc/systemd/system/limpet.service.d"
    if drop_in:
        fix = f"sudo install -D -m 644 /usr/share/limpet/drop-ins/{drop_in}.conf {folder}/{drop_in}.conf"
    else:
        fix = f"write [Service] and DeviceAllow={allow} rw into {folder}/device.conf"
    say = bad if configured else warn
    return say(
        "service",
        f"limpet.service may not open {node} ({name})",
        "the unit opens serial ports only, and none of its drop-ins opens this device",
        f"{fix}; then sudo systemctl daemon-reload && sudo systemctl restart limpet",
    )

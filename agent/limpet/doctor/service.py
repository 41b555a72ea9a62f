"""The installed service: whether its unit allows what is needed, devices and folders, and which drop-in would."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from limpet.accelerators.inventory import discover
from limpet.doctor.finding import bad, ok, skip, warn

if TYPE_CHECKING:
    from collections.abc import Iterator

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


_HOMES = ("/home", "/root", "/run/user")
_YES = ("yes", "true", "on", "1")


class Unit(NamedTuple):
    """A unit with all its drop-ins. ``opens``: its ``DeviceAllow=``, ``None`` if it closes no device.

    ``closed``: paths that it cannot see, nor anything below them. ``covered``: paths below which it sees
    ``bound`` paths alone.
    """

    user: str
    groups: frozenset[str]
    opens: frozenset[str] | None
    closed: tuple[str, ...] = ()
    covered: tuple[str, ...] = ()
    bound: tuple[str, ...] = ()

    def sees(self, path: Path) -> bool:
        """Whether an absolute path is visible to the service."""
        if _below(path, self.closed):
            return False
        return not _below(path, self.covered) or _below(path, self.bound)


def _below(path: Path, folders: tuple[str, ...]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)


def installed(machine: Machine) -> Unit | None:
    """Return limpet.service with its drop-ins, ``None`` if it is not installed."""
    units = [path for folder in _FOLDERS if (path := machine.root / folder / "limpet.service").exists()]
    if not units:
        return None
    drop_ins = [path for folder in _FOLDERS for path in machine.paths(f"{folder}/limpet.service.d/*.conf")]
    user, policy, home, tmp = "", "", "", ""
    groups: list[str] = []
    opens: list[str] = []
    paths: dict[str, list[str]] = {key: [] for key in ("InaccessiblePaths", "TemporaryFileSystem", *_BINDS)}
    for key, value in _settings(machine, [units[0], *sorted(drop_ins, key=lambda path: path.name)]):
        if key == "User":
            user = value
        elif key == "DevicePolicy":
            policy = value
        elif key == "SupplementaryGroups":
            groups = groups + value.split() if value else []
        elif key == "DeviceAllow":
            opens = [*opens, value.split()[0]] if value else []
        elif key == "ProtectHome":
            home = value
        elif key == "PrivateTmp":
            tmp = value
        elif key in paths:
            paths[key] = paths[key] + [_inside(key, word) for word in value.split()] if value else []
    closed = opens or policy in {"closed", "strict"}
    return Unit(
        user,
        frozenset(groups),
        frozenset(opens) if closed else None,
        (*paths["InaccessiblePaths"], *(_HOMES if home in _YES else ())),
        (
            *paths["TemporaryFileSystem"],
            *(_HOMES if home == "tmpfs" else ()),
            *(("/tmp", "/var/tmp") if tmp in _YES else ()),  # noqa: S108 - names of what the unit hides
        ),
        tuple(path for key in _BINDS for path in paths[key]),
    )


_BINDS = ("BindPaths", "BindReadOnlyPaths")


def _inside(key: str, word: str) -> str:
    """Return the path that a word of a unit means to the service."""
    parts = word.lstrip("-+").split(":")
    return parts[1] if key in _BINDS and len(parts) > 1 else parts[0]


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
    for path, name in _files(installation):
        if not unit.sees(path):
            closed = True
            yield _hidden(path, name)
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


def _files(installation: Installation) -> Iterator[tuple[Path, str]]:
    """Return the absolute paths of recordings, pictures and models that are configured."""
    if installation.config is None:
        return
    for name, source in installation.config.sources.items():
        if isinstance(path := source.options.get("path"), str) and path.startswith("/"):
            yield Path(path), f"source {name}"
    for name, pipeline in installation.config.pipelines.items():
        if pipeline.model.startswith("/"):
            yield Path(pipeline.model), f"pipeline {name}"


def _hidden(path: Path, name: str) -> Finding:
    return bad(
        "service",
        f"limpet.service cannot see {path} ({name})",
        "the unit hides homes, /srv, /mnt, /media, /var/spool and /tmp from it",
        "put it below /var/lib, or write its folder into a copy of /usr/share/limpet/drop-ins/pictures.conf in "
        "/etc/systemd/system/limpet.service.d; then sudo systemctl daemon-reload && sudo systemctl restart limpet",
    )


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

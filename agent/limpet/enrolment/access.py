"""The access list of mosquitto: who may read and write which topics. No I/O.

``%u`` is the user name, which mosquitto takes from the certificate. For a device it is the id.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from limpet.contracts.chunks import bundles_root
from limpet.watch.remote import LEVELS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from limpet.enrolment.names import Role

DEVICE_WRITES = (
    "status",
    "health",
    "health/+",
    "model/+/reported",
    "result/+",
    "event",
    "event/+",
    "snapshot/+",
    "reply/+",
    "bundle/+/missing",
    "msgpack/#",
    "cloudevents/#",
    "homeassistant/#",
)
DEVICE_READS = ("command/+", "model/+/desired", "trust/desired")

_HEAD = """\
# Access list of mosquitto for Limpet, as `limpet enroll acl` prints it.

# In mosquitto.conf, set require_certificate and use_identity_as_username to true.

# %u is the common name of the certificate: the id of a device, or ROLE:NAME.

# mosquitto refuses everything that no line allows.
"""


def text(root: str, people: Iterable[tuple[Role, str]]) -> str:
    """Return the access list. ``root`` is the root of topics, ``people`` are roles and common names."""
    blocks = [_HEAD, _devices(root)]
    blocks += [_person(role, name, root) for role, name in people]
    return "\n".join(blocks)


def _devices(root: str) -> str:
    """Return what each device may do, and so with its own topics alone."""
    lines = [
        "# Each device: its own topics, and all bundles.",
        *(f"pattern write {root}/%u/{topic}" for topic in DEVICE_WRITES),
        *(f"pattern read {root}/%u/{topic}" for topic in DEVICE_READS),
        f"pattern read {bundles_root(root)}/+/+",
        "# Each device: Home Assistant discovery, if its id has no dot.",
        "pattern write homeassistant/device/%u/config",
        "pattern write homeassistant/+/%u/+/config",
        "pattern read homeassistant/status",
        "# Each device: Sparkplug B.",
        *(f"pattern write spBv1.0/+/{kind}/%u" for kind in ("NBIRTH", "NDATA", "NDEATH")),
        "pattern read spBv1.0/+/NCMD/%u",
    ]
    return "\n".join(lines) + "\n"


def _person(role: Role, name: str, root: str) -> str:
    lines = [f"user {name}", *(f"topic {access} {topic}" for access, topic in _rights(role, root))]
    return "\n".join(lines) + "\n"


def _rights(role: Role, root: str) -> list[tuple[str, str]]:
    """Return what a role may do, as access and topic."""
    bundles = bundles_root(root)
    desired = ("write", f"{root}/+/model/+/desired")
    match role:
        case "operator":
            return [
                ("read", f"{root}/#"),
                ("read", f"{bundles}/#"),
                ("write", f"{root}/+/command/+"),
                desired,
                ("write", f"{root}/+/trust/desired"),
            ]
        case "sender":
            return [
                ("read", f"{root}/+/bundle/+/missing"),
                ("read", f"{root}/+/model/+/reported"),
                desired,
                ("write", f"{bundles}/+/+"),
            ]
        case "home-assistant":
            return [
                ("read", f"{root}/#"),
                ("read", "homeassistant/#"),
                ("write", "homeassistant/status"),
                ("write", f"{root}/+/command/install"),
            ]
        case "watcher":
            return [("read", f"{root}/+/{level}") for level in LEVELS]
        case "scada":
            return [
                ("read", "spBv1.0/#"),
                ("write", "spBv1.0/+/NCMD/+"),
                ("write", "spBv1.0/STATE/+"),
            ]

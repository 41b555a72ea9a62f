"""Names in certificates. The broker takes the common name as user name, and its access list goes by that.

A device's common name is its id. That of a person or another program begins with a role and a colon, which no id
of a device has. So neither can pass for the other.
"""

from __future__ import annotations

import re
from typing import Literal, TypeAlias, get_args

from limpet.errors import LimpetError

Role: TypeAlias = Literal["operator", "sender", "home-assistant", "watcher", "scada"]
ROLES: tuple[Role, ...] = get_args(Role)

LONGEST = 64
"""Characters of a common name, by X.520."""
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.:-]*[A-Za-z0-9])?", re.ASCII)


def device(name: str) -> str:
    """Return the common name of a device. ``LimpetError`` if no device can have this id."""
    return _checked(name, "device id", name)


def person(role: Role, name: str) -> str:
    """Return the common name of a person or program. ``LimpetError`` if the name cannot be used."""
    return f"{role}:{_checked(name, 'name', f'{role}:{name}')}"


def host(name: str) -> str:
    """Return a host name or address of a broker. ``LimpetError`` if it cannot be one."""
    if not _HOST.fullmatch(name) or len(name) > 253:
        raise LimpetError(f"{name!r} is no host name or address")
    return name


def _checked(name: str, what: str, whole: str) -> str:
    if not _ID.fullmatch(name) or len(whole) > LONGEST:
        raise LimpetError(
            f"{what} {name!r}: use letters, digits, '.', '_' and '-', at most {LONGEST - len(whole) + len(name)} "
            "characters, and begin with a letter or digit"
        )
    return name

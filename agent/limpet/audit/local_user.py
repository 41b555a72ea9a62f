"""The user of this machine who runs a command."""

from __future__ import annotations

import os
import pwd


def local_user() -> str:
    """Return the name of this process's user. If sudo runs it, who called that is behind the name."""
    number = os.getuid()
    try:
        name = pwd.getpwuid(number).pw_name
    except KeyError:
        name = str(number)
    caller = os.environ.get("SUDO_USER", "")
    return f"{name} (sudo: {caller})" if caller and not number else name

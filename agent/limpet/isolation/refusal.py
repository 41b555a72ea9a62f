"""Why the kernel refused something to a process in its sandbox, for the author of the plugin that tried it."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

from limpet.isolation import device_nodes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from limpet.isolation.permissions import Permissions

_REFUSED = {errno.EACCES, errno.EPERM}


def explain(error: BaseException, allowed: Permissions) -> str:
    """Say in a sentence what a process with these permissions was refused, and what to do.

    Empty if ``error`` and the errors that led to it have other reasons, such as the permissions of a file.
    """
    refused = next((cause for cause in _causes(error) if cause.errno in _REFUSED), None)
    if refused is None:
        return ""
    if not isinstance(refused.filename, str | bytes):
        return "the sandbox may have refused it: a plugin declares all that it opens in its function needs(config)"
    return _explain_path(Path(os.fsdecode(refused.filename)), allowed)


def _explain_path(path: Path, allowed: Permissions) -> str:
    if not _user_may(path) or allowed.reads(path.resolve()):
        return ""
    if path.resolve() in {node.path for node in device_nodes.present(allowed.devices)}:
        return f"{path} came back as another device node, which this worker cannot open"
    if str(path) in device_nodes.other_files(allowed.devices):
        return f"{path} is no device"
    return f"the sandbox refuses {path}: a plugin declares all that it opens in its function needs(config)"


def _user_may(path: Path) -> bool:
    """Whether the user may read a path, or make it. access(2) does not know of the sandbox."""
    return os.access(path, os.R_OK) if os.path.lexists(path) else os.access(path.parent, os.W_OK)


def _causes(error: BaseException | None) -> Iterator[OSError]:
    """Yield the system's errors among an error and those that led to it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, OSError):
            yield error
        error = error.__cause__ or error.__context__

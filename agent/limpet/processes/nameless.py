"""Files that are nowhere, for what is too large to go through a socket between two processes. No numpy."""

from __future__ import annotations

import os
import tempfile
from typing import IO


def nameless_file() -> IO[bytes]:
    """Return an empty file in memory, or without a name on the disk where the system has no such files."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("limpet"), "r+b")
    return tempfile.TemporaryFile()

"""The supervisor's memory and environment, closed to other processes of its user.

Workers share the user of the service. Landlock and seccomp keep them out of the supervisor; this holds without
either, on any kernel.
"""

from __future__ import annotations

import ctypes
import logging
import sys

log = logging.getLogger(__name__)

_PR_SET_DUMPABLE = 4


def close_memory() -> bool:
    """Give this process's files below /proc to root, and refuse debuggers and core dumps; return whether it did.

    Only root can then read its memory and environment, or attach to it. Processes that it starts later by ``exec``
    are not affected.
    """
    if sys.platform != "linux":
        return False
    if ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        log.warning("the supervisor's memory stays readable for processes of its user")
        return False
    return True

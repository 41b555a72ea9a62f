"""The priority of processes beside the pipelines: they take what the pipelines leave of CPU and memory."""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from pathlib import Path

from limpet.device.host import Host
from limpet.device.system_files import MB

NICE = 5
"""How far the priority is below that of the pipelines: it gets a quarter of a CPU that both want."""
SHARE_OF_MEMORY = 0.5
"""Share of the memory that is available at the start which this process may take."""
MOST_MEMORY_MB = 1024.0


def yield_to_pipelines() -> None:
    """Let the pipelines have the CPU first, and have the system kill this process first if memory is short."""
    with suppress(OSError):
        os.nice(NICE)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    host = Host()
    used, available = host.address_space_mb(), host.memory_available_mb()
    if used is not None and available is not None:
        most = int((used + min(available * SHARE_OF_MEMORY, MOST_MEMORY_MB)) * MB)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))

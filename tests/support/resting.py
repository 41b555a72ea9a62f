"""Whether a fork server rests."""

from __future__ import annotations

from pathlib import Path


def rests(pid: int) -> bool:
    """Whether a fork server rests: another program runs in its place, and does nothing."""
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return len(words) > 2 and words[2].endswith(b"/resting.py")

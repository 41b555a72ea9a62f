"""Below which topics the MQTT reporters of this process speak.

Several reporters may be at one broker. A client that may send a command to one of them must not have the answer
planted among the topics of another.
"""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_lock = threading.Lock()
_roots: Counter[str] = Counter()


@contextmanager
def speaking(roots: Sequence[str]) -> Iterator[None]:
    """Declare that a reporter speaks below these topics."""
    with _lock:
        _roots.update(roots)
    try:
        yield
    finally:
        with _lock:
            _roots.subtract(roots)


def spoken() -> list[str]:
    """Return the topics below which some reporter speaks. From any thread."""
    with _lock:
        return [root for root, count in _roots.items() if count > 0]

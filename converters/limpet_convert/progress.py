"""Progress bars on a terminal, and nothing elsewhere."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from limpet_convert import libraries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Progress:
    """Steps with a bar each. Not on a terminal, or without rich, nothing is shown."""

    def __init__(self) -> None:
        self._bars: Any = None
        if sys.stderr.isatty():
            self._bars = _bars()

    @contextmanager
    def step(self, name: str) -> Iterator[Callable[[float], object]]:
        """Show a step while it lasts; what it yields takes the share that is done."""
        if self._bars is None:
            yield lambda _: None
            return
        bar = self._bars.add_task(name, total=None)

        def draw(share: float) -> None:
            self._bars.update(bar, total=1.0, completed=share)

        with _started(self._bars):
            yield draw
            self._bars.update(bar, total=1.0, completed=1.0)


def _bars() -> Any:
    try:
        from rich import progress
        from rich.console import Console
    except ModuleNotFoundError:
        return None
    columns = (progress.TextColumn("{task.description}"), progress.BarColumn(), progress.TimeElapsedColumn())
    return progress.Progress(*columns, console=Console(file=libraries.terminal()))


@contextmanager
def _started(bars: Any) -> Iterator[None]:
    """Draw while any step lasts: steps are within steps."""
    if bars.live.is_started:
        yield
        return
    bars.start()
    try:
        yield
    finally:
        bars.stop()

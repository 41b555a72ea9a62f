"""A reload's change of reporters, in its own thread.

A reporter may take seconds to close, as one whose broker does not answer. Meanwhile the supervisor hears its
workers.
"""

from __future__ import annotations

from threading import Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from limpet.delivery.reporters import Reporters
    from limpet.supervision.checking import Checking


class Adoption:
    """The reporters become those of a configuration that was checked.

    ``done`` once that is over, and ``error`` why all is as it was before, if it is. ``wake`` is called then.
    """

    def __init__(self, reporters: Reporters, checking: Checking, wake: Callable[[], None]) -> None:
        self.checking = checking
        self.done = False
        self.error: Exception | None = None
        self._reporters = reporters
        self._wake = wake
        self._thread = Thread(target=self._work, name="adopt reporters", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait until it is over. A reporter that does not close holds it up for ``PATIENCE`` at most."""
        self._thread.join()

    def _work(self) -> None:
        try:
            self._reporters.adopt(self.checking.config)
        except Exception as error:  # noqa: BLE001 - a bug there must not end what runs
            self.error = error
        self.done = True
        self._wake()

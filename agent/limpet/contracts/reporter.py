"""What a reporter must do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from limpet.contracts.messages import Message, Origin, Reply


class Reporter(Protocol):
    """Where messages go. It batches, queues and sends on a thread of its own."""

    def report(self, message: Message) -> None:
        """Take a message. Called by the supervisor's main thread; never blocks, never raises."""

    def health(self) -> dict[str, Any]:
        """Return its own figures for the device's health."""


class Command(Protocol):
    """A request that came to a reporter from outside. ``payload`` is not to be trusted."""

    name: str
    payload: bytes

    def reply(self, reply: Reply) -> None:
        """Send the answer to who asked. Never blocks, never raises; called at most once, from any thread."""


class ReporterPlugin(Protocol):
    """``open``'s context manager sends what it can in a few seconds when it is left."""

    Config: Any

    def check(self, config: Any, state: Path) -> None:
        """Raise ``ConfigError`` where ``open`` would, without opening anything. Default: nothing is checked.

        A reporter whose options changed is closed only if this finds nothing.
        """

    def open(
        self, config: Any, origin: Origin, state: Path, obey: Callable[[Command], None] | None
    ) -> AbstractContextManager[Reporter]:
        """Open it. ``ConfigError``, never ``TransportError``.

        ``state`` is a directory for what must survive a reboot. ``obey`` takes a command from any thread and
        answers it later, or at once where it refuses it.
        """

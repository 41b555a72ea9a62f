"""What a reporter must do, and what it gets: its place on the bus, and its own folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from limpet.contracts.deliveries import Deliveries
    from limpet.contracts.messages import Message, Origin, Reply


class Feed(Protocol):
    """A reporter's cursor on the bus. One thread reads it; ``wake`` and ``waiting`` are for any thread.

    The bus is bounded. What a reporter reads too late is gone, and is counted in its health as ``missed``.
    """

    @property
    def waiting(self) -> int:
        """How many messages are not read yet."""

    def read(self, most: int = 1000) -> list[Message]:
        """Return the next messages, oldest first, without waiting: at most ``most``, and the snapshot.

        The snapshot comes before the first message, and again after messages were missed. It has the last state
        message of each kind and pipeline: health of the device, health of a pipeline, the model that runs, a
        picture. Pictures, ``SnapshotMessage``, come after the messages, the newest of each pipeline alone.
        """

    def commit(self) -> None:
        """Declare that all that was read is kept or sent. Other messages are read again after a reopening."""

    def wait(self, seconds: float | None = None) -> None:
        """Wait until there is a message to read, ``wake`` is called, or so many seconds are over."""

    def wake(self) -> None:
        """End the wait, or the next one."""


class Reporter(Protocol):
    """Where messages go. It reads its feed, batches and sends on its own thread."""

    def health(self) -> dict[str, Any]:
        """Return its own figures for the device's health. Never blocks, never raises.

        ``connected`` says whether it can send now. A reporter without a connection leaves that out.
        ``outbox_depth`` says how many messages it keeps to be sent. One without an outbox leaves that out.
        """


class Command(Protocol):
    """A request that came to a reporter from outside. ``payload`` is not to be trusted.

    ``answers``: the topic that the answer goes to. The audit journal names it, as it says who sent the command.
    """

    name: str
    payload: bytes
    answers: str

    def reply(self, reply: Reply) -> None:
        """Send the answer to the sender. Never blocks, never raises; called at most once, from any thread."""


class ReporterContext(NamedTuple):
    """What a reporter gets when it is opened.

    ``name`` is that of its table ``[reporters.NAME]``: an identifier, so it may stand in a topic or a file name.
    ``state`` is a folder for what must survive a reboot. ``runtime`` is a folder for what must survive the
    process; it is in memory where the service has such a folder. Both belong to this reporter alone, and may not
    exist yet. ``obey`` takes a command from any thread and answers it later, or at once where it refuses it.
    ``None``: this device takes no commands. ``deliveries`` says what the device wants about models, and takes it.
    """

    name: str
    origin: Origin
    state: Path
    runtime: Path
    feed: Feed
    obey: Callable[[Command], None] | None
    deliveries: Deliveries


class ReporterPlugin(Protocol):
    """``open``'s context manager sends what it can in a few seconds when it is left."""

    Config: Any

    def check(self, config: Any) -> None:
        """Raise ``ConfigError`` where ``open`` would, without making anything. Default: nothing is checked.

        ``NoAccessError``: only this user may not open a file. ``limpet check`` calls this, also as another user
        than the service's. A reporter whose options changed is closed only if this finds nothing. Problems begin
        with the key.
        """

    def exclusive(self, config: Any, name: str, device: str) -> list[str]:
        """Return in words what only one reporter can use, such as a file. Default: nothing.

        ``name`` is that of the reporter. A configuration in which two reporters return the same text is refused.
        """

    def open(self, config: Any, context: ReporterContext) -> AbstractContextManager[Reporter]:
        """Open it, on any thread. ``ConfigError``, whose problems begin with the key; never ``TransportError``."""

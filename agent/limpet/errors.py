"""The errors that Limpet expects. Each is caught in one place; anything else is a bug."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class LimpetError(Exception):
    """Base of errors that a user can correct. The text says what happened, where, and what to do."""


class UsageError(LimpetError):
    """A command line cannot be read. The program ends with exit status 2. The text begins with the program."""


class ConfigError(LimpetError):
    """The configuration cannot be used. The program ends with exit status 78 (EX_CONFIG)."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


class SourceError(LimpetError):
    """A sensor cannot be opened or went away. It is reopened with backoff."""


class SilentError(SourceError):
    """A sensor is open and gives no samples. It stays away until samples come."""


class ModelError(LimpetError):
    """A model cannot be loaded or run as configured. Its pipeline is failed, the others go on."""


class DeployError(LimpetError):
    """A bundle is damaged, not trusted or not for this device. The old model stays."""


class TransportError(LimpetError):
    """A broker cannot be reached or refuses. What was to be sent is kept."""


class UnreadableError(LimpetError):
    """Bytes from outside cannot be decoded, or are too large. Only their sender fails."""

"""The errors that Limpet expects. Each is caught in one place; anything else is a bug."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

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


class NoAccessError(ConfigError):
    """This user may not open files that the configuration names. Another user, such as the service's, may."""


class Problem(NamedTuple):
    """Something wrong with a configuration file, and where it is.

    ``message`` is a sentence that names the key. ``path`` has the keys and the numbers of list entries that lead
    to it. ``line`` and ``column`` count characters from 1; they are 0 if the file cannot be read. ``excerpt`` is
    that line, and ``length`` the number of its characters that are meant. Both are empty for the whole file.
    """

    file: str
    message: str
    path: tuple[str | int, ...] = ()
    line: int = 0
    column: int = 0
    length: int = 0
    excerpt: str = ""

    def __str__(self) -> str:
        """Return one line: ``limpet.toml:9:7: mqtt.qos is 3; use 0 or 1``."""
        where = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{where}: {self.message}"


class ConfigFileError(ConfigError):
    """A ``ConfigError`` that knows where in the file each problem is. ``found`` has the problems in that order."""

    def __init__(self, found: Sequence[Problem]) -> None:
        super().__init__([str(problem) for problem in found])
        self.found = tuple(found)


class SourceError(LimpetError):
    """A sensor cannot be opened or went away. It is reopened with backoff."""


class SilentError(SourceError):
    """A sensor is open and gives no samples. It stays away until samples come."""


class ModelError(LimpetError):
    """A model cannot be loaded or run as configured. Its pipeline is failed, the others go on."""


class WrongOutputsError(ModelError):
    """A model runs, and its outputs are not those that are expected."""


class DeployError(LimpetError):
    """A bundle is damaged, not trusted or not for this device. The old model stays."""


class UntrustedError(DeployError):
    """The root of trust does not permit a model. ``sha256`` is its identity: it must not go on to run."""

    def __init__(self, text: str, sha256: str) -> None:
        super().__init__(text)
        self.sha256 = sha256


class TrustError(LimpetError):
    """A root, a signature or a signed request is not right. What it would permit is refused."""


class TransportError(LimpetError):
    """A broker cannot be reached or refuses. What was to be sent is kept."""


class UnreadableError(LimpetError):
    """Bytes from outside cannot be decoded, or are too large. Only their sender fails."""

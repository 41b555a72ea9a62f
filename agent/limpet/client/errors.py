"""What can go wrong between a program and the daemon."""

from __future__ import annotations

from limpet.errors import LimpetError


class ClientError(LimpetError):
    """Base of the client's errors."""


class UnavailableError(ClientError):
    """The daemon cannot be reached, ended the connection, or did not answer in time."""


class RefusedError(ClientError):
    """The daemon answered that it cannot do this. ``status`` is the one of HTTP; 0 for a command that failed."""

    def __init__(self, text: str, status: int = 0) -> None:
        super().__init__(text)
        self.status = status

    @property
    def busy(self) -> bool:
        """Whether a later attempt may help."""
        return self.status in {429, 503}

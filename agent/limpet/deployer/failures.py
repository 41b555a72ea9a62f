"""Why a fetch does not go on."""

from __future__ import annotations


class SourceFailedError(Exception):
    """One attempt at one source failed.

    ``final``: it makes no sense to try this source again. ``wait``: seconds for which the server asked.
    ``afresh``: what came from there so far is not to be gone on with. ``slow``: the server kept the connection
    open for too long, so what it brought is no progress.
    """

    def __init__(
        self,
        reason: str,
        *,
        final: bool = False,
        wait: float = 0.0,
        afresh: bool = False,
        slow: bool = False,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.final = final
        self.wait = wait
        self.afresh = afresh
        self.slow = slow


class GivenUpError(Exception):
    """No source can help now: no time, no bytes of the budget or no room on the disk is left."""

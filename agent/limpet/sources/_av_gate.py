"""Which pictures of a stream are left out without being decoded. Decides, without I/O."""

from __future__ import annotations

WAITED_NS = 2_000_000
"""So long a wait for a packet shows that nothing else had come: the decoder keeps up."""
BEHIND_NS = 2_000_000_000
"""How long no such wait may be missing before the decoder counts as too slow."""
LONGEST_NS = 4_000_000_000
"""How long a key picture is waited for. Some cameras send none, and renew pictures bit by bit."""


class Gate:
    """Leaves out what cannot be seen right, and what would only make the newest picture late.

    A picture is decoded from those before it, back to a key picture. So all that follow a damaged one are smeared,
    up to the next key picture. A decoder that is too slow falls ever further behind. It has to leave pictures
    out until it has caught up.
    """

    def __init__(self) -> None:
        self._why = ""
        self._until: int | None = None
        """From when on any picture will do; ``None`` while the decoder is behind."""
        self._waited: int | None = None

    def damaged(self, now_ns: int) -> None:
        """Take note that a picture is damaged."""
        if not self._why:
            self._why, self._until = "corrupt", now_ns + LONGEST_NS

    def leaves_out(self, now_ns: int, waited_ns: int, *, key: bool) -> str:
        """Return why the picture that came now is left out, empty if it is not.

        ``waited_ns``: how long it was waited for. ``key``: whether it needs no other.
        """
        if self._waited is None or waited_ns >= WAITED_NS:
            self._waited = now_ns
            if self._until is None:
                self._until = now_ns + LONGEST_NS
        if not self._why and now_ns - self._waited > BEHIND_NS:
            self._why, self._until = "overtaken", None
        if self._until is not None and (key or now_ns > self._until):
            self._why = ""
        return "" if key else self._why

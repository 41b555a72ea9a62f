"""One way to write an attempt: ``@attempts.named("what it tries")`` on a function that takes the ``Border``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from attacker_border import Border


class Attempts(dict[str, "Callable[[Border], Any]"]):
    """Attempts by name, in order. What one returns goes into its report."""

    def named(self, name: str) -> Callable[[Callable[[Border], Any]], Callable[[Border], Any]]:
        """Register a function under a name."""

        def register(function: Callable[[Border], Any]) -> Callable[[Border], Any]:
            self[name] = function
            return function

        return register

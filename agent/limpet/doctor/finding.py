"""What a check found."""

from __future__ import annotations

from typing import Literal

import msgspec


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One result of one check.

    ``bad``: Limpet does not work as configured. ``warn``: it may stop working. ``skip``: nothing was checked.
    ``what`` was found, ``why`` it matters, ``fix``: what to do about it.
    """

    check: str
    result: Literal["ok", "warn", "bad", "skip"]
    what: str
    why: str = ""
    fix: str = ""


def ok(check: str, what: str) -> Finding:
    """Return a finding without a problem."""
    return Finding(check=check, result="ok", what=what)


def skip(check: str, what: str) -> Finding:
    """Return a finding of a check that did not run."""
    return Finding(check=check, result="skip", what=what)


def warn(check: str, what: str, why: str, fix: str) -> Finding:
    """Return a finding that may become a problem."""
    return Finding(check=check, result="warn", what=what, why=why, fix=fix)


def bad(check: str, what: str, why: str, fix: str) -> Finding:
    """Return a problem."""
    return Finding(check=check, result="bad", what=what, why=why, fix=fix)

"""What a check found."""

from __future__ import annotations

from typing import Literal

import msgspec


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One result of one check.

    ``bad`` keeps Limpet from doing what it is to do, ``warn`` may do so one day, ``skip`` could not be looked at
    or is not there. ``what`` was seen, ``why`` it matters, ``fix`` says what to do about it.
    """

    check: str
    result: Literal["ok", "warn", "bad", "skip"]
    what: str
    why: str = ""
    fix: str = ""


def ok(check: str, what: str) -> Finding:
    """Return that all is well."""
    return Finding(check=check, result="ok", what=what)


def skip(check: str, what: str) -> Finding:
    """Return that there was nothing to look at."""
    return Finding(check=check, result="skip", what=what)


def warn(check: str, what: str, why: str, fix: str) -> Finding:
    """Return what may go wrong."""
    return Finding(check=check, result="warn", what=what, why=why, fix=fix)


def bad(check: str, what: str, why: str, fix: str) -> Finding:
    """Return what is wrong."""
    return Finding(check=check, result="bad", what=what, why=why, fix=fix)

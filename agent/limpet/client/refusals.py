"""An answer that is no success, as an error."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

import msgspec

from limpet.client.errors import RefusedError
from limpet.contracts.api import Refused
from limpet.untrusted import printable

if TYPE_CHECKING:
    from limpet.client.http import Response

_LONGEST = 500
"""Characters of a reason."""


_error = msgspec.json.Decoder(Refused)


def refusal(response: Response) -> RefusedError:
    """Return the error of an answer, whose body may be anything."""
    try:
        reason = _error.decode(response.body).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        reason = _phrase(response.status)
    return RefusedError(printable(reason[:_LONGEST]), response.status)


def _phrase(status: int) -> str:
    try:
        return f"the daemon answers {status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"the daemon answers {status}"

"""The name in a client's certificate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from limpet.wire.border import cleaned

if TYPE_CHECKING:
    from collections.abc import Sequence

LONGEST_NAME = 64
UNNAMED = "a certificate without a name"


def name_of(certificate: dict[str, Any]) -> str:
    """Return the common name or the first alternative name of a verified certificate, as ``ssl`` describes it.

    It is never empty: the certificate is valid whatever its name is.
    """
    names = [value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"]
    names += [value for _, value in certificate.get("subjectAltName", ())]
    return first_of(names)


def first_of(names: Sequence[str]) -> str:
    """Return the first of the names of a verified certificate, fit to be shown. It is never empty."""
    name = cleaned(str(names[0]), LONGEST_NAME).strip() if names else ""
    return name or UNNAMED

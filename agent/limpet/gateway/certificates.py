"""The name in a client's certificate."""

from __future__ import annotations

from typing import Any

from limpet.wire.border import cleaned

LONGEST_NAME = 64
UNNAMED = "a certificate without a name"


def name_of(certificate: dict[str, Any]) -> str:
    """Return the common name or the first alternative name of a verified certificate, as ``ssl`` describes it.

    It is never empty: the certificate is valid whatever its name is.
    """
    names = [value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"]
    names += [value for _, value in certificate.get("subjectAltName", ())]
    name = cleaned(str(names[0]), LONGEST_NAME).strip() if names else ""
    return name or UNNAMED

"""What a person on this device wants of the model of a pipeline: a file in the state directory."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from limpet.contracts.updates import LARGEST_DESIRED

LARGEST = 2 * LARGEST_DESIRED
"""Bytes of such a file."""


class LocalOrder(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """``requests/PIPELINE.json``. The daemon takes it at its start and on SIGHUP, and then deletes it.

    ``update``: install ``desired``, a ``DesiredModel``. Its bundle is ``requests/PIPELINE.limpet``, put there
    before, or in one of its sources. The other orders are those of the commands over MQTT. ``by``: the person.
    """

    order: Literal["update", "install", "promote", "rollback", "cancel"]
    desired: msgspec.Raw = msgspec.Raw(b"")
    by: Annotated[str, Meta(max_length=200)] = ""

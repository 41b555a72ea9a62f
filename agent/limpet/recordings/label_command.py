"""The command `label`, which sets the label of a running recording."""

from __future__ import annotations

import msgspec

from limpet.config import Identifier


class SetLabel(msgspec.Struct, forbid_unknown_fields=True):
    """Sets the label of the recording that runs, from now on; null for none. `limpet record --mqtt` obeys it."""

    label: Identifier | None

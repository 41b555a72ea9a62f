"""What the reference of a bundle says that the supervisor needs: a worker sends it, as it alone reads bundles."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from limpet.contracts.adaptation import MOST_LABELS, Label, Number
from limpet.contracts.fields import Share

MOST_SLICES = 256

_Name = Annotated[str, Meta(max_length=64)]


class Expected(msgspec.Struct, tag=True):
    """Accuracy of the model ``model`` over the reference's windows, that of its slices, and its class priors.

    ``priors`` is empty if there are more than ``MOST_LABELS`` classes. ``threshold`` is the decoder's, without an
    adaptation.
    """

    pipeline: _Name
    model: _Name
    version: Annotated[int, Meta(ge=0, le=1 << 53)]
    accuracy: Share | None = None
    slices: Annotated[dict[_Name, Share], Meta(max_length=MOST_SLICES)] = {}
    priors: Annotated[dict[Label, Share], Meta(max_length=MOST_LABELS)] = {}
    threshold: Number | None = None

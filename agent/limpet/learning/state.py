"""What the device keeps of what it learned, in ``learning.json`` of the state directory.

It is read as if a stranger had written it: what it says stays within the limits of the configuration.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from limpet.learning.accuracy import Accuracy
from limpet.learning.adaptations import NONE, Adaptations
from limpet.learning.changes import Levels

NAME = "learning.json"
UNDO = "undo"
"""Folder in the state directory for requests of `limpet adaptations undo`, a file for each pipeline."""
LARGEST = 64 << 20
LARGEST_ORDER = 4096
"""Bytes of such a file."""
MOST_MODELS = 4
"""Models of a pipeline whose accuracy is remembered."""
MOST_PIPELINES = 1024

PipelineName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")]
_Reason = Annotated[str, Meta(max_length=128)]


class Followed(msgspec.Struct, frozen=True, kw_only=True):
    """Levels of channels: of the first windows, of the last period that is over, and of the present one.

    ``since``: when the present period began, in seconds since 1970.
    """

    base: Levels = Levels()
    before: Levels = Levels()
    present: Levels = Levels()
    since: float = 0.0


class Learned(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is kept of one pipeline.

    ``accuracy``: of the last models, the newest last. ``advised``: reasons for a training that were published for
    the newest one. ``changed``: when each kind was adapted last, in seconds since 1970.
    """

    accuracy: Annotated[tuple[Accuracy, ...], Meta(max_length=MOST_MODELS)] = ()
    advised: Annotated[tuple[_Reason, ...], Meta(max_length=300)] = ()
    adaptations: Adaptations = NONE
    changed: Annotated[dict[str, float], Meta(max_length=8)] = {}
    followed: Followed | None = None

    def of(self, model: str, version: int) -> Accuracy | None:
        """Return the accuracy of a model, ``None`` if there was no feedback for it."""
        return next((one for one in self.accuracy if (one.model, one.version) == (model, version)), None)

    def with_accuracy(self, known: Accuracy) -> Learned:
        """Return it with the accuracy of a model, which becomes the newest one."""
        others = [one for one in self.accuracy if (one.model, one.version) != (known.model, known.version)]
        return replace(self, accuracy=(*others, known)[-MOST_MODELS:])


class AllLearned(msgspec.Struct, frozen=True, kw_only=True):
    """The file."""

    pipelines: Annotated[dict[PipelineName, Learned], Meta(max_length=MOST_PIPELINES)] = {}
    format: Annotated[int, Meta(ge=1, le=1)] = 1


class UndoRequest(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """``undo/PIPELINE.json``: what a person on this device wants undone. The daemon takes and deletes it.

    ``number``: that adaptation and all later ones; by default the newest.
    """

    number: Annotated[int, Meta(ge=1, le=1 << 53)] | None = None
    by: Annotated[str, Meta(max_length=200)] = ""

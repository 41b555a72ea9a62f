"""What a transform must do: windows to model input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import msgspec

from limpet.contracts.stage import Stage

if TYPE_CHECKING:
    from limpet.contracts.data import FloatArray
    from limpet.contracts.frame import View
    from limpet.contracts.stage import Spec


class Abilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a module of transforms declares as ``ABILITIES``. One that declares nothing has the defaults.

    ``elementwise``: each number of the result depends on the number in its place and on its channel alone. The
    transform can be opened for many windows in one array, along an axis more, and keeps no memory.
    ``keeps_range``: the result has the unit and the range of the input. A model with an integer input without
    quantization can then take it, rounded. ``byte_table``: stages have ``byte_values``, see ``ByteTable``.
    ``outlives_gaps``: the stage's memory is kept over a gap; the graph never resets it. ``picture``: the module
    has ``view``, see ``PicturePlugin``.
    """

    elementwise: bool = False
    keeps_range: bool = False
    byte_table: bool = False
    outlives_gaps: bool = False
    picture: bool = False


@runtime_checkable
class ByteTable(Stage, Protocol):
    """A transform that can be replaced by a table for images of bytes."""

    @property
    def byte_values(self) -> FloatArray | None:
        """What becomes of each byte, float32 ``(256,)``. ``None`` if that differs between channels."""


class TransformPlugin(Protocol):
    """A module that makes transforms. It may declare ``ABILITIES``."""

    Config: Any

    def open(self, config: Any, spec: Spec) -> Stage:
        """Prepare for windows of the form ``spec``. ``ValueError`` says why the transform cannot take them."""


class PicturePlugin(TransformPlugin, Protocol):
    """A module that makes transforms of pictures. Those at the start of a pipeline on frames become one view.

    Its stages take pictures ``(n, height, width, channels)``, of which -1 may be the height and the width, and set
    ``Window.cut``.
    """

    def view(self, config: Any, before: View) -> View | None:
        """Return what the transform makes of a view.

        ``None`` if a view cannot say it: then the transform takes the array that ``before`` gives.
        ``ValueError`` if pictures of that size cannot be transformed.
        """

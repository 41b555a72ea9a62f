"""What a decoder must do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.contracts.data import FloatArray, TensorSpec


class Decoder(Protocol):
    """Output tensors to meaning."""

    def __call__(self, outputs: Sequence[FloatArray], inputs: Sequence[FloatArray]) -> Any:
        """Return a mapping, or a struct that encodes as one. ``inputs`` are what the model was given.

        A decoder may have ``many`` too, which takes the same with a batch of windows in front and returns a list.
        """


class DecoderPlugin(Protocol):
    """``ValueError`` from ``open`` says why it cannot decode such outputs.

    A module with ``READS_INPUTS = False`` says that its decoders do not look at what the model was given.
    """

    Config: Any
    READS_INPUTS: bool

    def open(self, config: Any, outputs: Sequence[TensorSpec], labels: Sequence[str]) -> Decoder:
        """Prepare to decode the model's ``outputs`` with the bundle's ``labels``."""

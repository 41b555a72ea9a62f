"""What a runtime reads of a model file without loading it."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from limpet.contracts.fields import TensorInfo


class ModelFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A model's inputs and outputs, in the order in which a run takes and gives them, and the state that it keeps.

    ``aliases``: other names of inputs and outputs.
    ``signatures``: keys of signatures that take inputs.
    ``state``: what the model keeps from one run to the next, in words; empty if it keeps nothing.
    ``stateful``: whether that state is meant to last from window to window; ``None`` if the file does not show it.
    ``pairs``: inputs that look like state, each with the output that looks like its next value.
    """

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    aliases: Mapping[str, str] = {}
    signatures: tuple[str, ...] = ()
    state: str = ""
    stateful: bool | None = False
    pairs: Mapping[str, str] = {}

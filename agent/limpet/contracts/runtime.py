"""What a runtime and its models must do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from limpet.contracts.data import Array, TensorSpec
    from limpet.contracts.delegate import Choice
    from limpet.contracts.model_facts import ModelFacts


class Model(Protocol):
    """A loaded model. Used by one thread."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @property
    def delegate(self) -> str:
        """The name of the delegate that it is on."""

    @property
    def delegate_share(self) -> float:
        """Share of its ops that the delegate runs, 0 to 1."""

    def run(self, inputs: Sequence[Array]) -> Sequence[Array]:
        """Run once. Inputs and outputs are real values (float) where the tensor is quantized.

        Outputs are valid until the next call. ``ModelError`` where the runtime refuses.
        """

    def reset(self) -> None:
        """Forget earlier inputs, for a model with state."""


class RuntimePlugin(Protocol):
    """Who executes the model."""

    Config: Any

    def check(self, path: Path, delegates: Sequence[str]) -> list[str]:
        """Return why a model cannot be run here on these delegates, without loading it. Default: none."""

    def describe(self, path: Path, config: Any) -> ModelFacts | None:
        """Return what the model's file says, without loading it. ``ModelError``. Default: ``None``, unknown."""

    def open(
        self, path: Path, config: Any, delegate: Choice, shapes: Sequence[tuple[int, ...]] | None
    ) -> AbstractContextManager[Model]:
        """Load the model file on one delegate, inputs resized to ``shapes`` where given. ``ModelError``."""

"""What a runtime and its models must do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

import msgspec

from limpet.contracts.model_facts import ModelFacts

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from limpet.contracts.data import Array, FloatArray, TensorSpec
    from limpet.contracts.delegate import Choice
    from limpet.contracts.placement import Placement


class Model(Protocol):
    """A model that can be run. Used by one thread."""

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

    def absorb(self, byte_values: FloatArray) -> bool:
        """Take images of bytes from now on, which stand for these 256 real values. Return False to refuse."""


@runtime_checkable
class Learning(Protocol):
    """A model that learns from the windows that it runs.

    It does so only between ``learn`` and ``stop_learning``. Before, its runs leave no trace: a model is tried,
    proven and measured with windows that are made up.
    """

    def learn(self, folder: Path | None, meaning: str) -> str:
        """Begin to learn, or go on. Return what a person should know about that, empty if nothing.

        ``folder`` is the pipeline's own and survives restarts; ``None`` if nothing is to be kept. ``meaning``
        identifies what the inputs are: what was learned from inputs with another meaning does not count.
        """

    @property
    def learned(self) -> float:
        """Share of its learning time that is over, 0 to 1."""

    def stop_learning(self) -> None:
        """Keep what was learned, and learn no more until ``learn`` is called. ``close`` does that too."""


class Storing(Model, Protocol):
    """A model that also takes and gives tensors as it stores them. Its runtime declares ``stored``."""

    def run_stored(self, inputs: Sequence[Array], /, *, real: bool) -> Sequence[Array]:
        """Run once. An input with its tensor's dtype is taken as it is. Another has real values, as in ``run``.

        Outputs are those in the tensors, or with ``real`` as from ``run``. They are valid until the next call.
        ``ModelError`` where the runtime refuses.
        """


class LoadedModel(Model, Protocol):
    """A model as a runtime has loaded it."""

    @property
    def placement(self) -> Placement | None:
        """Which executor runs each op, ``None`` if the runtime does not say."""


CheckModel: TypeAlias = Callable[[Path, Sequence[str]], list[str]]
"""Return why a model file cannot be run here on delegates of these names, without loading it."""

DescribeModel: TypeAlias = Callable[[Path, Any], ModelFacts | None]
"""Return what a model file says, without loading it; ``None`` if unknown. The second is a ``Config``.
``ModelError``."""


def _no_problem(_path: Path, _delegates: Sequence[str]) -> list[str]:
    return []


def _unknown(_path: Path, _config: Any) -> None:
    return None


class Abilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a module of a runtime declares as ``ABILITIES``. One that declares nothing has the defaults.

    ``package`` and ``version`` are those of the library that runs models. ``interpreter`` makes TFLite
    interpreters on the CPU, which show how long single ops take. ``learns``: its models learn on the device, see
    ``Learning``. Their worker may write in a folder of its pipeline's own, see ``limpet.device.directories``.
    ``stored``: its models also take tensors as they store them, see ``Storing``.
    """

    check: CheckModel = _no_problem
    describe: DescribeModel = _unknown
    package: str = ""
    version: str = ""
    interpreter: Callable[..., Any] | None = None
    learns: bool = False
    stored: bool = False


class RuntimePlugin(Protocol):
    """Who executes the model. It may declare ``ABILITIES``."""

    Config: Any

    def open(
        self, path: Path, config: Any, delegate: Choice, shapes: Sequence[tuple[int, ...]] | None
    ) -> AbstractContextManager[LoadedModel]:
        """Load the model file on one delegate, inputs resized to ``shapes`` where given. ``ModelError``."""

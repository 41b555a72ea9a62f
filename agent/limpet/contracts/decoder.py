"""What a decoder must do: output tensors to meaning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import msgspec

from limpet.contracts.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from limpet.contracts.data import Array, FloatArray, Window
    from limpet.contracts.stage import Spec


class Abilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a module of decoders declares as ``ABILITIES``. One that declares nothing has the defaults.

    ``reads_inputs``: its stages look at ``Window.inputs``. ``batches``: they have ``decode_batch``, see
    ``Batching``.
    ``threshold``: they have ``set_threshold``, see ``Adjustable``. ``outlives_gaps``: their memory is kept over a
    gap; the graph never resets them. ``enrols``: they have the members of ``Enrolling``. Their worker may write in
    a folder of its pipeline's own. ``scores``: they have ``want_scores``, see ``Scoring``. ``output``: the type of
    their results, where it is always the same struct.
    """

    reads_inputs: bool = True
    batches: bool = False
    threshold: bool = False
    outlives_gaps: bool = False
    enrols: bool = False
    scores: bool = False
    output: type | None = None


@runtime_checkable
class Batching(Stage, Protocol):
    """A decoder that decodes many windows in one call."""

    def decode_batch(
        self, windows: Sequence[Window], outputs: Sequence[FloatArray], inputs: Sequence[Array]
    ) -> None:
        """Set ``result`` of each window, in their order.

        ``outputs`` and ``inputs`` are those of all windows together, with the windows along the first axis.
        """


@runtime_checkable
class Adjustable(Stage, Protocol):
    """A decoder whose threshold can be set while it runs."""

    def set_threshold(self, value: float) -> None:
        """Use another threshold from the next window on. ``ValueError`` if this decoder has none as configured."""


@runtime_checkable
class Scoring(Stage, Protocol):
    """A decoder that can give the probability of each label."""

    def want_scores(self) -> None:
        """Set ``Window.scores`` of each window from now on. They cost time, so that they are not set otherwise.

        Each window gets a separate array, in the order of ``spec.labels`` of the decoder; ``None`` where the
        model gave NaN or infinity. ``ValueError`` where the model has no scores, such as an index alone.
        """


@runtime_checkable
class Enrolling(Stage, Protocol):
    """A decoder that learns new labels from examples while it runs."""

    @property
    def labels(self) -> dict[str, int]:
        """How many windows each enrolled label was made of."""

    def keep(self, path: Path | None) -> str:
        """Go on from a file, and keep there what will be enrolled. Return why that is not possible, if so.

        ``None``: nothing is kept.
        """

    def enrol(self, label: str, windows: int, done: Callable[[str], None]) -> None:
        """Take the next windows as examples of a label, then call ``done`` with why it failed, else an empty text.

        ``ValueError`` says why it cannot begin.
        """

    def forget(self, label: str) -> None:
        """Remove an enrolled label. ``ValueError`` if there is none. ``OSError`` if it stays in the file."""

    def undo(self, count: int) -> None:
        """Take back the last changes of labels: what was enrolled is removed, what was forgotten is back.

        ``ValueError`` if so many are not remembered. ``OSError`` if they stay in the file.
        """


class DecoderPlugin(Protocol):
    """A module that makes decoders. It may declare ``ABILITIES``.

    A decoder reads ``Window.outputs`` and sets ``Window.result``: a mapping, or a struct that encodes as one.
    Behind the model, ``Window.values`` is the model's first output. A decoder may replace it and ``Window.cut``
    with the input of pipelines that this one feeds. Its own ``spec`` then describes that input.
    """

    Config: Any

    def open(self, config: Any, spec: Spec) -> Stage:
        """Prepare to decode ``spec.outputs`` with ``spec.labels``. ``ValueError`` says why it cannot."""

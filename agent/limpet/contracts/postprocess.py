"""What a postprocess stage must do: results to better results, and to events.

Such stages come behind the decoder. Each gets the ``Window`` with its ``result``, a struct of
``limpet.contracts.outputs``, and returns the window with a result. Smoothing and tracking are such stages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, runtime_checkable

import msgspec

from limpet.contracts.stage import Stage

if TYPE_CHECKING:
    from limpet.contracts.data import Window
    from limpet.contracts.stage import Spec

Trait: TypeAlias = Literal["ids", "scores"]
"""What a result may have beyond its type. ``ids``: its objects have ids, the same from window to window.

``scores``: ``Window.scores`` has the probability of each label.
"""


Channels: TypeAlias = Callable[[Any], Sequence[str]]
"""Return the names of channels in a ``Config``."""


def _none(_config: Any) -> Sequence[str]:
    return ()


class Abilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a postprocess module declares as ``ABILITIES``.

    ``takes``: the types of results that its stages take, empty for any. ``gives``: the type of what they return,
    ``None`` where that is the type of what they got. ``adds``: traits of what they return. ``wants``: traits that
    what they get must have. ``outlives_gaps``: their memory is kept over a gap; the graph never resets them.
    ``idles``: they have ``idle``, see ``Idling``. ``channels``: which channels of the source a ``Config`` names.
    The stages find those that the model does not take in ``Window.beside``. ``calibrated``: what they do holds for
    the scores of one model alone, and they keep no memory. Behind the light model of a cascade, those of its own
    bundle run.
    """

    takes: tuple[type, ...] = ()
    gives: type | None = None
    adds: tuple[Trait, ...] = ()
    wants: tuple[Trait, ...] = ()
    outlives_gaps: bool = False
    idles: bool = False
    channels: Channels = _none
    calibrated: bool = False


@runtime_checkable
class Idling(Stage, Protocol):
    """A stage that forgets with time, also if no window comes, as when a camera is unplugged."""

    def idle(self, window: Window) -> Window:
        """Forget what is too old at ``window.taken_ns``, as if nothing were seen. Append events to the window.

        ``window.result`` is ``None``, or what an idling stage before this one made of nothing.
        """


class PostprocessPlugin(Protocol):
    """A module that makes postprocess stages. It may declare ``ABILITIES``.

    A stage changes ``Window.result`` and nothing else of the window. It must not change the result that it got:
    it makes another one, or a copy. It may append events of ``limpet.contracts.detected_events`` to
    ``Window.events``.
    ``Window.taken_ns`` is the time to reckon with: windows may come at any rate, and some may be missing.
    The result may have any finite or other number in it that the model gave.
    """

    Config: Any

    def open(self, config: Any, spec: Spec) -> Stage:
        """Prepare for results of windows of the form ``spec``, the decoder's. ``ValueError`` says why not."""

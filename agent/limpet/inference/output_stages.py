"""The stages after a model: its decoder, then the postprocess stages."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from limpet.contracts.outputs import Regression
from limpet.errors import ModelError
from limpet.inference.stages import open_decoder, open_postprocess

if TYPE_CHECKING:
    from collections.abc import Callable

    from limpet.contracts.data import Window
    from limpet.contracts.decoder import Scoring
    from limpet.contracts.postprocess import Idling
    from limpet.contracts.stage import Spec
    from limpet.inference.plan import PipelinePlan


class OutputStages:
    """The stages after a model, opened. ``call`` runs all of them on a window.

    A postprocess stage is also reset before a window if the one before it had no result.
    """

    def __init__(self, plan: PipelinePlan, spec: Spec) -> None:
        """Open the stages for windows of the form ``spec``. ``ModelError`` says why one cannot be opened."""
        self._kind = plan.decoder
        self.decoder = open_decoder(plan.decoder, spec)
        self.postprocess = open_postprocess(plan.postprocess, self.decoder.spec)
        wanted = any("scores" in plugin.abilities.wants for plugin in plan.postprocess)
        if wanted and plan.decoder.abilities.output is not Regression:  # quantities have no scores
            self.want_scores()
        both = list(zip(plan.postprocess, self.postprocess, strict=True))
        self._calls = tuple(stage.__call__ for stage in self.postprocess)
        self._forgetful = [stage for plugin, stage in both if not plugin.abilities.outlives_gaps]
        self._idling = [cast("Idling", stage) for plugin, stage in both if plugin.abilities.idles]
        self._keeps_decoder = plan.decoder.abilities.outlives_gaps
        self._missed = False
        # A pipeline without such stages pays nothing for them.
        self.call: Callable[[Window], Window] = self._through if self._calls else self.decoder.__call__

    def want_scores(self) -> None:
        """Have the decoder set ``Window.scores``. ``ModelError`` if it has none. Call it as often as you like."""
        if self._kind.abilities.scores:
            try:
                cast("Scoring", self.decoder).want_scores()
            except ValueError as error:
                raise ModelError(f"decoder: {error}") from error
        else:
            raise ModelError(f"decoder: {self._kind.kind!r} has no scores of each label")

    @property
    def idles(self) -> bool:
        """Whether there is something to do while no window comes."""
        return bool(self._idling)

    def _through(self, window: Window) -> Window:
        try:
            window = self.decoder(window)
        except BaseException:
            self._missed = True
            raise
        return self.finish(window)

    def finish(self, window: Window, first: int = 0) -> Window:
        """Run the postprocess stages on a decoded window, from the ``first`` one on."""
        if self._missed:
            self.reset_postprocess()
        try:
            for call in self._calls[first:] if first else self._calls:
                window = call(window)
        except BaseException:
            self._missed = True
            raise
        return window

    def idle(self, window: Window) -> Window:
        """Have the stages forget what is too old at the time of a window that has nothing else."""
        for stage in self._idling:
            window = stage.idle(window)
        return window

    def reset(self) -> None:
        """Forget all earlier windows, but for what is declared to outlive gaps."""
        if not self._keeps_decoder:
            self.decoder.reset()
        self.reset_postprocess()

    def reset_postprocess(self) -> None:
        """Do the same for the postprocess stages alone."""
        self._missed = False
        for stage in self._forgetful:
            stage.reset()

    def restart(self) -> None:
        """Forget all earlier windows, whatever is declared to outlive gaps."""
        self._missed = False
        for stage in (self.decoder, *self.postprocess):
            stage.reset()

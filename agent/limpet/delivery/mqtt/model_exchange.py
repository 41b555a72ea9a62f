"""What a reporter's connection does about models: its subscriptions follow what the device wants."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from typing import TYPE_CHECKING

from limpet.contracts.deliveries import NOTHING
from limpet.delivery.mqtt.incoming_models import REST

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from limpet.contracts.deliveries import Wanted
    from limpet.contracts.dialect import Publish
    from limpet.delivery.mqtt.connection import Connection, Incoming
    from limpet.delivery.mqtt.incoming_models import IncomingModels
    from limpet.delivery.mqtt.subscriptions import Subscriptions

log = logging.getLogger(__name__)


class ModelExchange:
    """Belongs to the network thread of the broker ``name``. ``models`` is ``None`` if none come through it."""

    def __init__(self, name: str, models: IncomingModels | None, subscriptions: Subscriptions) -> None:
        self._name = name
        self._models = models
        self._subscriptions = subscriptions
        self._wanted: Wanted = NOTHING

    def watching(self, wake: Callable[[], None]) -> AbstractContextManager[None]:
        """Have ``wake`` called when the device wants something else."""
        return self._models.deliveries.watching(wake) if self._models else nullcontext()

    def connected(self, connection: Connection) -> None:
        """Begin on a new connection."""
        if self._models:
            connection.bulk = f"{self._models.topics.bundles}/"
            self._models.begin()
            self._follow_wanted(self._models)

    def take(self, incoming: Incoming, now: float) -> bool:
        """Take a message. Return ``False`` if it is not about models."""
        return self._models is not None and self._models.take(incoming, now)

    def questions(self, stands: Callable[[str], bool], now: float) -> list[Publish]:
        """Return which chunks to ask for now. ``stands`` says whether a subscription is active."""
        return self._models.questions(stands, now) if self._models else []

    def tend(self, connection: Connection, now: float) -> bool:
        """Deliver what is due. Return whether the subscriptions are to change."""
        models = self._models
        if models is None:
            return False
        models.deliver_due(now)
        if models.strays:
            connection.unsubscribe(sorted(models.strays))
            models.strays.clear()
        for topic in models.floods:
            log.warning("%s: too many chunks come; %s rests for %.0f s", self._name, topic, REST)
            self._subscriptions.leave_out(topic, now + REST)
        flooded = bool(models.floods)
        models.floods.clear()
        return self._follow_wanted(models) or flooded

    def _follow_wanted(self, models: IncomingModels) -> bool:
        """Have the subscriptions be those to what the device wants. Return whether that changed."""
        wanted = models.deliveries.wanted
        changed = wanted != self._wanted
        if changed:
            self._wanted = wanted
            self._subscriptions.want(wanted)
        return changed

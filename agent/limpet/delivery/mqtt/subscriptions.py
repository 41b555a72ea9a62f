"""Which topics to subscribe to, and which to leave out as the broker closes the connection over them. No I/O."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from limpet.contracts.chunks import bundles_root
from limpet.contracts.commands import REQUESTS
from limpet.contracts.deliveries import NOTHING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.contracts.deliveries import Wanted

ENDS = 2
"""Connections that end over a subscription until it is left out."""

REST = 3600.0
"""Seconds for which it is then left out; twice as long after each further end, up to a day."""

_MOST_RESTS = 24


class ModelTopics(NamedTuple):
    """The topics of models: ``root`` is ``limpet/<device>``, ``bundles`` the root of bundles."""

    root: str
    bundles: str

    @property
    def trust(self) -> str:
        """Topic of roots of trust."""
        return f"{self.root}/trust/desired"

    def desired(self, pipeline: str) -> str:
        """Return the topic of the desired state of a pipeline, or of all with ``+``."""
        return f"{self.root}/model/{pipeline}/desired"

    def chunks(self, sha256: str) -> str:
        """Return the topics of the chunks of a file. Only brokers with wildcards have them."""
        return f"{self.bundles}/{sha256}/+"

    def missing(self, sha256: str) -> str:
        """Return the topic on which this device names the chunks that it lacks."""
        return f"{self.root}/bundle/{sha256}/missing"


def model_topics(root: str) -> ModelTopics:
    """Return the topics of models of the device whose topics begin with ``root``."""
    return ModelTopics(root, bundles_root(root.rpartition("/")[0]))


class Subscriptions:
    """The topics of commands below ``root``, if ``commands`` are wanted, those of the dialects, and of models."""

    def __init__(self, root: str, dialects: Sequence[str], *, commands: bool) -> None:
        self._root = root
        self._dialects = tuple(dialects)
        self._commands = commands
        self._topics = model_topics(root)
        self._models = NOTHING
        self._ends: dict[str, tuple[int, float]] = {}
        self._again: set[str] = set()

    def want(self, models: Wanted) -> None:
        """Take in what the device wants about models.

        What the broker retains for a new pipeline came before, and was ignored. A subscription brings it again.
        """
        if models.pipelines - self._models.pipelines:
            self._again.add(self._topics.desired("+"))
        self._models = models

    def is_due_again(self, topic: str) -> bool:
        """Whether a topic is to be subscribed to again, though its subscription is active."""
        return topic in self._again

    def wanted(self, *, wildcards: bool = True) -> list[str]:
        """Return all topics. A broker without wildcards needs a subscription for each command and pipeline."""
        names = ["+"] if wildcards else list(REQUESTS)
        commands = [f"{self._root}/command/{name}" for name in names] if self._commands else []
        return [*commands, *self._dialects, *self._wanted_models(wildcards=wildcards)]

    def _wanted_models(self, *, wildcards: bool) -> list[str]:
        models = self._models
        pipelines = ["+"] if wildcards and models.pipelines else sorted(models.pipelines)
        trust = [self._topics.trust] if models.trust else []
        chunks = [self._topics.chunks(each) for each in sorted(models.chunks)]
        return [*map(self._topics.desired, pipelines), *trust, *(chunks if wildcards else [])]

    def qos(self, topic: str) -> int:
        """Return the QoS of a subscription. Chunks have 0: the broker keeps none for a device that is away."""
        return 0 if self.is_bulk(topic) else 1

    def is_bulk(self, topic: str) -> bool:
        """Whether a topic is one of chunks."""
        return topic.startswith(f"{self._topics.bundles}/")

    def is_left_out(self, topic: str, now: float) -> bool:
        """Whether the broker has closed too many connections over a topic for it to be tried now."""
        ends, until = self._ends.get(topic, (0, 0.0))
        return ends >= ENDS and now < until

    def was_left_out(self, topic: str) -> bool:
        """Whether a topic is left out, or may be tried again by now."""
        return self._ends.get(topic, (0, 0.0))[0] >= ENDS

    def next_due(self, topics: Sequence[str]) -> float:
        """Return when one of these topics that is left out may be tried again, infinity if there is none."""
        ends = [self._ends[topic] for topic in topics if topic in self._ends]
        return min((until for count, until in ends if count >= ENDS), default=math.inf)

    def ended(self, topic: str, now: float) -> None:
        """Take in that the connection ended over a subscription."""
        ends, _ = self._ends.get(topic, (0, 0.0))
        self._ends[topic] = ends + 1, now + REST * min(_MOST_RESTS, 1 << max(0, ends - 1))

    def leave_out(self, topic: str, until: float) -> None:
        """Leave a topic out for a while."""
        self._ends[topic] = max(ENDS, self._ends.get(topic, (0, 0.0))[0]), until

    def answered(self, topic: str) -> None:
        """Take in that the broker answered a subscription."""
        self._ends.pop(topic, None)
        self._again.discard(topic)

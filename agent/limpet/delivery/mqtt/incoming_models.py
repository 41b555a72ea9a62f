"""What comes over MQTT about models: checked by topic, size and rate, and delivered as it came. No I/O.

Each client that may write to these topics decides how much comes. Of requests and roots the newest is delivered,
at most one a second for each topic. Chunks have a separate rate. Chunks beyond it are dropped and counted, and the
deployer asks for them again. If far too many come, their subscription rests for a while: a flood costs the
download, and nothing else.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from limpet.bucket import Bucket
from limpet.contracts.chunks import LARGEST_CHUNK, LARGEST_LIST, MOST_CHUNKS, MissingChunks
from limpet.contracts.deliveries import Delivery
from limpet.contracts.dialect import Publish
from limpet.contracts.updates import LARGEST_DESIRED
from limpet.delivery.mqtt.subscriptions import model_topics

if TYPE_CHECKING:
    from collections.abc import Callable

    from limpet.contracts.deliveries import Deliveries
    from limpet.delivery.mqtt.connection import Incoming

INTERVAL = 1.0
"""Seconds between two requests that are delivered from one topic, and between two questions for chunks."""

BYTES_PER_SECOND, BYTES_AT_ONCE = 8 << 20, 16 << 20
"""Bytes of chunks that are delivered per second on average, and in a burst."""
CHUNKS_PER_SECOND, CHUNKS_AT_ONCE = 500.0, 1000.0
"""Chunks that are delivered per second on average, and in a burst."""

FLOOD = 2000
"""Their subscription rests once so many more chunks came too fast than were taken."""
REST = 30.0
"""Seconds for which it rests."""

_INDEX = re.compile(r"0|[1-9][0-9]{0,4}", re.ASCII)


class IncomingModels:
    """Takes messages on the topics of models. ``ignore`` counts what is not delivered, by cause and text.

    ``root`` is ``limpet/<device>``. ``strays`` has subscriptions to files that the device does not want. A session
    that the broker kept may have them. ``floods`` has subscriptions that are to rest. The owner empties both.
    """

    def __init__(
        self, root: str, reporter: str, deliveries: Deliveries, ignore: Callable[[str, str], None]
    ) -> None:
        self.strays: set[str] = set()
        self.floods: set[str] = set()
        self._device = root.rpartition("/")[2]
        self.topics = model_topics(root)
        self._reporter = reporter
        self.deliveries = deliveries
        self._ignore = ignore
        self._waiting: dict[str, Delivery] = {}
        self._delivered_at: dict[str, float] = {}
        self._bytes = Bucket(BYTES_PER_SECOND, BYTES_AT_ONCE)
        self._chunks = Bucket(CHUNKS_PER_SECOND, CHUNKS_AT_ONCE)
        self._too_fast = 0
        self._asked: dict[str, tuple[int, float]] = {}

    def take(self, incoming: Incoming, now: float) -> bool:
        """Take a message. Return ``False`` if its topic is not one of models."""
        topic, topics = incoming.topic, self.topics
        if topic.startswith(f"{topics.bundles}/"):
            self._take_chunk(incoming, now)
        elif topic == topics.trust:
            self._take_state(incoming, Delivery("root", "", incoming.payload, incoming.retained, self._reporter))
        elif topic.startswith(f"{topics.root}/model/") and topic.endswith("/desired"):
            name = topic.removeprefix(f"{topics.root}/model/").removesuffix("/desired")
            state = Delivery("desired", name, incoming.payload, incoming.retained, self._reporter)
            self._take_state(incoming, state)
        else:
            return False
        return True

    def deliver_due(self, now: float) -> None:
        """Deliver the requests and roots whose time has come."""
        for topic in [each for each in self._waiting if now - self._delivered_at.get(each, -INTERVAL) >= INTERVAL]:
            self._delivered_at[topic] = now
            self.deliveries.deliver(self._waiting.pop(topic))

    def begin(self) -> None:
        """Begin on a new connection, on which all questions are due again."""
        self._asked.clear()

    def questions(self, stands: Callable[[str], bool], now: float) -> list[Publish]:
        """Return which chunks to ask for now. ``stands`` says whether a subscription is active."""
        wanted = self.deliveries.wanted.chunks
        self._asked = {sha256: asked for sha256, asked in self._asked.items() if sha256 in wanted}
        publishes = []
        for sha256, missing in wanted.items():
            number, at = self._asked.get(sha256, (0, now - INTERVAL))
            if (
                missing
                and missing.number != number
                and now - at >= INTERVAL
                and stands(self.topics.chunks(sha256))
            ):
                self._asked[sha256] = missing.number, now
                question = MissingChunks(
                    device=self._device,
                    sha256=sha256,
                    ranges=list(missing.ranges),
                    needs_list=missing.needs_list,
                )
                payload = msgspec.json.encode(question)
                publishes.append(Publish(self.topics.missing(sha256), payload, 1, content_type="application/json"))
        return publishes

    def _take_state(self, incoming: Incoming, state: Delivery) -> None:
        wanted = self.deliveries.wanted
        size = len(incoming.payload)
        if not (wanted.trust if state.kind == "root" else state.name in wanted.pipelines):
            self._ignore("unknown pipeline", f"a message on {incoming.topic[:100]!r} is ignored: no such pipeline")
        elif size > LARGEST_DESIRED:
            text = f"a message of {size} bytes on {incoming.topic!r} is ignored; {LARGEST_DESIRED} is the limit"
            self._ignore("too large", text)
        else:
            before = self._waiting.pop(incoming.topic, None)
            if before and before.payload == state.payload:  # a retained copy after the request itself
                state = msgspec.structs.replace(state, retained=before.retained and state.retained)
            self._waiting[incoming.topic] = state

    def _take_chunk(self, incoming: Incoming, now: float) -> None:
        sha256, _, place = incoming.topic.removeprefix(f"{self.topics.bundles}/").partition("/")
        size = len(incoming.payload)
        index = -1 if place == "list" else int(place) if _INDEX.fullmatch(place) else MOST_CHUNKS
        if sha256 not in self.deliveries.wanted.chunks:
            self.strays.add(self.topics.chunks(sha256))
        elif index >= MOST_CHUNKS or size > (LARGEST_LIST if index < 0 else LARGEST_CHUNK):
            self._ignore("chunk", f"a message of {size} bytes on {incoming.topic[:100]!r} is no chunk")
        elif self._is_too_fast(size, now):
            self._ignore(
                "chunks too fast", "chunks come faster than the device takes them; it requests the others again"
            )
            if self._too_fast >= FLOOD:
                self._too_fast = 0
                self.floods.add(self.topics.chunks(sha256))
        else:
            chunk = Delivery("chunk", sha256, incoming.payload, incoming.retained, self._reporter, index)
            if not self.deliveries.deliver(chunk):
                self._ignore(
                    "chunks waiting", "too many chunks wait for the deployer, which requests the others again"
                )

    def _is_too_fast(self, size: int, now: float) -> bool:
        if self._bytes.level(now) < size or self._chunks.level(now) < 1:
            self._too_fast += 1
            return True
        self._bytes.spend(size)
        self._chunks.spend(1)
        self._too_fast = max(0, self._too_fast - 1)
        return False

"""Messages in the languages that are configured: each message becomes what every dialect makes of it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from limpet import plugins
from limpet.config import fill
from limpet.contracts.dialect import Exclusive, Publish
from limpet.contracts.messages import EventMessage, Message, ResultMessage
from limpet.errors import UnreadableError
from limpet.untrusted import reading

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import Literal

    from limpet.contracts.dialect import Dialect
    from limpet.contracts.messages import Origin
    from limpet.delivery.mqtt.outgoing import Outgoing

NATIVE = "json"
"""The dialect that the outbox keeps messages in, so that nothing is to be done for it."""

_RESULTS = msgspec.json.Decoder(ResultMessage | list[ResultMessage])
_EVENT = msgspec.json.Decoder(EventMessage)


def configs(tables: Mapping[str, Mapping[str, Any]], base: Path) -> dict[str, tuple[Any, Any]]:
    """Return module and filled ``Config`` of each dialect by its kind. ``ValueError`` has all that is wrong."""
    problems: list[str] = []
    found = {}
    for kind, table in tables.items():
        module = plugins.load("dialects", kind)
        found[kind] = module, fill(module.Config, table, f"dialects.{kind}", base, problems)
    alone = [kind for kind, (_, config) in found.items() if isinstance(config, Exclusive)]
    if alone and len(found) > 1:
        problems.append(f"dialects.{alone[0]}: its broker takes no other topics; remove the other dialects")
    if problems:
        raise ValueError("; ".join(problems))
    return found


class Dialects:
    """The dialects of one reporter. Belongs to the network thread.

    ``will`` is kept by the broker while connected. A dialect may have one of its own, such as Sparkplug; a
    connection has one, so then the topic ``status`` is left to what is said on a clean end.
    ``exclusive``: the broker takes the topics of the only dialect and no others.
    ``faults`` says what a dialect could not express; the owner empties it.
    """

    def __init__(self, dialects: Mapping[str, tuple[Any, Any]], origin: Origin, root: str, qos: int) -> None:
        self.faults: list[str] = []
        self.native = NATIVE in dialects
        self.exclusive = any(isinstance(config, Exclusive) for _, config in dialects.values())
        self._root = root
        self._qos = qos
        self._others: list[Dialect] = [
            module.open(config, origin, root) for kind, (module, config) in dialects.items() if kind != NATIVE
        ]

    @property
    def reserved(self) -> list[str]:
        """Roots of the topics on which other systems act."""
        return [root for dialect in self._others for root in dialect.reserved]

    @property
    def subscriptions(self) -> list[str]:
        """Topics that dialects want to hear."""
        return [topic for dialect in self._others for topic in dialect.subscriptions]

    def will(self, protocol: Literal["5", "3.1.1"], otherwise: Publish) -> Publish:
        """Return the last will for the connection now tried."""
        wills: list[Publish] = []
        for dialect in self._others:
            with self._trying("its last will"):
                wills += [will] if (will := dialect.connecting(protocol)) else []
        return next(iter(wills), otherwise)

    def connected(self) -> list[Publish]:
        """Return what to say first."""
        return self._each(lambda dialect: dialect.connected())

    def leaving(self) -> list[Publish]:
        """Return what to say last."""
        return self._each(lambda dialect: dialect.leaving())

    def received(self, topic: str, payload: bytes) -> list[Publish]:
        """Answer what came on a subscription."""
        return self._each(
            lambda dialect: dialect.received(topic, payload) if topic in dialect.subscriptions else []
        )

    def outgoing(self, message: Outgoing) -> list[Publish]:
        """Tell results or an event as they come out of the outbox."""
        told = [Publish(message.topic, message.payload, self._qos, content_type="application/json")]
        if not self._others:
            return told
        about, _, pipeline = message.topic.removeprefix(f"{self._root}/").partition("/")
        tell = self._event if about == "event" else self._results
        others: list[Publish] = []
        with self._trying(message.topic):
            others = tell(message.payload, pipeline)
        return (told if self.native else []) + others

    def state(self, message: Message, native: Publish) -> list[Publish]:
        """Tell a state."""
        others = self._each(lambda dialect: dialect.state(message))  # type: ignore[arg-type]
        return ([native] if self.native else []) + others

    def _results(self, payload: bytes, pipeline: str) -> list[Publish]:
        decoded = _RESULTS.decode(payload)
        results: Sequence[ResultMessage] = decoded if isinstance(decoded, list) else [decoded]
        # The payload may come from a damaged disk, and dialects keep something for each pipeline.
        if any(result.pipeline != pipeline for result in results):
            raise UnreadableError("results of another pipeline than the topic says")
        return self._each(lambda dialect: dialect.results(results))

    def _event(self, payload: bytes, pipeline: str) -> list[Publish]:
        event = _EVENT.decode(payload)
        if event.pipeline != pipeline:
            raise UnreadableError("an event of another pipeline than the topic says")
        return self._each(lambda dialect: dialect.event(event))

    def _each(self, tell: Callable[[Dialect], list[Publish]]) -> list[Publish]:
        said: list[Publish] = []
        for dialect in self._others:
            with self._trying(type(dialect).__name__):
                said += tell(dialect)
        return said

    @contextmanager
    def _trying(self, what: str) -> Iterator[None]:
        """Note a fault in place of raising it: results hold what models and plugins give."""
        try:
            with reading(what):
                yield
        except UnreadableError as error:
            self.faults.append(str(error))

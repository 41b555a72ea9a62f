"""The configured message formats of one reporter: what each makes of a message."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from limpet import plugins
from limpet.contracts.dialect import Exclusive, Publish, clear
from limpet.contracts.messages import EventMessage, Message, PipelineRemoved, ResultMessage, SnapshotMessage
from limpet.delivery.mqtt.outgoing import json_array
from limpet.delivery.mqtt.topics import retained
from limpet.errors import ConfigError, UnreadableError
from limpet.filling import fill
from limpet.untrusted import reading

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import Literal

    from limpet.contracts.dialect import Dialect
    from limpet.contracts.messages import Origin
    from limpet.delivery.mqtt.outgoing import Outgoing

NATIVE = "json"
"""The dialect whose encoding the outbox keeps, so that its messages need no decoding."""

_RESULT = msgspec.json.Decoder(ResultMessage)
_EVENT = msgspec.json.Decoder(EventMessage)


def configs(tables: Mapping[str, Mapping[str, Any]], base: Path) -> dict[str, tuple[Any, Any]]:
    """Return module and filled ``Config`` of each dialect by its kind. ``ConfigError`` has all that is wrong."""
    problems: list[str] = []
    found = {}
    for kind, table in tables.items():
        try:
            module = plugins.load("dialects", kind)
        except ConfigError as error:
            problems += [f"dialects.{kind}: {problem}" for problem in error.problems]
            continue
        found[kind] = module, fill(module.Config, table, f"dialects.{kind}", base, problems)
    exclusive = [kind for kind, (_, config) in found.items() if isinstance(config, Exclusive)]
    if exclusive and len(found) > 1:
        problems.append(f"dialects.{exclusive[0]}: its broker takes no other topics; remove the other dialects")
    if problems:
        raise ConfigError(problems)
    return found


class Dialects:
    """The dialects of one reporter. Belongs to the network thread.

    A dialect may have its own last will, as Sparkplug has. A connection has only one, so the topic ``status``
    then has none.
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
        """Topics to which dialects subscribe."""
        return [topic for dialect in self._others for topic in dialect.subscriptions]

    def will(self, protocol: Literal["5", "3.1.1"], default: Publish) -> Publish:
        """Return the last will for the next connection: that of the first dialect that has one, or ``default``."""
        wills: list[Publish] = []
        for dialect in self._others:
            with self._noting_faults("its last will"):
                wills += [will] if (will := dialect.connecting(protocol)) else []
        return next(iter(wills), default)

    def connected(self) -> list[Publish]:
        """Return what to publish first on a new connection."""
        return self._from_each(lambda dialect: dialect.connected())

    def leaving(self) -> list[Publish]:
        """Return what to publish last before a clean end."""
        return self._from_each(lambda dialect: dialect.leaving())

    def received(self, topic: str, payload: bytes) -> list[Publish]:
        """Return the answers to a message on a subscription."""
        return self._from_each(
            lambda dialect: dialect.received(topic, payload) if topic in dialect.subscriptions else []
        )

    def results_or_event(self, message: Outgoing) -> list[Publish]:
        """Return what results or an event of the outbox are in each dialect."""
        native = []
        if self.native:
            payload = json_array(message.items)
            native = [Publish(message.topic, payload, self._qos, content_type="application/json")]
        if not self._others:
            return native
        kind, _, pipeline = message.topic.removeprefix(f"{self._root}/").partition("/")
        others: list[Publish] = []
        with self._noting_faults(message.topic):
            if kind == "event":
                for event in _decoded(_EVENT, message.items, pipeline):
                    others += self._from_each(lambda dialect, event=event: dialect.event(event))  # type: ignore[misc]
            else:
                results = _decoded(_RESULT, message.items, pipeline)
                others = self._from_each(lambda dialect: dialect.results(results))
        return native + others

    def state(self, message: Message, native: Publish) -> list[Publish]:
        """Return what a state is in each dialect, or what clears that of a pipeline that was removed.

        A picture is not in any dialect's format. It goes out as it is, unless the broker takes no such topic.
        """
        if isinstance(message, PipelineRemoved):
            cleared = clear(f"{self._root}/{topic}" for topic in retained(message.pipeline))
            others = self._from_each(lambda dialect: dialect.removed(message.pipeline))
            return (cleared if self.native else []) + others
        if isinstance(message, SnapshotMessage):
            others = self._from_each(lambda dialect: dialect.snapshot(message, native.topic))
            return ([] if self.exclusive else [native]) + others
        others = self._from_each(lambda dialect: dialect.state(message))  # type: ignore[arg-type]
        return ([native] if self.native else []) + others

    def _from_each(self, publishes: Callable[[Dialect], list[Publish]]) -> list[Publish]:
        found: list[Publish] = []
        for dialect in self._others:
            with self._noting_faults(type(dialect).__name__):
                found += publishes(dialect)
        return found

    @contextmanager
    def _noting_faults(self, what: str) -> Iterator[None]:
        """Note a fault and do not raise it: results hold whatever models and plugins make."""
        try:
            with reading(what):
                yield
        except UnreadableError as error:
            self.faults.append(str(error))


def _decoded(decoder: Any, items: Sequence[bytes], pipeline: str) -> list[Any]:
    """Return results or events of a pipeline. ``UnreadableError`` if they are of another one.

    They may come from a damaged disk, and dialects keep something for each pipeline.
    """
    decoded = [decoder.decode(item) for item in items]
    if any(each.pipeline != pipeline for each in decoded):
        raise UnreadableError("the messages are of another pipeline than the topic says")
    return decoded

"""A stream of messages, without I/O: server-sent events in, messages out."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Annotated, Generic, TypeVar
from urllib.parse import urlencode

import msgspec
from msgspec import Meta

from limpet.client.errors import UnavailableError
from limpet.client.http import Conversation, End, Head, Request, Response
from limpet.client.refusals import refusal
from limpet.contracts.messages import DeviceHealth, EventMessage, PipelineHealth, ResultMessage
from limpet.errors import LimpetError, UnreadableError
from limpet.untrusted import reading

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from limpet.client.http import Buffer
    from limpet.client.messages import Health

M = TypeVar("M")

LARGEST_LINE = 1 << 23
"""Bytes of one message."""
_DATA = b"data:"
OK = 200


class _Line(msgspec.Struct):
    """What one event has: a message and its topic, or how many messages this client missed."""

    topic: str = ""
    message: msgspec.Raw = msgspec.Raw(b"null")
    missed: Annotated[int, Meta(ge=0, le=1 << 53)] = 0


_line = msgspec.json.Decoder(_Line)
_result = msgspec.json.Decoder(ResultMessage)
_event = msgspec.json.Decoder(EventMessage)
_device = msgspec.json.Decoder(DeviceHealth)
_pipeline = msgspec.json.Decoder(PipelineHealth)


def _health(topic: str, message: bytes) -> Health:
    return _device.decode(message) if topic == "health" else _pipeline.decode(message)


class Subscription(Generic[M]):
    """Messages of one kind, of some pipelines or of all."""

    def __init__(self, kind: str, pipelines: Sequence[str], decode: Callable[[str, bytes], M]) -> None:
        query = urlencode([("kind", kind), *(("pipeline", name) for name in pipelines)])
        self.request = Request("GET", f"/api/stream?{query}", (("Accept", "text/event-stream"),))
        self.decode = decode


def results(pipelines: Sequence[str]) -> Subscription[ResultMessage]:
    """Return results as they come."""
    return Subscription("result", pipelines, lambda _, message: _result.decode(message))


def events(pipelines: Sequence[str]) -> Subscription[EventMessage]:
    """Return the last events, and then those that come."""
    return Subscription("event", pipelines, lambda _, message: _event.decode(message))


def health(pipelines: Sequence[str]) -> Subscription[Health]:
    """Return health of the device and of pipelines, as it is now and then each second."""
    return Subscription("health", pipelines, _health)


class Reader(Generic[M]):
    """Turns the bytes of a connection into the messages of a subscription.

    ``missed``: how many messages the daemon left out, as this program was too slow for them.
    """

    def __init__(self, subscription: Subscription[M]) -> None:
        self._subscription = subscription
        self._conversation = Conversation()
        self._status = 0
        self._buffer = bytearray()
        self._messages: deque[M] = deque()
        self._failure: LimpetError | None = None
        self.missed = 0

    def begin(self) -> Sequence[Buffer]:
        """Return what to send first."""
        return self._conversation.send(self._subscription.request)

    @property
    def begun(self) -> bool:
        """Whether the daemon has accepted the subscription. ``LimpetError`` if it refused it."""
        if self._failure is not None and self._status != OK:
            raise self._failure
        return self._status == OK

    def take(self) -> M | None:
        """Return the next message, if there is one. ``LimpetError`` after the last."""
        if self._messages:
            return self._messages.popleft()
        if self._failure is not None:
            raise self._failure
        return None

    def feed(self, data: bytes) -> None:
        """Read bytes of the connection; none mean that the daemon closed it."""
        try:
            for part in self._conversation.take(data):
                self._add(part)
        except LimpetError as error:
            self._failure = error

    def _add(self, part: Head | Buffer | End) -> None:
        if isinstance(part, Head):
            self._status = part.status
        elif not isinstance(part, End):
            self._buffer += part
            if self._status == OK:
                self._read_lines()
            if len(self._buffer) > LARGEST_LINE:
                raise UnreadableError(f"a message of the daemon has more than {LARGEST_LINE} bytes")
        elif self._status == OK:
            raise UnavailableError("the daemon ended the stream")
        else:
            raise refusal(Response(self._status, {}, self._buffer))

    def _read_lines(self) -> None:
        *lines, self._buffer = self._buffer.split(b"\n")
        for line in lines:
            if line.startswith(_DATA) and (message := bytes(line[len(_DATA) :]).strip()):
                self._read_message(message)

    def _read_message(self, data: bytes) -> None:
        with reading("a message of the daemon"):
            line = _line.decode(data)
            if line.topic:
                self._messages.append(self._subscription.decode(line.topic, bytes(line.message)))
        self.missed += line.missed

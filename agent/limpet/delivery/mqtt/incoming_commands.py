"""Commands that come over MQTT: which are carried out, and where their answers go."""

from __future__ import annotations

import logging
import re
from collections import Counter
from time import monotonic
from typing import TYPE_CHECKING

import msgspec

from limpet.contracts.commands import BUSY, PATIENCE
from limpet.contracts.dialect import Publish
from limpet.contracts.messages import Reply
from limpet.delivery.mqtt import topics
from limpet.delivery.mqtt.spoken_topics import spoken
from limpet.errors import UnreadableError
from limpet.untrusted import reading

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from limpet.delivery.mqtt.connection import Incoming

log = logging.getLogger(__name__)

MOST = 64
"""Commands that may wait for their answers."""

LARGEST_OPEN = 1 << 22
"""Bytes of commands that may wait for their answers."""

LARGEST_CORRELATION = 4096
"""Bytes of correlation data."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")


class IncomingCommand:
    """A ``limpet.contracts.reporter.Command``. The answer goes to the response topic that came with it.

    In MQTT 3.1.1, which has none, it goes to ``reply/<name>`` below the device.
    """

    def __init__(self, incoming: Incoming, root: str, send: Callable[[Publish, bytes], None]) -> None:
        self.name = incoming.topic.rpartition("/")[2]
        self.payload = incoming.payload
        self.answered = False
        self.answers = incoming.response_topic or f"{root}/reply/{self.name}"
        self._correlation = incoming.correlation
        self._send = send

    def reply(self, reply: Reply) -> None:
        """Have the network thread send the answer. From any thread."""
        self.answered = True
        try:
            with reading("the answer"):
                payload = msgspec.json.encode(reply)
        except UnreadableError as error:
            text = f"the answer cannot be written as JSON: {error}"
            payload = msgspec.json.encode(Reply(device=reply.device, command=self.name, ok=False, error=text))
        self._send(Publish(self.answers, payload, content_type="application/json"), self._correlation)


class IncomingCommands:
    """Checks what comes on ``command/+``. ``ignored`` counts by cause what is not a valid command.

    ``reserved`` are the roots of topics that dialects speak on. No reply goes there, nor where another reporter
    of this process speaks.
    """

    def __init__(
        self, device: str, root: str, reserved: Sequence[str], send: Callable[[Publish, bytes], None]
    ) -> None:
        self.ignored: Counter[str] = Counter()
        self._device = device
        self._root = root
        self._reserved = reserved
        self._send = send
        self._open: list[tuple[IncomingCommand, float]] = []

    def take(self, incoming: Incoming) -> IncomingCommand | None:
        """Return the command to carry out; ``None`` if it is ignored, or answered already."""
        cause, why = self._objection(incoming)
        if cause:
            self.ignore(cause, f"{incoming.topic[:100]!r} is ignored: {why}")
            return None
        request = IncomingCommand(incoming, self._root, self._send)
        self._open = [(one, at) for one, at in self._open if not one.answered and monotonic() < at]
        size = sum(len(one.payload) for one, _ in self._open)
        if len(self._open) >= MOST or size + len(request.payload) > LARGEST_OPEN:
            text = f"{BUSY}: {len(self._open)} commands of {size} bytes wait for their answers"
            self.ignore("too many", text)
            request.reply(Reply(device=self._device, command=request.name, ok=False, error=text))
            return None
        self._open.append((request, monotonic() + 2 * PATIENCE))
        return request

    def ignore(self, cause: str, text: str, count: int = 1) -> None:
        """Count messages that are ignored. The first of each cause has a line in the log."""
        self.ignored[cause] += count
        if self.ignored[cause] == count:
            log.warning("%s; health counts further ones as ignored: %r", text, cause)

    def _objection(self, incoming: Incoming) -> tuple[str, str]:
        """Return cause and reason why a command is ignored, empty if it is not."""
        name = incoming.topic.removeprefix(f"{self._root}/command/")
        if incoming.retained:
            return "retained", "a retained command is ignored"
        if not _NAME.fullmatch(name):
            return "name", "the name of a command has lower-case letters, digits and _"
        if len(incoming.correlation) > LARGEST_CORRELATION:
            return "correlation", f"its correlation data has more than {LARGEST_CORRELATION} bytes"
        topic = incoming.response_topic
        if topic and (why := topics.reply_problem(topic, self._root, [*self._reserved, *spoken()])):
            return "response topic", f"no reply may go to its response topic {topic[:100]!r}: {why}"
        return "", ""

"""Checks topics before each publish, as parts of them come from other processes."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from limpet.contracts.messages import (
    DeviceHealth,
    EventMessage,
    ModelReported,
    PipelineHealth,
    PipelineRemoved,
    ResultMessage,
    SnapshotMessage,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from limpet.contracts.messages import Message

LONGEST = 65_535
"""Bytes of a topic, by the MQTT specification."""

LONGEST_FOREIGN = 1024
"""Bytes of a topic that a client names, such as a response topic."""

STANDARDS = ("homeassistant", "spBv1.0", "STATE")
"""Roots of topics on which other systems act. No reply goes there, whether or not the dialect is configured."""


_FIRST_WORDS: dict[type[Message], str] = {
    ResultMessage: "result",
    EventMessage: "event",
    PipelineHealth: "health",
    PipelineRemoved: "removed",
    SnapshotMessage: "snapshot",
}
"""What a topic of a pipeline begins with, by the type of message."""


@lru_cache(maxsize=1000)
def problem(topic: str) -> str:
    """Return why a topic cannot be published to; an empty string if it can."""
    try:
        size = len(topic.encode())
    except UnicodeEncodeError:
        return "it is not valid UTF-8"
    if not topic:
        return "it is empty"
    if size > LONGEST:
        return f"it has {size} bytes; {LONGEST} is the limit"
    if "+" in topic or "#" in topic:
        return "it has a wildcard"
    if any(map(_forbidden, topic)):
        return "it has a control character or a noncharacter"
    return ""


def reply_problem(topic: str, root: str, reserved: Iterable[str] = ()) -> str:
    """Return why no reply may be sent to a topic that a client named; an empty string if it may.

    ``root`` is the device's own, ``limpet/DEVICE``. There, and below its parent, only ``reply/NAME`` is allowed: a
    reply on another topic could pass for a message of a device. ``reserved`` are the roots of configured dialects.
    """
    if why := problem(topic):
        return why
    if len(topic.encode()) > LONGEST_FOREIGN:
        return f"it is longer than {LONGEST_FOREIGN} bytes"
    if topic.startswith("$"):
        return "it begins with $"
    if topic.startswith(f"{root}/reply/") and topic.count("/") == root.count("/") + 2:
        return ""
    for taken in (root.rpartition("/")[0], *STANDARDS, *reserved):
        if topic == taken or topic.startswith(f"{taken}/"):
            return f"it is below {taken}/, whose topics have another meaning"
    return ""


def _forbidden(character: str) -> bool:
    """Whether the MQTT specification lets a broker close the connection over a character (section 1.5.4)."""
    code = ord(character)
    return code < 0x20 or 0x7F <= code < 0xA0 or 0xFDD0 <= code <= 0xFDEF or code & 0xFFFE == 0xFFFE


def subtopic(message: Message) -> str:
    """Return what follows ``limpet/DEVICE/`` in the topic of a message."""
    if isinstance(message, DeviceHealth):
        return "health"
    if isinstance(message, EventMessage) and not message.pipeline:
        return "event"
    if isinstance(message, ModelReported):
        return f"model/{message.pipeline}/reported"
    return f"{_FIRST_WORDS[type(message)]}/{message.pipeline}"


def retained(pipeline: str) -> tuple[str, str]:
    """Return what follows ``limpet/DEVICE/`` in the topics that keep the state of a pipeline."""
    return f"health/{pipeline}", f"model/{pipeline}/reported"

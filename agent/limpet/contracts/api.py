"""Answers of the local API that do not also go over MQTT."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

from limpet.contracts.messages import ModelReported, PipelineHealth

Kind: TypeAlias = Literal["status", "result", "event", "health", "model", "input", "log"]
"""Kinds of messages in a stream: how their topics begin."""


class Refused(msgspec.Struct, kw_only=True):
    """The body of each answer that is no success: what is wrong, and what to do."""

    error: str


class SessionView(msgspec.Struct, kw_only=True):
    """What a client may do. ``view``: read, and run models. ``control``: send commands, read the log.

    ``login``: a token can be exchanged for a session. ``logged_in``: that was done. ``commands``: those that this
    client can send. ``reason``: why it may not control. ``device`` and ``version`` are empty without ``view``.
    """

    device: str
    version: str
    view: bool
    control: bool
    login: bool
    logged_in: bool
    commands: list[str]
    reason: str


class PipelineView(msgspec.Struct, kw_only=True):
    """A pipeline as it is now. ``model`` is null until one is chosen."""

    health: PipelineHealth
    model: ModelReported | None


class StreamMessage(msgspec.Struct, kw_only=True):
    """A message in a stream.

    ``topic`` is what follows ``limpet/DEVICE/`` over MQTT. ``input/SOURCE`` and ``log`` are only in streams.
    """

    topic: str
    message: dict[str, Any]


class StreamMissed(msgspec.Struct, kw_only=True):
    """This client was too slow for so many messages of a stream."""

    missed: int

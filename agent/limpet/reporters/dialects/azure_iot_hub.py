"""Azure IoT Hub: every message is a device-to-cloud message, as IoT Hub takes no other topics.

See https://learn.microsoft.com/azure/iot-hub/iot-mqtt-connect-to-iot-hub for the topics. IoT Hub closes the
connection over every other topic. So this dialect has its own last will and status, and no commands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal
from urllib.parse import quote

import msgspec
from msgspec import Meta

from limpet.contracts.dialect import Exclusive, Publish, Sessionless
from limpet.contracts.messages import DeviceHealth, EventMessage, PipelineHealth, StatusMessage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.contracts.messages import ModelReported, Origin, ResultMessage

__all__ = ["AzureIotHub", "Config", "open"]


class Config(Exclusive, kw_only=True, forbid_unknown_fields=True):
    """Azure IoT Hub."""

    device: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z0-9.%_*?!(),:=@$'-]{0,128}\Z",
            extra={
                "use": "a device ID of Azure: letters, digits and .%_*?!(),:=@$'- only, at most 128 characters"
            },
        ),
    ] = ""
    """The device's id in IoT Hub. Default: the `id` in `[device]`. Example: `"press-07"`."""


def open(config: Config, origin: Origin, root: str) -> AzureIotHub:  # noqa: ARG001
    """Return a dialect that publishes under ``devices/DEVICE/messages/events/``."""
    return AzureIotHub(config.device or origin.device, origin)


class AzureIotHub(Sessionless):
    """Payloads are those of the dialect ``json``. ``kind`` and ``pipeline`` are application properties."""

    reserved = ("devices", "$iothub")

    def __init__(self, device: str, origin: Origin) -> None:
        self._events = f"devices/{device}/messages/events/"
        self._origin = origin

    def connecting(self, protocol: str) -> Publish:  # noqa: ARG002 - the same in both
        """Return the last will."""
        return self._status("offline", "connection lost")

    def connected(self) -> list[Publish]:
        """Return the status ``online``."""
        return [self._status("online", "")]

    def leaving(self) -> list[Publish]:
        """Return the status ``offline``."""
        return [self._status("offline", "stopped")]

    def results(self, results: Sequence[ResultMessage]) -> list[Publish]:
        """Return one message with all results: an array, or the result itself if it is one."""
        content = results if len(results) > 1 else results[0]
        return [self._publish("result", results[0].pipeline, content)]

    def event(self, event: EventMessage) -> list[Publish]:
        """Return the event."""
        return [self._publish("event", event.pipeline, event)]

    def state(self, message: PipelineHealth | DeviceHealth | ModelReported) -> list[Publish]:
        """Return the state."""
        if isinstance(message, DeviceHealth):
            return [self._publish("health", "", message)]
        kind = "pipeline-health" if isinstance(message, PipelineHealth) else "model-reported"
        return [self._publish(kind, message.pipeline, message)]

    def _status(self, status: Literal["online", "offline"], reason: str) -> Publish:
        origin = self._origin
        message = StatusMessage(
            device=origin.device, boot=origin.boot, version=origin.version, status=status, reason=reason
        )
        return self._publish("status", "", message)

    def _publish(self, kind: str, pipeline: str, content: object) -> Publish:
        # The two system properties let routes look into the body.
        properties = {"$.ct": "application/json", "$.ce": "utf-8", "kind": kind}
        if pipeline:
            properties["pipeline"] = pipeline
        bag = "&".join(f"{quote(name, safe='$.')}={quote(value, safe='')}" for name, value in properties.items())
        return Publish(self._events + bag, msgspec.json.encode(content), content_type="application/json")

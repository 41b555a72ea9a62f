"""Hears every topic of the broker, as nobody would who trusts the device, and judges what it hears."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from support.broker import Listener

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.broker import Received

DEVICE = "target"
ROOT = f"limpet/{DEVICE}"
BYSTANDER = "bystander"
FORGED = b"forged by an intruder"
ANSWERS = "operators/anna"
"""Where the client that attacks has its answers sent to."""
_OWN = re.compile(
    rf"{ROOT}/(status|health|event|command/[a-z_]+|reply/[a-z_]+"
    r"|((health|result|event)/PIPELINE|model/PIPELINE/(reported|desired)))".replace(
        "PIPELINE", r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
    )
)


class Spy(Listener):
    """``pipelines`` are those that a configuration has named so far."""

    def __init__(self, port: int) -> None:
        self.pipelines = {BYSTANDER}
        self._judged = self._read = 0
        self._contents: dict[str, list[Any]] = defaultdict(list)
        super().__init__(port, "#")

    def foreign(self) -> list[str]:
        """Return what is wrong with the messages that came since the last call."""
        new = list(self.messages)[self._judged :]
        self._judged += len(new)
        return [f"{message.topic[:60]}: {reason}" for message in new if (reason := self._wrong(message))]

    def _wrong(self, message: Received) -> str:
        topic = message.topic
        if topic == ANSWERS or topic.startswith(f"{ROOT}/command/"):
            return ""  # what the client that attacks may hear, and what it said itself
        match = _OWN.fullmatch(topic)
        if not match:
            return "a topic that is none of the device's"
        pipeline = next((text for text in topic.split("/")[3:4] if topic.split("/")[2] != "reply"), "")
        if pipeline and pipeline not in self.pipelines:
            return "a pipeline that nobody configured"
        if FORGED in message.payload and pipeline in (BYSTANDER, ""):
            return "said in the name of another"
        if topic == f"{ROOT}/status" and not _is_status(message.payload):
            return "no status"
        return ""

    def said(self, topic: str) -> Iterator[Any]:
        """Yield what was said on a topic below the device. Each message is decoded once."""
        new = list(self.messages)[self._read :]
        self._read += len(new)
        for message in new:
            if message.topic.startswith(f"{ROOT}/") and message.payload and "/command/" not in message.topic:
                self._contents[message.topic.removeprefix(f"{ROOT}/")].append(json.loads(message.payload))
        yield from self._contents[topic]

    def results(self, pipeline: str = BYSTANDER) -> list[dict[str, Any]]:
        """Return the results of a pipeline, batches taken apart."""
        found: list[dict[str, Any]] = []
        for content in self.said(f"result/{pipeline}"):
            found += content if isinstance(content, list) else [content]
        return found

    def lost(self, pipeline: str = BYSTANDER) -> int:
        """Return how many results are missing by their numbers, over all runs of the daemon."""
        boots: dict[str, set[int]] = defaultdict(set)
        for result in self.results(pipeline):
            if isinstance(result, dict) and isinstance(result.get("sequence"), int):
                boots[result["boot"]].add(result["sequence"])
        return sum(max(numbers) - len(numbers) for numbers in boots.values())

    def counted(self) -> int:
        """Return how many messages the daemon says that it shed, or that the broker refused, over all its runs."""
        by_boot: dict[str, int] = {}
        for health in self.said("health"):
            mqtt = health.get("reporters", {}).get("mqtt", {})
            by_boot[health["boot"]] = sum({**mqtt.get("shed", {}), **mqtt.get("refused", {})}.values())
        return sum(by_boot.values())


def _is_status(payload: bytes) -> bool:
    try:
        content = json.loads(payload)
    except ValueError:
        return False
    return isinstance(content, dict) and content.get("device") == DEVICE and {"status", "boot"} <= content.keys()

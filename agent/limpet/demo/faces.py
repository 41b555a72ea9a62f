"""Compares the faces that are found in frames with those that are there. No I/O."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import msgspec

from limpet.contracts.outputs import Detections
from limpet.demo.arrivals import Arrivals
from limpet.demo.score import GOOD, share

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.demo.client import Received
    from limpet.demo.truth import Box

OVERLAP = 0.4
"""Common part of two boxes, as a share of what both cover, from which they are the same face."""


class Scoreboard(msgspec.Struct, kw_only=True):
    """The figures of a run. ``faces``: frames that show one. Latencies in µs, as of the other demo."""

    frames: int
    received: int
    lost: int
    duplicates: int
    faces: int
    found: int
    missed: int
    false_alarms: int
    precision: float
    recall: float
    latency_us: dict[str, dict[str, float]]
    dropped: dict[str, int]
    restarts: int
    output: str = ""
    passed: bool


class FaceWatch:
    """Takes the results of the first ``count`` frames of a video that is played in a loop.

    ``boxes``: where the face is in each frame. ``seen``: the last result of each frame of the video.
    """

    def __init__(self, boxes: Sequence[Box | None], pipeline: str, count: int) -> None:
        self.arrivals = Arrivals(pipeline)
        self.count = count
        self.seen: dict[int, Detections] = {}
        self.fresh: deque[int] = deque(maxlen=100)
        """Samples whose results have come since the last look."""
        self.sample = -1
        self.faces = self.found = self.false_alarms = 0
        self.boxes = boxes

    @property
    def missed(self) -> int:
        """Faces that were not found."""
        return self.faces - self.found

    def take(self, message: Received) -> None:
        """Take a message of the device."""
        for result in self.arrivals.take(message):
            self.sample = max(self.sample, result.sample)
            if result.sample < self.count:
                output = msgspec.convert(result.output, Detections)
                frame = result.sample % len(self.boxes)
                self.seen[frame] = output
                self.fresh.append(result.sample)
                self._compare(output, self.boxes[frame])

    def _compare(self, output: Detections, face: Box | None) -> None:
        right = [one for one in output.detections if face is not None and overlap(one.box, face) >= OVERLAP]
        self.faces += face is not None
        self.found += bool(right)
        self.false_alarms += len(output.detections) - len(right[:1])

    def scoreboard(self, output: str = "") -> Scoreboard:
        """Return the figures. ``output``: the file that was written."""
        came = self.arrivals
        lost = came.published - came.received
        precision = share(self.found, self.found + self.false_alarms)
        recall = share(self.found, self.faces)
        return Scoreboard(
            frames=self.count,
            received=came.received,
            lost=lost,
            duplicates=came.duplicates,
            faces=self.faces,
            found=self.found,
            missed=self.missed,
            false_alarms=self.false_alarms,
            precision=precision,
            recall=recall,
            latency_us=came.latencies(),
            dropped=came.dropped,
            restarts=came.restarts,
            output=output,
            passed=lost == 0 and min(precision, recall) > GOOD,
        )


def overlap(one: Box, other: Box) -> float:
    """Return the area of what two boxes have in common, as a share of what they cover together."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    common = max(0.0, width) * max(0.0, height)
    together = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)) - common
    return common / together if together > 0 else 0.0

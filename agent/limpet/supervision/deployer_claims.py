"""What the supervisor believes of what one deployer sends. Decides, without I/O. Times are on any steady clock.

Whatever is wrong raises ``UnreadableError``, and ends that deployer alone.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from limpet.bucket import Bucket
from limpet.contracts.chunks import LARGEST_LIST, MOST_CHUNKS
from limpet.errors import UnreadableError
from limpet.wire.deploy_records import Lacking, Progress

if TYPE_CHECKING:
    from limpet.contracts.updates import DesiredModel
    from limpet.wire.deploy_records import Deploy, FromDeployer

RECORDS_PER_SECOND, RECORDS_AT_ONCE = 4.0, 40
"""Records of one deployer. It sends its progress twice a second."""
QUESTIONS_PER_SECOND, QUESTIONS_AT_ONCE = 0.5, 10
"""Questions for chunks: each becomes a message to the broker."""
SLACK = 2 * LARGEST_LIST
"""Bytes that a deployer may receive beyond its budget: what was on its way."""


class Claims:
    """What one deployer process has said so far. ``asked``: the files, by SHA-256, of which it wants chunks."""

    def __init__(self, deploy: Deploy) -> None:
        self.asked: frozenset[str] = frozenset()
        self._topics = topics_of(deploy.request)
        self._length = max([deploy.request.length, *(source.length for source in deploy.request.sources)])
        self._most_received = deploy.most_bytes + SLACK
        self._received = 0
        self._records = Bucket(RECORDS_PER_SECOND, RECORDS_AT_ONCE)
        self._questions = Bucket(QUESTIONS_PER_SECOND, QUESTIONS_AT_ONCE)

    def check(self, record: FromDeployer, now: float) -> None:
        """Check that the deployer may send this. ``UnreadableError`` says why not."""
        _spend(self._records, RECORDS_PER_SECOND, now)
        if isinstance(record, Lacking):
            _spend(self._questions, QUESTIONS_PER_SECOND, now)
            self._check_lacking(record)
            return
        if isinstance(record, Progress) and record.present > self._length:
            raise UnreadableError(f"it claims to have {record.present} of {self._length} bytes")
        if not self._received <= record.received <= self._most_received:
            raise UnreadableError(f"it claims to have received {record.received} bytes")
        self._received = record.received

    def _check_lacking(self, record: Lacking) -> None:
        if record.sha256 not in self._topics:
            raise UnreadableError("it asks for chunks of a file that the request does not name")
        bounds = [bound for pair in record.ranges for bound in pair]
        rising = all(first <= last for first, last in record.ranges) and all(
            before[1] < after[0] for before, after in pairwise(record.ranges)
        )
        if not rising or (bounds and not 0 <= bounds[0] <= bounds[-1] < MOST_CHUNKS):
            raise UnreadableError("it asks for chunks that cannot be")
        wants = {record.sha256} if record.ranges or record.needs_list else set()
        self.asked = (self.asked - {record.sha256}) | wants


def _spend(bucket: Bucket, rate: float, now: float) -> None:
    if bucket.level(now) < 1:
        raise UnreadableError(f"it sends more than {rate:g} records a second")
    bucket.spend(1)


def topics_of(request: DesiredModel) -> frozenset[str]:
    """Return the SHA-256 of the files that a request says come in chunks."""
    return frozenset(
        source.sha256 if source.patch_of else request.sha256 for source in request.sources if source.chunks
    )

"""What a slot decides and ``limpet.supervision.worker_process`` does."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from limpet.contracts.assignment import ModelFile
    from limpet.wire.fork_records import Open, OpenShadow
    from limpet.wire.records import Need, NeedShadow, ToSupervisor, ToWorker


class Start(NamedTuple):
    """Fork a process for this slot, and send it its assignment."""


class Send(NamedTuple):
    """Send a record to the process."""

    record: ToWorker


class Kill(NamedTuple):
    """Kill a process: the worker, or one of its executors."""

    pid: int


class StartExecutor(NamedTuple):
    """Fork an executor or a shadow, and give the worker the other end of its socket.

    ``shadow``: the model of a shadow.
    """

    task: Open | OpenShadow
    need: Need | NeedShadow
    shadow: ModelFile | None = None


class Report(NamedTuple):
    """Pass a record on to the supervisor."""

    record: ToSupervisor


Instruction: TypeAlias = Start | Send | Kill | StartExecutor | Report

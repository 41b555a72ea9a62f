"""What the supervisor, the fork server and what it forks say to each other, but for a worker's own records.

``limpet.wire.records`` has those. Checkers, examiners and candidate
checks answer one question, so their answers are bounded here.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from limpet.contracts.assignment import Assignment, PipelineOptions
from limpet.contracts.trust import KeyId, TrustReport
from limpet.contracts.updates import DesiredModel, RequestId
from limpet.trust.settings import Trust
from limpet.wire.deploy_records import Deploy
from limpet.wire.records import DelegateName, ModelVersion, NonNegative, Text, Times

MOST_PROBLEMS = 1024
"""Faults of a configuration that a checker reports."""


CandidateStep: TypeAlias = Literal["plan", "load", "golden", "window", "latency", "delegate"]
MOST_NOTES = 16
"""Notes of a candidate check."""
Figure = Annotated[float, Meta(ge=0, le=1e300)]
RUNTIME = r"^[A-Za-z0-9._-]{0,64}\Z"
"""Names that a runtime may have."""


class Preload(msgspec.Struct, tag=True):
    """To the fork server: import these modules, so that workers need not."""

    modules: list[str]


class Rest(msgspec.Struct, tag=True):
    """To the fork server: nothing is to be forked for a while, so it needs no memory."""


class Open(msgspec.Struct, tag=True):
    """To an executor: load the model of a pipeline on one of its delegates."""

    assignment: Assignment
    pipeline: str
    delegate: str


class OpenShadow(msgspec.Struct, tag=True):
    """To a shadow: open a pipeline whole, to run windows beside the pipeline of the same name.

    ``assignment`` has the model of the shadow, and its own cell: its unpacked files are its own, too.
    """

    assignment: Assignment
    pipeline: str


class OpenGuest(msgspec.Struct, tag=True):
    """To a guest: load the model of a pipeline of ``assignment``, which has no source, for clients of the gateway.

    Its cell is its own: what is unpacked for it is no other's.
    """

    assignment: Assignment
    pipeline: str


class Check(msgspec.Struct, tag=True):
    """To a checker: find what is wrong with the options that a person wrote.

    ``assignment`` has the sources of all pipelines, and no pipeline: their models are not known yet. ``pipelines``
    has the options of each.
    """

    assignment: Assignment
    pipelines: dict[str, PipelineOptions]


class Examine(msgspec.Struct, tag=True):
    """To an examiner: find out which model a file is, whether it is whole, trusted, and fit for this device.

    ``whole``: also the SHA-256 of the whole file, which takes as long again. ``trust`` is ``None`` on a device
    without a root. ``delegates``: those of the pipeline that is to run it, for what the manifest requires; without
    any, that is not checked. ``new``: the model is to be installed, so an expiry counts in any case. ``key`` is
    that of an encrypted file.
    """

    path: Path
    whole: bool = False
    trust: Trust | None = None
    delegates: tuple[str, ...] = ()
    new: bool = False
    key: bytes = b""


class Seal(msgspec.Struct, tag=True):
    """To a sealer: encrypt a bundle into a new file, which is on the disk when it answers."""

    source: Path
    target: Path
    length: int
    sha256: str
    key: bytes


class Sealed(msgspec.Struct, tag=True):
    """From a sealer: the file is encrypted; or, if ``problem`` is not empty, why not."""

    problem: Text = ""


class ReadRequest(msgspec.Struct, tag=True):
    """To a reader: read a request for a pipeline of this device, as it came.

    ``local``: it came from this device itself, so it needs no root. ``latest``: the latest time in seconds since
    1970 that this device has known.
    """

    device: str
    pipeline: str
    payload: bytes
    local: bool = False
    trust: Trust | None = None
    latest: float = 0.0


class ReadRoots(msgspec.Struct, tag=True):
    """To a reader: read new roots, as they came, and report what is trusted. Without a payload, only report."""

    trust: Trust
    payload: bytes = b""


class Admit(msgspec.Struct, tag=True):
    """To a candidate check: find out whether a model can do the work of a pipeline on this device.

    ``assignment`` has that pipeline alone, with the candidate as its model. Its state directory is ``folder``, a
    folder of this check alone. What the runtime prints goes to ``output``, a file in no folder that the check may
    change. ``seconds``: CPU time after which the kernel ends it.
    """

    assignment: Assignment
    pipeline: str
    folder: Path
    output: Path
    seconds: int


class Serve(msgspec.Struct, tag=True, frozen=True):
    """To a worker: what it runs follows on its channel."""


Question: TypeAlias = Check | Examine | ReadRequest | ReadRoots | Admit | Seal
"""What a short-lived process answers once, see ``limpet.supervision.helpers``."""
Task: TypeAlias = Serve | Open | OpenShadow | OpenGuest | Question | Deploy
"""What a process is forked for. ``limpet.fork.server`` says which module does it."""


class Fork(msgspec.Struct, tag=True):
    """To the fork server: make a process. Its end of a socket pair comes along as a descriptor.

    ``number`` is the supervisor's for it, ``name`` is for people.
    """

    number: int
    name: str
    task: Task = Serve()


class Forked(msgspec.Struct, tag=True):
    """From the fork server: the process is there."""

    number: int
    pid: int


class NotForked(msgspec.Struct, tag=True):
    """From the fork server: the kernel refused to fork, for this reason."""

    number: int
    reason: str


class Exited(msgspec.Struct, tag=True):
    """From the fork server: a process is gone. ``status`` is negative for the signal that ended it."""

    pid: int
    status: int


class Checked(msgspec.Struct, tag=True):
    """From a checker: all that is wrong with the options."""

    problems: Annotated[list[str], Meta(max_length=MOST_PROBLEMS)]


class Examined(msgspec.Struct, tag=True):
    """From an examiner: which model a file is; or, if ``problem`` is not empty, what is wrong with it.

    ``runtime`` and ``decoder``: the kinds of plugins that run it and read its outputs. ``file_sha256`` and
    ``length`` are those of the whole file, if the task wants them. ``signed_by``: ids of the keys that signed it.
    ``in_date``: neither its signature nor the root has expired. ``untrusted``: the SHA-256 of a model that the
    root of trust does not permit.
    """

    name: Annotated[str, Meta(pattern=r"^([a-z0-9][a-z0-9._-]{0,63})?\Z")] = ""
    version: ModelVersion = 0
    sha256: Annotated[str, Meta(pattern=r"^([0-9a-f]{64})?\Z")] = ""
    problem: Text = ""
    runtime: Annotated[str, Meta(pattern=RUNTIME)] = ""
    decoder: Annotated[str, Meta(pattern=RUNTIME)] = ""
    file_sha256: Annotated[str, Meta(pattern=r"^([0-9a-f]{64})?\Z")] = ""
    length: Annotated[int, Meta(ge=0, le=1 << 53)] = 0
    signed_by: Annotated[tuple[KeyId, ...], Meta(max_length=32)] = ()
    in_date: bool = False
    untrusted: Annotated[str, Meta(pattern=r"^([0-9a-f]{64})?\Z")] = ""

    def __post_init__(self) -> None:
        if not (self.problem or (self.name and self.sha256)):
            raise ValueError("neither a model nor a problem")


class RequestRead(msgspec.Struct, tag=True):
    """From a reader: a request that is right in itself; or, without ``request``, why it is refused.

    Whether it is a replay is for ``limpet.updates.machine``. ``request_id``: the operator's name for the request,
    also for one that is refused, if it could be read.
    """

    request: DesiredModel | None = None
    signed_by: Annotated[tuple[KeyId, ...], Meta(max_length=32)] = ()
    reason: Text = ""
    request_id: RequestId = ""

    def __post_init__(self) -> None:
        if (self.request is None) != bool(self.reason):
            raise ValueError("neither a request nor a reason, or both")

    @property
    def signed(self) -> bool:
        """Whether operators signed it."""
        return bool(self.signed_by)


class NewRoot(msgspec.Struct):
    """A root that follows on those that are trusted. ``document`` is what its file is to hold."""

    version: Annotated[int, Meta(ge=1, le=1 << 31)]
    document: Annotated[bytes, Meta(min_length=1, max_length=1 << 17)]


class RootsRead(msgspec.Struct, tag=True):
    """From a reader: what is trusted now, with the roots in ``new``. ``refused``: why a root was not taken."""

    report: TrustReport
    new: Annotated[list[NewRoot], Meta(max_length=16)] = []
    refused: Text = ""


class CheckStep(msgspec.Struct, tag=True):
    """From a candidate check: what it does next. If it ends there, the supervisor knows where."""

    step: CandidateStep


class Verdict(msgspec.Struct, tag=True, kw_only=True):
    """From a candidate check: the model is admitted, or ``problem`` says why not.

    ``passing``: the problem is one of the device, such as a full disk, and says nothing about the model.
    ``notes``: what was not checked, and why. ``delegate``: where the windows were run. ``load_s``: seconds from
    the file to a model that can run. Latencies, in µs, run from a window to its decoded result, of ``windows``
    windows. ``memory_bytes``: what the process allocated at most, and the model's file. ``golden_error``: largest
    absolute difference to the golden vectors, on all delegates that were tried; ``None`` if the bundle has none.
    """

    problem: Text = ""
    passing: bool = False
    notes: Annotated[list[Text], Meta(max_length=MOST_NOTES)] = []
    delegate: DelegateName = ""
    load_s: Figure = 0.0
    windows: Times = 0
    latency_p50_us: Figure = 0.0
    latency_p95_us: Figure = 0.0
    memory_bytes: NonNegative = 0
    golden_error: Figure | None = None

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (self.load_s, self.latency_p50_us, self.latency_p95_us))):
            raise ValueError("a figure is not finite")


FromCheck: TypeAlias = CheckStep | Verdict
ToForkServer: TypeAlias = Preload | Rest | Fork
FromForkServer: TypeAlias = Forked | NotForked | Exited

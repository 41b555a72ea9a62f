"""Commands from outside: checked, limited in rate, written to the log, done or refused, and answered.

A command is JSON on ``command/<name>``. ``limpet.contracts.commands`` has a struct for each. What must survive a
restart belongs in the configuration or the desired state, not into a command.
"""

from __future__ import annotations

import logging
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias

import msgspec

from limpet.audit.entry import Who
from limpet.bucket import Bucket
from limpet.contracts.commands import (
    BUSY,
    LARGEST,
    LARGEST_WINDOWS,
    MOST_VALUES,
    MOST_WINDOWS,
    PATIENCE,
    REQUESTS,
    TOO_MANY,
    Cancel,
    CaptureInputs,
    Enrol,
    Explain,
    Feedback,
    Forget,
    Health,
    Infer,
    Install,
    Keep,
    LogLevel,
    Ping,
    Promote,
    Request,
    Restart,
    Rollback,
    Snapshot,
    Threshold,
    Undo,
)
from limpet.contracts.explanation import Question
from limpet.contracts.messages import Reply
from limpet.contracts.reporter import Command
from limpet.errors import UnreadableError
from limpet.untrusted import reading
from limpet.updates import stimuli
from limpet.wire.memory_file import anonymous_file
from limpet.wire.records import (
    NIL,
    Ask,
    Capture,
    EnrolLabel,
    ExplainWindow,
    ForgetLabel,
    KeepWindows,
    RunWindows,
    SetLogLevel,
    SetThreshold,
    TakeSnapshot,
    UndoLabels,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from limpet.contracts.messages import DeviceHealth, FeedbackTaken, Origin, Undone
    from limpet.wire.records import RawAnswered

log = logging.getLogger(__name__)

PER_SECOND, AT_ONCE = 2.0, 10.0
"""Commands of one reporter, or of the local API, that are obeyed per second on average, and in a burst."""

_ORDERS: dict[type[Request], Literal["install", "promote", "rollback", "cancel"]] = {
    Install: "install",
    Promote: "promote",
    Rollback: "rollback",
    Cancel: "cancel",
}
Asked: TypeAlias = (
    SetThreshold
    | Capture
    | KeepWindows
    | TakeSnapshot
    | EnrolLabel
    | ForgetLabel
    | UndoLabels
    | RunWindows
    | ExplainWindow
)
"""What a worker is to do for a command."""
_EXPLAINED = 4096
"""Largest payload in bytes for which an error says what is wrong with it."""


class Workers(Protocol):
    """What commands need of the fleet, and of the updates."""

    def order(self, pipeline: str, ordered: stimuli.Ordered) -> str:
        """Obey an order about the model of a pipeline. Return why not, if so. ``KeyError`` if there is none."""

    def feedback(self, feedback: Feedback) -> FeedbackTaken:
        """Count whether a result was right. ``ValueError`` if the truth cannot be compared with it."""

    def undo(self, undo: Undo, who: Who) -> Undone:
        """Undo adaptations. ``ValueError`` says why not, ``KeyError`` if there is no such pipeline."""

    def taught(self, taught: EnrolLabel | ForgetLabel, who: Who) -> None:
        """Take note that a worker has enrolled or forgotten a label."""

    def restart(self, pipeline: str) -> None:
        """Restart a pipeline's worker, whether it works or not. ``KeyError`` if it is to have none."""

    def ask(self, pipeline: str, ask: Ask, fds: tuple[int, ...] = ()) -> None:
        """Have a pipeline's worker answer. ``KeyError`` if it has none."""

    def ask_all(self, ask: Ask) -> None:
        """Have every worker answer."""


class Received(msgspec.Struct):
    """A command, and the reporter that it came through. ``pipeline``: the one that it names, once it was read.

    ``user``: the person on this device who wants it. Then ``reporter`` is empty.
    """

    reporter: str
    command: Command
    pipeline: str = ""
    user: str = ""

    @property
    def local(self) -> bool:
        """Whether it came from a person on this device, and needs no permission in the configuration."""
        return not self.reporter

    @property
    def who(self) -> Who:
        """Who gave it, for the audit journal."""
        if self.local:
            return Who(user=self.user)
        return Who(reporter=self.reporter, topic=self.command.answers)

    @property
    def name(self) -> str:
        """Name of the command, which is not to be trusted."""
        return self.command.name

    @property
    def payload(self) -> bytes:
        """What came with it, which is not to be trusted."""
        return self.command.payload


class _Waiting(NamedTuple):
    """A command that a worker is to answer. ``result``: what is answered in place of the worker's result."""

    command: Received
    what: Asked
    deadline: float
    result: Undone | None


class Commands:
    """Obeys commands on the supervisor's main thread.

    ``publish_health`` publishes all health and returns the device's. ``wake`` has the main thread call ``tend``.
    ``record`` gets each command, with what is wrong with it, once it is answered.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - what commands need of the daemon
        self,
        origin: Origin,
        allowed: Sequence[str],
        workers: Workers,
        publish_health: Callable[[], DeviceHealth],
        wake: Callable[[], None],
        record: Callable[[Received, str], None],
    ) -> None:
        self._origin = origin
        self._allowed = allowed
        self._workers = workers
        self._publish_health = publish_health
        self._wake = wake
        self._record = record
        self._incoming: deque[Received] = deque()
        self._buckets: dict[str, Bucket] = {}
        """By reporter, so that none takes another's share."""
        self._waiting: dict[int, _Waiting] = {}
        self._number = 0
        self._flooded: set[str] = set()

    def take(self, reporter: str, command: Command) -> None:
        """Have the main thread obey a command. Called by the thread of that reporter."""
        self._incoming.append(Received(reporter, command))
        self._wake()

    def take_local(self, command: Command, user: str) -> None:
        """Have the main thread obey a command of a person on this device."""
        self._incoming.append(Received("", command, user=user))

    def obey(self, command: Received) -> None:
        """Do a command, and answer it now or when its worker has."""
        bucket = self._buckets.setdefault(command.reporter, Bucket(PER_SECOND, AT_ONCE))
        if bucket.level(monotonic()) < 1:
            self._turn_away(command)
            return
        bucket.spend(1)
        self._flooded.discard(command.reporter)
        try:
            request = self._read(command)
            command.pipeline = _pipeline_of(request)
            self._do(command, request)
        except PermissionError as error:
            self._answer(command, error=str(error))
        except UnreadableError as error:
            self._answer(command, error=f"the payload is not what {command.name!r} takes: {error}")
        except OSError as error:
            self._answer(command, error=f"the device could not do it: {error.strerror}")
        except KeyError as error:
            self._answer(command, error=f"no pipeline {error.args[0]!r} is running")

    def _turn_away(self, command: Received) -> None:
        """Answer that there are too many. That has one line in the log, however many they are."""
        text = f"{TOO_MANY}: {PER_SECOND:g} a second are obeyed"
        if command.reporter not in self._flooded:
            self._flooded.add(command.reporter)
            log.warning("command %r: %s", command.name, text)
        self._record(command, text)
        command.command.reply(Reply(device=self._origin.device, command=command.name, ok=False, error=text))

    def answered(self, answer: RawAnswered) -> None:
        """Pass on what a worker answered. Its result is JSON by now, see ``limpet.wire.border``."""
        waiting = self._waiting.pop(answer.number, None)
        if waiting:
            result = None if bytes(answer.result) == NIL else answer.result
            if isinstance(waiting.what, EnrolLabel | ForgetLabel) and not answer.error:
                self._workers.taught(waiting.what, waiting.command.who)
            self._answer(waiting.command, error=answer.error, result=waiting.result or result)

    def tend(self) -> None:
        """Obey what came, and answer what no worker will answer any more."""
        while self._incoming:
            self.obey(self._incoming.popleft())
        late = [number for number, waiting in self._waiting.items() if waiting.deadline < monotonic()]
        for number in late:
            self._answer(
                self._waiting.pop(number).command, error=f"its worker did not answer within {PATIENCE:.0f} s"
            )

    def _read(self, command: Received) -> Request:
        """Return the request. What it raises says why there is none."""
        if command.name not in REQUESTS:
            raise PermissionError(f"there is no command {command.name!r}; there are {', '.join(REQUESTS)}")
        if command.name not in self._allowed and not command.local:
            raise PermissionError(f"not allowed here: {command.name!r} is not among device.commands")
        if len(command.payload) > LARGEST:
            raise PermissionError(f"the payload has {len(command.payload)} bytes; {LARGEST} is the limit")
        if command.payload.count(b",") > MOST_VALUES:
            raise PermissionError(f"the payload has more than {MOST_VALUES} values; send them as `data`")
        payload, kind = command.payload or b"{}", REQUESTS[command.name]
        with reading("it"):
            try:
                return msgspec.json.decode(payload, type=kind)
            except msgspec.ValidationError:
                if len(payload) > _EXPLAINED:
                    raise
                from limpet.problems.form import of_json  # most daemons never need it in memory

                raise UnreadableError(of_json(payload, kind, command.name)) from None

    def _do(self, command: Received, request: Request) -> None:
        if isinstance(request, Ping):
            self._answer(command, result={"boot": self._origin.boot, "version": self._origin.version})
        elif isinstance(request, Health):
            self._answer(command, result=self._publish_health())
        elif isinstance(request, Restart):
            self._workers.restart(request.pipeline)
            self._answer(command)
        elif isinstance(request, LogLevel):
            logging.getLogger().setLevel(request.level)
            self._workers.ask_all(Ask(0, SetLogLevel(request.level)))
            self._answer(command)
        elif isinstance(request, Install | Promote | Rollback | Cancel):
            self._order(command, request)
        elif isinstance(request, Infer):
            self._infer(command, request)
        elif isinstance(request, Explain):
            self._explain(command, request)
        elif isinstance(request, Feedback):
            self._feedback(command, request)
        elif isinstance(request, Undo):
            self._undo(command, request)
        else:
            self._ask(command, request.pipeline, _question(request))

    def _order(self, command: Received, request: Install | Promote | Rollback | Cancel) -> None:
        ordered = stimuli.Ordered(_ORDERS[type(request)], f"The command {command.name} from {command.reporter!r}")
        self._answer(command, error=self._workers.order(request.pipeline, ordered))

    def _feedback(self, command: Received, request: Feedback) -> None:
        try:
            taken = self._workers.feedback(request)
        except ValueError as error:
            self._answer(command, error=str(error))
        else:
            self._answer(command, result=taken)

    def _undo(self, command: Received, request: Undo) -> None:
        """Undo adaptations. Labels that were enrolled are the worker's: it answers when they are as before."""
        try:
            undone = self._workers.undo(request, command.who)
        except ValueError as error:
            self._answer(command, error=str(error))
            return
        if undone.labels:
            self._ask(command, request.pipeline, UndoLabels(request.pipeline, undone.labels), result=undone)
        else:
            self._answer(command, result=undone)

    def _infer(self, command: Received, request: Infer) -> None:
        """Have windows run. One such command at a time, so that pipelines get on with their own."""
        windows = request.windows
        size = max(len(windows.data), 4 * len(windows.values))
        if self._busy_with(command):
            return
        if windows.shape[0] > MOST_WINDOWS or size > LARGEST_WINDOWS:
            sent = f"{windows.shape[0]} windows, {size} bytes"
            self._answer(command, error=f"{sent}: at most {MOST_WINDOWS} and {LARGEST_WINDOWS} at once")
        else:
            payload = msgspec.msgpack.encode(windows)
            self._ask(command, request.pipeline, RunWindows(request.pipeline), payload)

    def _explain(self, command: Received, request: Explain) -> None:
        """Have a window explained. One such command at a time, as with windows that are run."""
        if not self._busy_with(command):
            question = Question(**{name: getattr(request, name) for name in Question.__struct_fields__})
            self._ask(command, request.pipeline, ExplainWindow(request.pipeline, question))

    def _busy_with(self, command: Received) -> bool:
        """Refuse a command while another of the same name waits for its worker. Return whether that is so."""
        busy = any(waiting.command.name == command.name for waiting in self._waiting.values())
        if busy:
            self._answer(command, error=f"{BUSY} with another {command.name!r}; wait for its answer")
        return busy

    def _ask(
        self,
        command: Received,
        pipeline: str,
        what: Asked,
        payload: bytes = b"",
        result: Undone | None = None,
    ) -> None:
        self._number += 1
        ask = Ask(self._number, what)
        if payload:
            # Through the socket it could fill what the worker has not read yet, which is taken for not listening.
            with anonymous_file() as file:
                file.write(payload)
                file.flush()
                self._workers.ask(pipeline, ask, (file.fileno(),))
        else:
            self._workers.ask(pipeline, ask)
        self._waiting[self._number] = _Waiting(command, what, monotonic() + PATIENCE, result)

    def _answer(self, command: Received, *, error: str = "", result: Any = None) -> None:
        """Answer, and leave a line in the log: who reads it later wants to know what was done."""
        level = logging.WARNING if error else logging.INFO
        log.log(level, "command %r %r: %s", command.name, command.payload[:200], error or "done")
        self._record(command, error)
        command.command.reply(
            Reply(device=self._origin.device, command=command.name, ok=not error, error=error, result=result)
        )


def _pipeline_of(request: Request) -> str:
    """Return the pipeline that a request names, empty if none."""
    if isinstance(request, Feedback):
        return (*request.id.split("/"), "", "")[1]
    return "" if isinstance(request, Ping | Health | LogLevel) else request.pipeline


def _question(
    request: Threshold | Snapshot | Enrol | Forget | CaptureInputs | Keep,
) -> SetThreshold | TakeSnapshot | EnrolLabel | ForgetLabel | Capture | KeepWindows:
    """Return what a worker does for a command."""
    if isinstance(request, Threshold):
        return SetThreshold(request.pipeline, request.value)
    if isinstance(request, Keep):
        return KeepWindows(request.pipeline, request.windows)
    if isinstance(request, Snapshot):
        return TakeSnapshot(request.pipeline)
    if isinstance(request, Enrol):
        return EnrolLabel(request.pipeline, request.label, request.windows)
    if isinstance(request, Forget):
        return ForgetLabel(request.pipeline, request.label)
    return Capture(request.pipeline)

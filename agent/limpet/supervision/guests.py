"""Models for the gateway's clients: which there are, and a socket to the process that has one.

A model that a pipeline runs is served by that pipeline's worker. Another one of the store is loaded into its own
process, if the configuration names it or lets clients load models. Each file is examined before, as those of
pipelines are: with a root of trust, only signed models run.

The gateway may have been taken over. So the number of its sockets is limited. What it names is looked up, and is
never used as a path.
"""

from __future__ import annotations

import logging
import socket
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING

from limpet.bucket import Bucket
from limpet.contracts.assignment import Assignment, PipelineAssignment, PipelineOptions
from limpet.deployment.survey import Survey
from limpet.models import store
from limpet.supervision.checking import EXAMINING, found_of, remember
from limpet.supervision.restarts import Restarts
from limpet.supervision.shadows import clean_cell
from limpet.trust.settings import trust_of
from limpet.wire.border import cleaned
from limpet.wire.fork_records import Examine, Examined, OpenGuest
from limpet.wire.gateway_records import Done, Models, NotFound, Opened, ServedModel

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from limpet.config import Config
    from limpet.contracts.assignment import ModelFile
    from limpet.supervision.fleet import Fleet
    from limpet.supervision.gateway import Reply
    from limpet.supervision.guest_processes import GuestProcess
    from limpet.supervision.ledger import Account
    from limpet.wire.gateway_records import Load, OpenModel, Unload

log = logging.getLogger(__name__)

OPEN_PER_SECOND, OPEN_AT_ONCE = 4.0, 32
"""Sockets that the gateway gets: it needs one for each model, and another when a model changes."""
LOAD_PER_SECOND, LOAD_AT_ONCE = 1.0, 32
"""Models that the gateway may have loaded or unloaded."""
MOST_WAITING = 64
"""Requests that wait until a model is loaded."""
_AT_WORK = ("running", "waiting")
"""States of a pipeline in which its model is loaded."""
_BEING_LOADED = "it is being loaded"


class _Guest:
    """A model that is wanted, as the configuration or a client writes it: ``NAME`` or ``NAME@VERSION``.

    ``file`` is ``None`` until the file is examined. ``examined``: all is known of the files. ``over``: another try
    does not help, for the reason in ``problem``. ``answers`` wait until it is loaded, or cannot be.
    """

    def __init__(self, text: str, survey: Survey) -> None:
        self.text = text
        self.survey = survey
        self.file: ModelFile | None = None
        self.process: GuestProcess | None = None
        self.problem = _BEING_LOADED
        self.examined = False
        self.over = False
        self.restarts = Restarts()
        self.answers: list[Callable[[str], None]] = []

    @property
    def ready(self) -> bool:
        return self.process is not None and self.process.ready

    def is_model(self, name: str, version: int | None) -> bool:
        if self.file is None:
            return self.text in (name, f"{name}@{version}")
        return self.file.name == name and version in (None, self.file.version)

    def wait(self, answer: Callable[[str], None]) -> None:
        """Have ``answer`` called once it is loaded, or cannot be."""
        if len(self.answers) < MOST_WAITING:
            self.answers.append(answer)
        else:
            answer("too many requests wait for it")

    def finish(self, problem: str) -> None:
        """Answer all that waits."""
        self.problem = problem
        answers, self.answers = self.answers, []
        for answer in answers:
            answer(problem)


class Guests:
    """Answers what the gateway asks about models. ``accounts`` has the pipelines."""

    def __init__(self, fleet: Fleet, accounts: Callable[[], Sequence[Account]]) -> None:
        self._fleet = fleet
        self._accounts = accounts
        self._opens = Bucket(OPEN_PER_SECOND, OPEN_AT_ONCE)
        self._loads = Bucket(LOAD_PER_SECOND, LOAD_AT_ONCE)
        self._config: Config | None = None
        self._guests: dict[str, _Guest] = {}

    # --- what is to be loaded

    def use(self, config: Config) -> None:
        """Have the models loaded that a configuration names. Those that clients loaded stay if they still may.

        All files are examined again: there may be a newer version, or another root of trust.
        """
        self._config = config
        table, named = config.api, self._named_models()
        for text, guest in list(self._guests.items()):
            if table is not None and (text in named or (table.load and not guest.over)):
                guest.survey, guest.examined = self._survey(text), False
                self._examine(guest)
            else:
                self._end(text, "the configuration changed")
        for text in named:
            if text not in self._guests:
                self._begin(text)

    def tend(self, now: float) -> None:
        """Start those again that crashed."""
        for guest in list(self._guests.values()):
            if guest.file and not guest.process and not guest.over and guest.restarts.not_before <= now:
                self._start(guest, guest.file)

    def next_due(self) -> float | None:
        """Return when one is to be started, on the monotonic clock."""
        due = [
            one.restarts.not_before
            for one in self._guests.values()
            if one.file and not one.process and not one.over
        ]
        return min(due, default=None)

    # --- requests of the gateway

    def models(self, number: int) -> Models:
        """Return the models that clients can use, or could load."""
        found: dict[tuple[str, int], ServedModel] = {}
        for account in self._accounts():
            last = account.last
            if not last.model:
                continue
            model = found.setdefault(
                (last.model, last.version), ServedModel(last.model, last.version, ready=False)
            )
            model.pipelines.append(account.pipeline)
            if last.state in _AT_WORK:
                model.ready, model.reason = True, ""
            elif not model.ready:
                model.reason = f"the pipeline {account.pipeline} is {last.state}"
        for guest in self._guests.values():
            name, version = _parts(guest)
            if (name, version) not in found or not found[name, version].ready:
                found[name, version] = ServedModel(name, version, ready=guest.ready, reason=guest.problem)
        for name, version in self._loadable():
            found.setdefault((name, version), ServedModel(name, version, ready=False, reason="it is not loaded"))
        return Models(number, list(found.values()))

    def open(self, request: OpenModel, reply: Reply) -> None:
        """Answer with a socket to the process that has a model, or with the reason why there is none."""
        if self._is_too_much(self._opens):
            reply(Opened(request.number, "the gateway opened models too often; try again later"))
            return
        name, version = request.name, request.version
        pipeline = self._pipeline_with(name, version)
        guest = self._guest_with(name, version)
        if pipeline is not None:
            self._open_pipeline(pipeline, request.number, reply)
        elif guest is None:
            reply(self._absent(request))
        elif guest.problem == _BEING_LOADED:
            guest.wait(lambda problem: self._answer_open(guest, request.number, problem, reply))
        else:
            self._answer_open(guest, request.number, guest.problem, reply)

    def _absent(self, request: OpenModel) -> Opened | NotFound:
        """Answer that a model has no process. Another try helps only if a pipeline will have one."""
        name, version = request.name, request.version
        for account in self._accounts():
            if account.last.model == name and version in (None, account.last.version):
                state = f"the pipeline {account.pipeline} is {account.last.state}"
                return Opened(request.number, f"{state}; try again")
        which = _named(name, version)
        return NotFound(request.number, f"no pipeline runs {which}, and it is not loaded. Load it first")

    def load(self, request: Load, reply: Reply) -> None:
        """Load a model of the store into its own process, and answer once it is there."""
        name, version = request.name, request.version
        guest = self._guest_with(name, version)

        def answer(problem: str) -> None:
            reply(Done(request.number, problem))

        table = self._config.api if self._config else None
        if guest is not None and guest.ready:
            answer("")
        elif guest is not None and guest.problem == _BEING_LOADED:
            guest.wait(answer)
        elif self._pipeline_with(name, version) is not None:
            answer("")
        elif table is None or not table.load:
            answer("clients may not load models here: [api] has no `load = true`")
        elif self._is_too_much(self._loads):
            answer("models were loaded and unloaded too often; try again later")
        elif problem := self._missing(text := _written(name, version)):
            answer(problem)  # It is not remembered: clients may invent names.
        else:
            self._end(text, "it is loaded again")
            self._begin(text, answer)

    def unload(self, request: Unload, reply: Reply) -> None:
        """End the process of a model."""
        name, version = request.name, request.version
        guest = self._guest_with(name, version)
        table = self._config.api if self._config else None
        problem = ""
        if guest is None:
            runs = self._pipeline_with(name, version) is not None
            problem = "a pipeline runs it" if runs else f"{_named(name, version)} is not loaded"
        elif table is None or not table.load:
            problem = "clients may not unload models here: [api] has no `load = true`"
        elif self._is_too_much(self._loads):
            problem = "models were loaded and unloaded too often; try again later"
        else:
            self._end(guest.text, "it was unloaded")
        reply(Done(request.number, problem))

    # --- one model

    def _begin(self, text: str, answer: Callable[[str], None] | None = None) -> None:
        """Find the file of a model and have it examined."""
        guest = self._guests[text] = _Guest(text, self._survey(text))
        if answer is not None:
            guest.answers.append(answer)
        self._examine(guest)

    def _missing(self, text: str) -> str:
        """Return why the store has no such model, if so."""
        assert self._config is not None
        if store.is_path(text):
            return "name a model of the store, not a path"
        return cleaned(store.candidates(text, self._config.folders)[0].problem)

    def _survey(self, text: str) -> Survey:
        assert self._config is not None
        return Survey({text: [] if store.is_path(text) else store.candidates(text, self._config.folders)})

    def _examine(self, guest: _Guest) -> None:
        assert self._config is not None
        trust, survey = trust_of(self._config), guest.survey
        for path in survey.due():
            take = partial(self._take, guest, survey, path)
            self._fleet.helpers.start(path.name, Examine(path, trust=trust), Examined, EXAMINING, take, again=1)
        if survey.done and not guest.examined:
            guest.examined = True
            self._take_files(guest)

    def _take(self, guest: _Guest, survey: Survey, path: Path, examined: Examined | None, reason: str) -> None:
        if self._guests.get(guest.text) is not guest or guest.survey is not survey or self._config is None:
            return
        found = found_of(path, examined, reason)
        remember(trust_of(self._config), found)
        survey.take(found)
        self._examine(guest)

    def _take_files(self, guest: _Guest) -> None:
        """Start the process of a model whose files were examined, unless it runs already."""
        assert self._config is not None
        assert self._config.api is not None
        found = guest.survey.found[guest.text]
        file = next((one.file for one in found if not one.problem), None)
        if file and guest.process and guest.process.task == self._task(file):
            return
        self._stop(guest)
        guest.file, guest.over, guest.restarts = None, False, Restarts()
        most = self._config.api.most_models
        if file is None:
            problem = found[0].problem if found else "name a model of the store, not a path"
            self._give_up(guest, cleaned(problem))
        elif sum(one.file is not None and not one.over for one in self._guests.values()) >= most:
            self._give_up(guest, f"{most} models are loaded already, which is `most_models` of [api]; unload one")
        else:
            guest.file = file
            self._start(guest, file)

    def _task(self, file: ModelFile) -> OpenGuest:
        assert self._config is not None
        assert self._config.api is not None
        cell = _cell(file)
        options = PipelineOptions(delegates=list(self._config.api.delegates))
        assignment = Assignment(
            cell,
            self._config.folders,
            {},
            {cell: PipelineAssignment(cell, (), file, options)},
            self._config.delegates,
            {cell: (file.path,)},
        )
        return OpenGuest(assignment, cell)

    def _start(self, guest: _Guest, file: ModelFile) -> None:
        from limpet.supervision.guest_processes import Heard  # only where it is used

        guest.problem = _BEING_LOADED
        heard = Heard(lambda: guest.finish(""), partial(self._take_end, guest))
        guest.process = self._fleet.guest_processes.start(self._task(file), heard)

    def _take_end(self, guest: _Guest, reason: str, again: bool) -> None:  # noqa: FBT001 - a callback
        guest.process = None
        if not again:
            self._give_up(guest, reason)
            return
        log.warning("the model %s for clients: %s", guest.text, reason)
        guest.restarts.crashed(monotonic())
        guest.finish(f"its process ended: {reason}")

    def _give_up(self, guest: _Guest, problem: str) -> None:
        log.error("the model %s for clients is not loaded: %s", guest.text, problem)
        guest.over = True
        guest.finish(problem)
        if guest.file is None and guest.text not in self._named_models():
            # A client wanted it, and has the answer. Any names would fill the list of models otherwise.
            del self._guests[guest.text]

    def _end(self, text: str, reason: str) -> None:
        guest = self._guests.pop(text, None)
        if guest is not None:
            self._stop(guest)
            guest.finish(reason)

    def _stop(self, guest: _Guest) -> None:
        """End the process of a model, and delete what was unpacked for it."""
        if guest.process is not None:
            self._fleet.guest_processes.stop(guest.process)
            guest.process = None
        if guest.file is not None and self._config is not None:
            clean_cell(self._config.folders, _cell(guest.file))

    # --- sockets

    def _open_pipeline(self, pipeline: str, number: int, reply: Reply) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            try:
                self._fleet.connect_guest(pipeline, theirs)
            except KeyError:
                reply(Opened(number, f"the pipeline {pipeline} is being started; try again"))
            else:
                reply(Opened(number), (ours.fileno(),))

    def _answer_open(self, guest: _Guest, number: int, problem: str, reply: Reply) -> None:
        if problem or guest.process is None:
            reply(Opened(number, problem or "its process ended; try again"))
            return
        ours, theirs = socket.socketpair()
        with ours, theirs:
            self._fleet.guest_processes.connect(guest.process, theirs)
            reply(Opened(number), (ours.fileno(),))

    def _pipeline_with(self, name: str, version: int | None) -> str | None:
        """Return a pipeline that runs a model: of several versions, the highest."""
        found = [
            (account.last.version, account.pipeline)
            for account in self._accounts()
            if account.last.state in _AT_WORK
            and account.last.model == name
            and version in (None, account.last.version)
        ]
        return max(found)[1] if found else None

    def _guest_with(self, name: str, version: int | None) -> _Guest | None:
        """Return the guest with a model: of several, one that is ready, then the highest version."""
        found = [one for one in self._guests.values() if one.is_model(name, version)]
        return max(found, key=lambda one: (one.ready, not one.over, _parts(one)[1]), default=None)

    def _named_models(self) -> list[str]:
        """Return the models that the configuration names."""
        table = self._config.api if self._config else None
        return list(dict.fromkeys(table.models)) if table is not None else []

    def _loadable(self) -> list[tuple[str, int]]:
        """Return the models of the store that clients may load."""
        if self._config is None or self._config.api is None or not self._config.api.load:
            return []
        stored = store.stored(self._config.folders.store)
        return [(name, version) for name, versions in stored.items() for version in versions]

    def _is_too_much(self, bucket: Bucket) -> bool:
        if bucket.level(monotonic()) < 1:
            return True
        bucket.spend(1)
        return False


def _parts(guest: _Guest) -> tuple[str, int]:
    """Return name and version of a guest's model, as far as they are known."""
    if guest.file is not None:
        return guest.file.name, guest.file.version
    name, _, version = guest.text.partition("@")
    return name, int(version) if version.isdecimal() else 0


def _cell(file: ModelFile) -> str:
    """Return a name of a cell that no source can have."""
    return f"{file.name}-{file.version}~guest"


def _written(name: str, version: int | None) -> str:
    return name if version is None else f"{name}@{version}"


def _named(name: str, version: int | None) -> str:
    return name if version is None else f"{name} version {version}"

"""Models of the store that are loaded for clients, each in its own process, and what is to be loaded.

The configuration names models, or lets clients load them. Each file is examined before, as those of pipelines
are: with a root of trust, only signed models run.
"""

from __future__ import annotations

import logging
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING

from limpet.contracts.assignment import Assignment, PipelineAssignment, PipelineOptions
from limpet.deployment.survey import Survey
from limpet.models import store
from limpet.supervision.checking import EXAMINING, found_of, remember
from limpet.supervision.restarts import Restarts
from limpet.supervision.shadows import clean_cell
from limpet.trust.settings import trust_of
from limpet.wire.border import cleaned
from limpet.wire.fork_records import Examine, Examined, OpenGuest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from limpet.config import Config
    from limpet.contracts.assignment import ModelFile
    from limpet.supervision.fleet import Fleet
    from limpet.supervision.guest_processes import GuestProcess

log = logging.getLogger(__name__)

MOST_WAITING = 64
"""Requests that wait until a model is loaded."""
BEING_LOADED = "it is being loaded"


class Guest:
    """A model that is wanted, as the configuration or a client writes it: ``NAME`` or ``NAME@VERSION``.

    ``file`` is ``None`` until the file is examined. ``examined``: all is known of the files. ``over``: another try
    does not help, for the reason in ``problem``. ``answers`` wait until it is loaded, or cannot be.
    """

    def __init__(self, text: str, survey: Survey) -> None:
        self.text = text
        self.survey = survey
        self.file: ModelFile | None = None
        self.process: GuestProcess | None = None
        self.problem = BEING_LOADED
        self.examined = False
        self.over = False
        self.restarts = Restarts()
        self.answers: list[Callable[[str], None]] = []

    @property
    def ready(self) -> bool:
        """Whether clients can use it now."""
        return self.process is not None and self.process.ready

    @property
    def due(self) -> float | None:
        """When its process is to be started again, on the monotonic clock."""
        waits = self.file is not None and self.process is None and not self.over
        return self.restarts.not_before if waits else None

    @property
    def which(self) -> tuple[str, int]:
        """Name and version of its model, as far as they are known."""
        if self.file is not None:
            return self.file.name, self.file.version
        name, _, version = self.text.partition("@")
        return name, int(version) if version.isdecimal() else 0

    def is_model(self, name: str, version: int | None) -> bool:
        """Whether a client means this model."""
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


class StoredGuests:
    """Loads models. What the configuration or a client wants is looked up in the store, and is never a path."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._config: Config | None = None
        self._guests: dict[str, Guest] = {}

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
                self.end(text, "the configuration changed")
        for text in named:
            if text not in self._guests:
                self.begin(text)

    def tend(self, now: float) -> None:
        """Start those again that crashed."""
        for guest in list(self._guests.values()):
            if guest.file is not None and guest.due is not None and guest.due <= now:
                self._start(guest, guest.file)

    def next_due(self) -> float | None:
        """Return when one is to be started, on the monotonic clock."""
        return min((due for one in self._guests.values() if (due := one.due) is not None), default=None)

    # --- which there are

    @property
    def clients_may_load(self) -> bool:
        """Whether clients may load and unload models."""
        return self._config is not None and self._config.api is not None and self._config.api.load

    def __iter__(self) -> Iterator[Guest]:
        """Return all that are loaded, or are to be."""
        return iter(list(self._guests.values()))

    def find(self, name: str, version: int | None) -> Guest | None:
        """Return the guest with a model: of several, one that is ready, then the highest version."""
        found = [one for one in self._guests.values() if one.is_model(name, version)]
        return max(found, key=lambda one: (one.ready, not one.over, one.which[1]), default=None)

    def _named_models(self) -> list[str]:
        """Return the models that the configuration names."""
        table = self._config.api if self._config else None
        return list(dict.fromkeys(table.models)) if table is not None else []

    def loadable(self) -> list[tuple[str, int]]:
        """Return the models of the store that clients may load."""
        if self._config is None or not self.clients_may_load:
            return []
        stored = store.stored(self._config.folders.store)
        return [(name, version) for name, versions in stored.items() for version in versions]

    # --- one model

    def begin(self, text: str, answer: Callable[[str], None] | None = None) -> None:
        """Find the file of a model, have it examined, and load it. ``answer`` is called at the end."""
        guest = self._guests[text] = Guest(text, self._survey(text))
        if answer is not None:
            guest.answers.append(answer)
        self._examine(guest)

    def missing(self, text: str) -> str:
        """Return why the store has no such model, if so."""
        assert self._config is not None
        if store.is_path(text):
            return "name a model of the store, not a path"
        return cleaned(store.candidates(text, self._config.folders)[0].problem)

    def _survey(self, text: str) -> Survey:
        assert self._config is not None
        return Survey({text: [] if store.is_path(text) else store.candidates(text, self._config.folders)})

    def _examine(self, guest: Guest) -> None:
        assert self._config is not None
        trust, survey = trust_of(self._config), guest.survey
        for path in survey.due():
            take = partial(self._take, guest, survey, path)
            self._fleet.helpers.start(path.name, Examine(path, trust=trust), Examined, EXAMINING, take, again=1)
        if survey.done and not guest.examined:
            guest.examined = True
            self._take_files(guest)

    def _take(self, guest: Guest, survey: Survey, path: Path, examined: Examined | None, reason: str) -> None:
        if self._guests.get(guest.text) is not guest or guest.survey is not survey or self._config is None:
            return
        found = found_of(path, examined, reason)
        remember(trust_of(self._config), found)
        survey.take(found)
        self._examine(guest)

    def _take_files(self, guest: Guest) -> None:
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

    def _start(self, guest: Guest, file: ModelFile) -> None:
        from limpet.supervision.guest_processes import Heard  # only where it is used

        guest.problem = BEING_LOADED
        heard = Heard(lambda: guest.finish(""), partial(self._take_end, guest))
        guest.process = self._fleet.guest_processes.start(self._task(file), heard)

    def _take_end(self, guest: Guest, reason: str, again: bool) -> None:  # noqa: FBT001 - a callback
        guest.process = None
        if not again:
            self._give_up(guest, reason)
            return
        log.warning("the model %s for clients: %s", guest.text, reason)
        guest.restarts.crashed(monotonic())
        guest.finish(f"its process ended: {reason}")

    def _give_up(self, guest: Guest, problem: str) -> None:
        log.error("the model %s for clients is not loaded: %s", guest.text, problem)
        guest.over = True
        guest.finish(problem)
        if guest.file is None and guest.text not in self._named_models():
            # A client wanted it, and has the answer. Any names would fill the list of models otherwise.
            del self._guests[guest.text]

    def end(self, text: str, reason: str) -> None:
        """End the process of a model, if it is loaded. ``reason`` answers what waits."""
        guest = self._guests.pop(text, None)
        if guest is not None:
            self._stop(guest)
            guest.finish(reason)

    def _stop(self, guest: Guest) -> None:
        """End the process of a model, and delete what was unpacked for it."""
        if guest.process is not None:
            self._fleet.guest_processes.stop(guest.process)
            guest.process = None
        if guest.file is not None and self._config is not None:
            clean_cell(self._config.folders, _cell(guest.file))


def _cell(file: ModelFile) -> str:
    """Return a name of a cell that no source can have."""
    return f"{file.name}-{file.version}~guest"

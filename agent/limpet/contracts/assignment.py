"""What a worker is to run: pure data, made by the supervisor alone and sent to the process that runs it.

A *cell* is the sources and pipelines that share one worker, and so a fate. An ``Assignment`` is the whole of what
one cell runs. It holds no secret, and nothing of reporters or of other cells.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta

from limpet.contracts.fields import Count, InputValue, Positive, Share, WindowSpec

if TYPE_CHECKING:
    from collections.abc import Collection


class SourceTable(msgspec.Struct):
    """A source's plugin and what its own ``Config`` will read.

    ``queue`` and ``queue_bytes``: how many blocks of samples may wait for the model, and how large they may be
    together; beyond that the oldest are dropped and counted. ``silence``: seconds without a sample after which the
    source is opened again, 0 for never. Default of ``queue`` and ``silence``: the kind's own.
    """

    kind: str
    options: dict[str, Any]
    queue: Count | None = None
    queue_bytes: Count = 16_000_000
    silence: float | None = None


Option: TypeAlias = str | int | float | bool


class DelegateTable(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """``[delegates.NAME]``: what a name in a pipeline's list of delegates means.

    ``kind``: default is the name itself. ``library`` is looked for instead of the kind's own; the kind
    ``external`` needs it. ``options`` are passed to the library as text, ``true`` and ``false`` as 1 and 0.
    """

    kind: str = ""
    library: str = ""
    options: dict[str, Option] = {}


class PipelineOptions(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How a pipeline runs its model. ``window``, ``transforms`` and ``decoder`` replace the manifest's own.

    ``inputs``: what each input of the model gets, by its name. It is a list of channels of the source, ``[]`` for
    all; or ``{ state = "OUTPUT" }``, an output of the run before; or ``{ constant = NUMBER }``.
    A model with several inputs needs it, unless its manifest says so.
    ``stateful``: whether the model's state lasts from window to window, or is cleared before each. Default: as the
    manifest says, else as the model file shows.

    ``deadline``: seconds without progress after which its worker is killed and restarted.

    ``delegates`` are tried in order, the CPU last unless ``require`` is set: the share of the model's
    multiply-adds that must be on a delegate. ``least_speed``: how many times as fast as the CPU it must be.
    ``recheck``: seconds between two looks at whether its numbers are still right; ``opening``: seconds that it may
    take to open, which for a GPU's first compilation is most of a minute.

    Only one window in ``every`` is run.

    ``rate_tolerance``: by which share the rate of the samples may differ from the one that the model was made for.
    """

    runtime: dict[str, Any] = {}
    delegates: Annotated[list[str], Meta(min_length=1)] = msgspec.field(default_factory=lambda: ["cpu"])
    window: WindowSpec | None = None
    transforms: list[dict[str, Any]] | None = None
    decoder: dict[str, Any] | None = None
    inputs: dict[str, InputValue] | None = None
    stateful: bool | None = None
    deadline: Positive = 10.0
    require: Share = 0.0
    least_speed: Annotated[float, Meta(ge=0)] = 1.0
    recheck: Positive = 3600.0
    opening: Positive = 120.0
    every: Count = 1
    rate_tolerance: Annotated[float, Meta(ge=0)] = 0.05


class Folders(msgspec.Struct, frozen=True):
    """``base``: where relative paths start. ``state``: what survives a reboot. ``store``: bundles by name."""

    base: Path
    state: Path
    store: Path


class ModelFile(msgspec.Struct, frozen=True):
    """The one file that a pipeline runs.

    ``sha256`` is what ``limpet.models.bundle.examine`` found. Each process that opens the file
    compares it. ``version`` is 0 for a bare model. ``runtime``: the kind of plugin that runs it; empty if unknown.
    """

    path: Path
    name: str
    version: int
    sha256: str
    runtime: str = ""


class FoundModel(msgspec.Struct, frozen=True):
    """A file that a pipeline may run, and why it cannot (``problem``), if so.

    A file with a problem has the name and the version that its file name says. ``lower``: whether there are lower
    versions that could run in its place.
    """

    path: Path
    name: str
    version: int
    sha256: str = ""
    problem: str = ""
    lower: bool = False
    runtime: str = ""

    @property
    def file(self) -> ModelFile:
        """What a pipeline is assigned."""
        return ModelFile(self.path, self.name, self.version, self.sha256, self.runtime)


class PipelineAssignment(msgspec.Struct, frozen=True):
    """One pipeline of a cell. ``sources`` feed it. If ``after`` names a pipeline, the results of that one do."""

    name: str
    sources: tuple[str, ...]
    model: ModelFile
    options: PipelineOptions
    after: str = ""


class Assignment(msgspec.Struct, frozen=True):
    """All that one cell runs. ``cell`` is the name of its first source in alphabetical order.

    ``models`` has the files that each pipeline may run, those of its ladder among them. A worker that cannot read
    a file could not change to it. ``prove`` has the pipelines whose model must give its golden outputs also at its
    first start, as there are lower versions of it.
    """

    cell: str
    folders: Folders
    sources: dict[str, SourceTable]
    pipelines: dict[str, PipelineAssignment]
    delegates: dict[str, DelegateTable]
    models: dict[str, tuple[Path, ...]] = {}
    prove: tuple[str, ...] = ()

    def only(self, names: Collection[str]) -> Assignment:
        """Return the assignment with these pipelines alone."""
        chosen = {name: one for name, one in self.pipelines.items() if name in names}
        models = {name: files for name, files in self.models.items() if name in names}
        return msgspec.structs.replace(self, pipelines=chosen, models=models)

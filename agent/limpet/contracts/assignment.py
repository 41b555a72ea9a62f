"""What a worker is to run: pure data, made by the supervisor alone and sent to the process that runs it.

A *cell* is the sources and pipelines that share one worker, and so a fate. An ``Assignment`` is the whole of what
one cell runs. It holds no secret, and nothing of reporters or of other cells.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta

from limpet.contracts.adaptation import AdaptOptions, Correction
from limpet.contracts.captures import KeepOptions
from limpet.contracts.fields import Count, InputValue, Positive, Share, WindowSpec
from limpet.contracts.savings import CacheOptions, CascadeOptions, EarlyExitOptions, GateOptions
from limpet.contracts.uncertainty import VariationOptions

if TYPE_CHECKING:
    from collections.abc import Collection


class SourceTable(msgspec.Struct):
    """A source's plugin, what its own ``Config`` will read, and how its samples wait for the model."""

    kind: str
    options: dict[str, Any]
    queue: Count | None = None
    """Blocks of samples that may wait for the model. If more come, the oldest are dropped and counted as `queue`.
    Default: 64; 1 for kinds with frames. Example: `16`."""
    queue_bytes: Count = 16_000_000
    """Bytes that these blocks may have together. The newest block always fits."""
    silence: float | None = None
    """Seconds without a sample after which Limpet opens the source again. `0`: never. Default: 60 for `serial`, or
    20 samples if `rate` is below 1/3; 0 for others. Example: `30`."""


Option: TypeAlias = str | int | float | bool


class DelegateTable(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """``[delegates.NAME]``: what a name in a pipeline's list of delegates means."""

    kind: str = ""
    """Kind of delegate. Default: the name of the table. Example: `"external"`."""
    library: str = ""
    """Library to load. The kind `external` needs it. Default: the kind's own. Example:
    `"/usr/lib/libvx_delegate.so"`."""
    options: dict[str, Option] = {}
    """Options that are passed to the library as text; `true` and `false` become 1 and 0. Example: `{ device = "0"
    }`."""


class SnapshotOptions(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """``snapshots`` of a pipeline: pictures of its results that leave the device, at most one a second."""

    events: bool = True
    """Take one when `track` finds that an object came, left, or entered a zone or crossed a line."""
    every: Count | None = None
    """Take one of so many results. Default: none. Example: `100`."""
    quality: Annotated[int, Meta(ge=1, le=95)] = 80
    """Quality of the JPEG, 1 to 95. It is lowered if the picture would have more than 256 kB."""
    width: Annotated[int, Meta(ge=16, le=1920)] = 640
    """Width of the picture in pixels at most."""


class MonitorOptions(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """``monitors`` of a pipeline: they compare its windows with the reference in the bundle."""

    share: Annotated[float, Meta(gt=0, le=1)] | None = None
    """Share of the pipeline's own time that the monitors may take. They skip windows to stay within it. Default:
    0.05; 0.01 for pictures. Example: `0.02`."""
    off: list[str] = []
    """Kinds of monitors that do not run. Example: `["label_shift"]`."""
    options: dict[str, dict[str, Any]] = {}
    """Options of single monitors, by their kind. Example: `{ univariate = { least = 0.2 } }`."""


class PipelineOptions(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How a pipeline runs its model."""

    runtime: dict[str, Any] = {}
    """Options of the runtime, such as `threads`. Example: `{ threads = 2 }`."""
    delegates: Annotated[list[str], Meta(min_length=1)] = msgspec.field(default_factory=lambda: ["cpu"])
    """Where to run the model, tried in order, the CPU last unless `require` is set. Example: `["edgetpu",
    "cpu"]`."""
    window: WindowSpec | None = None
    """How samples become windows. Default: the model's. Example: `{ size = 128, hop = 64 }`."""
    transforms: list[dict[str, Any]] | None = None
    """Steps before the model, each a table with `kind`. Default: the model's. Example: `[{ kind = "normalise", std
    = 4.0 }]`."""
    decoder: dict[str, Any] | None = None
    """How the model's outputs are read, a table with `kind`. Default: the model's. Example: `{ kind = "classify"
    }`."""
    postprocess: list[dict[str, Any]] | None = None
    """Steps behind the decoder, each a table with `kind`. Default: the model's. Example: `[{ kind = "track"
    }]`."""
    inputs: dict[str, InputValue] | None = None
    """What each input of the model gets: channels, `{ state = "OUTPUT" }` or `{ constant = NUMBER }`. Default: the
    model's. Example: `{ motion = ["ax", "ay"] }`."""
    stateful: bool | None = None
    """Whether the model's state lasts from window to window. Otherwise it is cleared before each. Default: as the
    manifest or the model file says. Example: `true`."""
    deadline: Positive = 10.0
    """Seconds without progress after which the worker is killed and started again."""
    require: Share = 0.0
    """Share of the model's multiply-adds that must run on a delegate. If set, there is no fallback to the CPU.
    Example: `0.95`."""
    least_speed: Annotated[float, Meta(ge=0)] = 1.0
    """How many times as fast as the CPU a delegate must be."""
    recheck: Positive = 3600.0
    """Seconds between two checks of a delegate's numbers."""
    opening: Positive = 120.0
    """Seconds that a delegate may take to open. A GPU's first compilation takes most of a minute."""
    every: Count = 1
    """Run one window in so many. Example: `4`."""
    rate_tolerance: Annotated[float, Meta(ge=0)] = 0.05
    """Share by which the samples' rate may differ from the model's."""
    monitors: bool | MonitorOptions = True
    """Whether monitors compare the windows with the reference in the bundle, or a table that says how. A bundle
    without a reference has no monitors. Example: `false`."""
    snapshots: SnapshotOptions | None = None
    """Publish pictures with what was found in them. Default: no picture leaves the device. Example: `{ every = 100
    }`."""
    gate: GateOptions | None = None
    """Do not run the model while its input does not change. Default: run it on each window. Example: `{ tolerance
    = 8, share = 0.01 }`."""
    cache: CacheOptions | None = None
    """Keep the model's outputs for inputs that come again. Default: nothing is kept. Example: `{ entries = 256
    }`."""
    cascade: CascadeOptions | None = None
    """Run a light model first, and the pipeline's own only if that is unsure. Default: none. Example: `{ model =
    "motion-small", margin = 0.6 }`."""
    early_exit: EarlyExitOptions | None = None
    """Leave out the rest of a round of windows once a class is sure. Default: no window is left out. Example: `{
    windows = 8 }`."""
    test_time: VariationOptions | None = None
    """Run the model on variations of each window, too, and average its outputs. Default: on the window alone.
    Example: `{ noise = 0.05, runs = 4 }`."""
    keep: KeepOptions | None = None
    """Keep windows on the disk, with their results, by these rules. Default: none are kept. Example: `{}`."""
    adapt: AdaptOptions | None = None
    """What the device may change about the pipeline, and how far. Default: nothing. Example: `{ threshold = {
    least = 0.5, most = 0.9 } }`."""


class Folders(msgspec.Struct, frozen=True):
    """``base``: where relative paths start. ``state``: what survives a reboot. ``store``: bundles by name.

    ``memory``: a folder in memory, where encrypted bundles are unpacked. ``None`` if none are encrypted.
    """

    base: Path
    state: Path
    store: Path
    memory: Path | None = None


class ModelFile(msgspec.Struct, frozen=True):
    """The one file that a pipeline runs.

    ``sha256`` is what ``limpet.models.bundle.examine`` found. Each process that opens the file
    compares it. ``version`` is 0 for a bare model. ``runtime``: the kind of plugin that runs it; empty if unknown.
    ``decoder``: the kind of its decoder; empty if it names none. ``key``: that of an encrypted file, see
    ``limpet.models.sealed``; empty for one that is not encrypted.
    """

    path: Path
    name: str
    version: int
    sha256: str
    runtime: str = ""
    decoder: str = ""
    key: bytes = b""


class FoundModel(msgspec.Struct, frozen=True):
    """A file that a pipeline may run, and why it cannot (``problem``), if so.

    A file with a problem has the name and the version that its file name says. ``lower``: whether there are other
    models, lower versions mostly, that could run in its place. ``sha256`` of a file that is not examined yet is
    what the examination must find; empty if that is open. ``any_name``: whether a bundle may have another name
    and version than its file name says. ``signed_by``: ids of keys of the root of trust. ``in_date``: neither the
    signature nor the root has expired. ``untrusted``: the SHA-256 of a model that the root does not permit. It
    must not go on to run either. ``key`` is as in ``ModelFile``.
    """

    path: Path
    name: str
    version: int
    sha256: str = ""
    problem: str = ""
    lower: bool = False
    runtime: str = ""
    decoder: str = ""
    any_name: bool = False
    signed_by: tuple[str, ...] = ()
    in_date: bool = False
    untrusted: str = ""
    key: bytes = b""

    @property
    def file(self) -> ModelFile:
        """What a pipeline is assigned."""
        return ModelFile(self.path, self.name, self.version, self.sha256, self.runtime, self.decoder, self.key)


class PipelineAssignment(msgspec.Struct, frozen=True):
    """One pipeline of a cell. ``sources`` feed it. If ``after`` names a pipeline, the results of that one do.

    ``backed_up``: another model takes over if this one fails. Until then it stays open, so that no sample is lost.
    ``light``: the light model of a cascade.
    ``correction``: adaptations that it runs with.
    """

    name: str
    sources: tuple[str, ...]
    model: ModelFile
    options: PipelineOptions
    after: str = ""
    backed_up: bool = False
    light: ModelFile | None = None
    correction: Correction | None = None


class ShadowAssignment(msgspec.Struct, frozen=True):
    """A model that runs beside the one of a pipeline, on the same windows and in a separate process.

    ``every``: it runs on one window in so many. ``share``: share of the windows whose result is reported as the
    shadow's own, in place of the pipeline's.
    """

    model: ModelFile
    every: int = 1
    share: float = 0.0


class Assignment(msgspec.Struct, frozen=True):
    """All that one cell runs. ``cell`` is the name of its first source in alphabetical order.

    ``models`` has the files that each pipeline may run, those of its ladder among them. A worker that cannot read
    a file could not change to it. ``prove`` has the pipelines whose model must give its golden outputs also at its
    first start, as there are lower versions of it. ``shadows`` has the models that run beside those of pipelines.
    They are no part of a revision: a pipeline is left alone if its shadow begins, changes or ends.
    ``traces``: share of the windows whose way through the stages is reported. It is no part of a revision either.
    """

    cell: str
    folders: Folders
    sources: dict[str, SourceTable]
    pipelines: dict[str, PipelineAssignment]
    delegates: dict[str, DelegateTable]
    models: dict[str, tuple[Path, ...]] = {}
    prove: tuple[str, ...] = ()
    shadows: dict[str, ShadowAssignment] = {}
    traces: float = 0.0

    def only(self, names: Collection[str]) -> Assignment:
        """Return the assignment with these pipelines alone."""
        chosen = {name: one for name, one in self.pipelines.items() if name in names}
        models = {name: files for name, files in self.models.items() if name in names}
        shadows = {name: one for name, one in self.shadows.items() if name in names}
        return msgspec.structs.replace(self, pipelines=chosen, models=models, shadows=shadows)

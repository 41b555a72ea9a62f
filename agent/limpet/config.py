"""The configuration: TOML to typed tables, with every problem found at once and where it is.

What belongs to a plugin stays an untyped table here, so that the supervisor needs no plugin to read its file.
``limpet.doctor.check`` goes on from there.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta

from limpet import text_file
from limpet.contracts.assignment import DelegateTable, Folders, FoundModel, PipelineOptions, SourceTable
from limpet.contracts.fields import NAME_PATTERN, NAME_RULE, Count, Positive, Share
from limpet.device import directories
from limpet.errors import ConfigError, ConfigFileError, Problem
from limpet.filling import S, fill, fill_partly, form, values_of
from limpet.learning import slices
from limpet.learning.advice import RetrainingOptions
from limpet.learning.slices import Groups  # noqa: TC001 - msgspec reads it
from limpet.tables import ApiTable, TrustTable, UpdatesTable
from limpet.wording import suggest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

Identifier = Annotated[str, Meta(pattern=NAME_PATTERN, extra={"use": NAME_RULE})]
"""A word that may stand in an MQTT topic, a file name and a result's id."""

_SYSTEM = Path("/etc/limpet/limpet.toml")
USUAL = "Configuration file (TOML). Default: ./limpet.toml, then /etc/limpet/limpet.toml."


CommandName = Literal[
    "ping",
    "health",
    "restart",
    "log_level",
    "threshold",
    "capture",
    "keep",
    "snapshot",
    "enrol",
    "forget",
    "infer",
    "explain",
    "install",
    "promote",
    "rollback",
    "cancel",
    "feedback",
    "undo",
]


class Device(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """This device."""

    id: Identifier
    """Name of the device in topics and results: letters, digits, `.`, `_` and `-`. Example: `"press-07"`."""
    state: Path = msgspec.field(default_factory=directories.state)
    """Folder that survives a reboot. Only one daemon can run with it. Default: `$STATE_DIRECTORY`, which systemd
    sets, else `/var/lib/limpet`. Example: `"/data/limpet"`."""
    models: Path | None = None
    """Store: the folder where bundles are looked up by name. Default: `models` in `state`. Example:
    `"/data/models"`."""
    models_bytes: Count = 1_000_000_000
    """Bytes that the store may hold. Above that, housekeeping deletes the oldest bundles that no pipeline
    names."""
    health_interval: Positive = 10.0
    """Seconds between two health messages."""
    sysroot: Path = Path("/")
    """Folder with this machine's `/proc` and `/sys`, for containers. Example: `"/host"`."""
    commands: list[CommandName] = msgspec.field(default_factory=lambda: ["ping", "health"])
    """Commands that the device accepts over MQTT. The broker's access list says who can send them. Example:
    `["ping", "health", "restart"]`."""


class ReporterTable(msgspec.Struct):
    """A reporter: its plugin, and what the plugin's own ``Config`` will read.

    ``where`` is the table's name as a person wrote it: ``mqtt``, or ``reporters.NAME``.
    """

    kind: str
    options: dict[str, Any]
    where: str


class Rung(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A lighter way to run a pipeline. What a rung does not name is as in the pipeline."""

    model: str = ""
    """Name or file of a lighter model. Default: that of the pipeline. Example: `"motion-small"`."""
    delegates: list[str] = []
    """Other delegates. Default: those of the pipeline. Example: `["cpu"]`."""
    every: Count | None = None
    """Run one window in so many. Default: as the pipeline. Example: `4`."""


class Backup(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """``backup`` of a pipeline: a lighter model that takes over if the main one fails or is too slow."""

    model: str
    """Name or file of the model that takes over. Example: `"motion-small"`."""
    slower_than_ms: Positive | None = None
    """Milliseconds in the model, as the 95th percentile of `windows` windows, above which the main model is too
    slow. Default: no limit. Example: `50`."""
    windows: Count = 100
    """Windows of which that percentile is taken."""
    retry_after: Positive = 60.0
    """Seconds until the main model is tried again. Each further failure doubles them, up to an hour."""


class GovernorTable(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """``[governor]``: when pipelines step down their ladders, and when they may step up again."""

    hot: float = 80.0
    """Temperature in °C of the hottest zone at which pipelines step down."""
    cool: float = 70.0
    """Temperature in °C below which they may step up again."""
    busy: Share = 0.6
    """Share of ten seconds, 0 to 1, that some task waited for a CPU, at which pipelines step down."""
    idle: Share = 0.2
    """Share below which they may step up again."""
    empty: Share = 0.2
    """Share of the battery's charge, while it discharges, at which pipelines step down."""
    charged: Share = 0.4
    """Share above which they may step up again."""
    most_power: Positive | None = None
    """Power in W drawn from the battery at which pipelines step down. Default: no limit. Example: `6.5`."""
    interval: Positive = 1.0
    """Seconds between two looks at these figures."""
    down_after: Annotated[float, Meta(ge=0)] = 5.0
    """Seconds for which a limit must be exceeded before pipelines step down."""
    up_after: Annotated[float, Meta(ge=0)] = 60.0
    """Seconds for which all must be well before pipelines step up."""

    def __post_init__(self) -> None:
        if not (self.cool < self.hot and self.idle < self.busy and self.empty < self.charged):
            raise ValueError("cool must be below hot, idle below busy, empty below charged")


class PipelineConfig(PipelineOptions, kw_only=True, forbid_unknown_fields=True):
    """One pipeline of a configuration."""

    source: str
    """Name of the source that feeds it. Example: `"accelerometer"`."""
    model: str
    """Name of a bundle in the store, `NAME@VERSION`, or the path of a `.limpet` or `.tflite` file. Example:
    `"motion"`."""
    ladder: list[Rung] = msgspec.field(default_factory=list)
    """Lighter ways to run, for a device in distress. Each is a table with `model`, `delegates` or `every`.
    Example: `[{ every = 4 }]`."""
    backup: Backup | None = None
    """A lighter model that takes over if the main one fails or is too slow. Default: none. Example: `{ model =
    "motion-small", slower_than_ms = 50 }`."""

    groups: Groups = msgspec.field(default_factory=dict)
    """What results belong to, for the accuracy of each slice: a value for each group, or values by the local time
    of day. Example: `{ site = "north", shift = { day = "06:00-18:00", night = "18:00-06:00" } }`."""
    retraining: RetrainingOptions = RetrainingOptions()
    """When the event `retraining_advised` is published. Example: `{ labels = 200 }`."""

    @property
    def models(self) -> list[str]:
        """The models of the pipeline, its cascade, its rungs and its backup, as they are written."""
        lighter = [rung.model for rung in self.ladder if rung.model]
        beside = [one.model for one in (self.cascade, self.backup) if one is not None]
        return list(dict.fromkeys([self.model, *lighter, *beside]))

    @property
    def options(self) -> PipelineOptions:
        """What its worker needs to know."""
        return PipelineOptions(**{field: getattr(self, field) for field in PipelineOptions.__struct_fields__})


SHORT_REPORTERS = ("mqtt", "jsonl")
"""Kinds of reporters that may have their own table: ``[mqtt]`` is short for ``[reporters.mqtt]``."""
OPTIONAL = ("trust", "updates", "api")
TABLES = ("device", "sources", "pipelines", "reporters", "delegates", "governor", *OPTIONAL, *SHORT_REPORTERS)


class Config(msgspec.Struct):
    """A whole configuration. ``base`` is the directory of its file: relative paths start there.

    ``selected`` has what each pipeline with an update runs, in this order: the first one that works. ``None`` is
    the model of its table. See ``limpet.models.deployed``.
    """

    base: Path
    device: Device
    sources: dict[str, SourceTable]
    pipelines: dict[str, PipelineConfig]
    reporters: dict[str, ReporterTable]
    delegates: dict[str, DelegateTable] = {}
    governor: GovernorTable = msgspec.field(default_factory=GovernorTable)
    trust: TrustTable | None = None
    updates: UpdatesTable | None = None
    api: ApiTable | None = None
    selected: dict[str, tuple[FoundModel | None, ...]] = {}

    @property
    def models(self) -> Path:
        """The store: where bundles are looked up by name."""
        return self.device.models or self.device.state / "models"

    @property
    def models_named(self) -> list[str]:
        """The models of all pipelines, as they are written."""
        return list(dict.fromkeys(model for pipeline in self.pipelines.values() for model in pipeline.models))

    @property
    def folders(self) -> Folders:
        """The folders that a worker knows."""
        encrypted = self.updates is not None and self.updates.encryption_key_file is not None
        memory = directories.runtime() if encrypted else None
        return Folders(self.base, self.device.state, self.models, memory)


def usual() -> Path:
    """Return the file that is meant where none is named."""
    here = Path("limpet.toml")
    return here if here.exists() else _SYSTEM


class Reading(NamedTuple):
    """What a configuration file says, right or wrong.

    ``config`` has what is right. What is wrong is left out of it, or has its default. ``wrong`` has the pipelines
    with something wrong in them or with an unusable source, as far as they can be read. ``problems`` say why.
    ``no_reporter``: the file has no table of a reporter, neither right nor wrong.
    """

    config: Config
    problems: list[str]
    wrong: dict[str, PipelineConfig]
    no_reporter: bool


def read(path: Path | str) -> Config:
    """Read a configuration file. ``ConfigFileError`` has all that is wrong with its form."""
    text, tables = parse(path)
    try:
        return build(tables, Path(path).absolute().parent)
    except ConfigError as error:
        from limpet.problems.locate import locate  # where all is well, it costs no memory

        raise ConfigFileError(locate(path, text, error.problems)) from error


def parse(path: Path | str, hint: str | None = None) -> tuple[str, dict[str, Any]]:
    """Return the text of a TOML file and its tables. ``ConfigFileError``.

    ``hint``: what to do if the file is missing. Default: the command that writes a ``limpet.toml``.
    """
    text = ""
    try:
        text = text_file.read(Path(path))
        # msgspec imports the parser when it is called; workers, which get their configuration parsed, never do.
        return text, msgspec.toml.decode(text)
    except FileNotFoundError as error:
        raise ConfigFileError([Problem(str(path), _missing(Path(path), hint))]) from error
    except OSError as error:
        raise ConfigFileError([Problem(str(path), error.strerror or "cannot be read")]) from error
    except UnicodeDecodeError as error:
        from limpet.problems.locate import of_encoding

        raise ConfigFileError([of_encoding(path, error)]) from error
    except (
        msgspec.DecodeError,
        RecursionError,
        ValueError,
    ) as error:  # ValueError: a number of thousands of digits
        from limpet.problems.locate import of_syntax

        raise ConfigFileError([of_syntax(path, text, str(error))]) from error


def _missing(path: Path, hint: str | None) -> str:
    """Say that a file is missing, and which command writes it."""
    if hint is not None:
        return f"there is no such file. {hint}".rstrip()
    if path == _SYSTEM == usual():
        return "there is no such file, and no limpet.toml in this folder. Run: limpet init"
    return f"there is no such file. To write one, run: limpet init --output {path}"


def build(tables: Mapping[str, Any], base: Path) -> Config:
    """Turn parsed TOML into a ``Config``. ``ConfigError`` has all that is wrong with its form."""
    reading = examine(tables, base)
    if reading.problems:
        raise ConfigError(reading.problems)
    return reading.config


def examine(tables: Mapping[str, Any], base: Path) -> Reading:
    """Return what is right of parsed TOML, and all that is wrong with its form."""
    problems: list[str] = []
    groups = {name: _group(tables, name, problems) for name in ("device", "sources", "pipelines")}
    device = fill(Device, groups["device"], "device", base, problems)
    places_known = device is not None
    if device is None:
        sound = {"id": "unnamed", **values_of(Device, groups["device"], "", base, [])}
        device = Device(**sound)
        places_known = {"state", "models"} & groups["device"].keys() <= sound.keys()
    sources = {
        name: table
        for name, raw in _named(groups["sources"], "sources", problems)
        if (table := _table(raw, f"sources.{name}", problems))
    }
    extras = {name: _group(tables, name, problems) for name in ("delegates", "governor") if name in tables}
    delegates = _delegates(extras.get("delegates", {}), base, problems)
    pipelines, wrong = _pipelines(groups, sources, delegates, base, problems)
    if tables.get("pipelines") == {}:
        problems.append("pipelines: empty; name at least one, as [pipelines.motion]")
    governor = fill(GovernorTable, extras.get("governor", {}), "governor", base, problems) or GovernorTable()
    trust = _optional(TrustTable, tables, "trust", base, problems)
    updates = _optional(UpdatesTable, tables, "updates", base, problems)
    api = _optional(ApiTable, tables, "api", base, problems)
    reporters = _reporters(tables, problems)
    problems.extend(_unknown(name, tables[name]) for name in tables if name not in TABLES)
    known = {name: table for name, table in delegates.items() if table is not None}
    if not places_known:  # models cannot be found
        pipelines, wrong = {}, pipelines | wrong
    return Reading(
        Config(base, device, sources, pipelines, reporters, known, governor, trust, updates, api),
        problems,
        wrong,
        not tables.keys() & {"reporters", *SHORT_REPORTERS},
    )


def _optional(kind: type[S], tables: Mapping[str, Any], name: str, base: Path, problems: list[str]) -> S | None:
    return fill(kind, _group(tables, name, problems), name, base, problems) if name in tables else None


def _delegates(group: Mapping[str, Any], base: Path, problems: list[str]) -> dict[str, DelegateTable | None]:
    """Return the tables of delegates by name, ``None`` for each that is wrong."""
    return {
        name: fill(DelegateTable, raw, f"delegates.{name}", base, problems)
        for name, raw in _named(group, "delegates", problems)
    }


def _pipelines(
    groups: Mapping[str, Mapping[str, Any]],
    sources: Mapping[str, SourceTable],
    delegates: Mapping[str, DelegateTable | None],
    base: Path,
    problems: list[str],
) -> tuple[dict[str, PipelineConfig], dict[str, PipelineConfig]]:
    """Return the pipelines that are right and those that are wrong, by name."""
    right: dict[str, PipelineConfig] = {}
    wrong: dict[str, PipelineConfig] = {}
    for name, raw in _named(groups["pipelines"], "pipelines", problems):
        before = len(problems)
        pipeline = fill(PipelineConfig, raw, f"pipelines.{name}", base, problems)
        readable = pipeline or fill_partly(PipelineConfig, raw, base)
        source = readable.source if readable else raw.get("source")
        if isinstance(source, str) and source not in groups["sources"]:
            problems.append(f"pipelines.{name}.source: no source {source!r}{suggest(source, groups['sources'])}")
        if readable is None:
            continue
        problems.extend(f"pipelines.{name}.{problem}" for problem in _further_problems(readable))
        if known := [each for each in readable.delegates if delegates.get(each, each) is not None]:
            is_right = len(problems) == before and source in sources
            (right if is_right else wrong)[name] = msgspec.structs.replace(readable, delegates=known)
    return right, wrong


def _further_problems(pipeline: PipelineConfig) -> Iterator[str]:
    """Yield what is wrong with a pipeline, and no type can say."""
    yield from _heavier(pipeline)
    yield from _same(pipeline)
    yield from slices.problems(pipeline.groups)


def _heavier(pipeline: PipelineConfig) -> list[str]:
    """Return which rungs run more windows than the step above them, with the same model on the same delegates."""
    problems = []
    above = (pipeline.model, pipeline.delegates, pipeline.every)
    for number, rung in enumerate(pipeline.ladder):
        step = (
            rung.model or pipeline.model,
            rung.delegates or pipeline.delegates,
            rung.every or pipeline.every,
        )
        if step[:2] == above[:2] and step[2] < above[2]:
            problems.append(
                f"ladder[{number}].every: {step[2]} runs more windows than the step above it, which has "
                f"every = {above[2]}; a rung must be lighter"
            )
        above = step
    return problems


def _same(pipeline: PipelineConfig) -> list[str]:
    """Return what is wrong with a backup, or a light model of a cascade, that is the main model."""
    return [
        f"{key}.model: {pipeline.model} is the main model; name another one"
        for key, other in (("backup", pipeline.backup), ("cascade", pipeline.cascade))
        if other is not None and other.model == pipeline.model
    ]


def _group(tables: Mapping[str, Any], name: str, problems: list[str]) -> dict[str, Any]:
    group = tables.get(name)
    if group is None:
        problems.append(f"{name} is missing; every configuration has a table [{name}]")
    elif not isinstance(group, dict):
        problems.append(f"{name}: must be a table, as [{name}]")
    else:
        return group
    return {}


def _named(group: Mapping[str, Any], where: str, problems: list[str]) -> list[tuple[str, dict[str, Any]]]:
    """Return the tables of a group whose names are usable."""
    named = []
    for name, raw in group.items():
        try:
            msgspec.convert(name, Identifier)
        except msgspec.ValidationError:
            problems.append(f"{where}.{name}: use a name of {NAME_RULE}")
            continue
        if isinstance(raw, dict):
            named.append((name, raw))
        else:
            problems.append(f"{where}.{name}: must be a table, as [{where}.{name}]")
    return named


def _table(raw: Mapping[str, Any], where: str, problems: list[str]) -> SourceTable | None:
    options = dict(raw)
    kind, silence = options.pop("kind", None), options.pop("silence", None)
    bounds = {key: options.pop(key) for key in ("queue", "queue_bytes") if key in options}
    if not isinstance(kind, str):
        problems.append(_no_kind(where, raw, "serial"))
        return None
    problems += [
        f"{where}.{key} is {form().shown(value)}; use a whole number of at least 1"
        for key, value in bounds.items()
        if not _is_count(value)
    ]
    if silence is not None and not (_is_number(silence) and 0 <= silence < math.inf):
        problems.append(f"{where}.silence is {form().shown(silence)}; use seconds, or 0 for never")
        silence = None
    sound = {key: value for key, value in bounds.items() if _is_count(value)}
    return SourceTable(kind, options, silence=silence, **sound)


def _no_kind(where: str, table: Mapping[str, Any], example: str) -> str:
    """Return that a table does not say which plugin it is for."""
    state = f"is {form().shown(table['kind'])}" if "kind" in table else "is missing"
    return f'{where}.kind {state}; it names the plugin, as kind = "{example}"'


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _reporters(tables: Mapping[str, Any], problems: list[str]) -> dict[str, ReporterTable]:
    """Return the reporters by name: those of ``[reporters.NAME]``, and those that a table of their kind makes."""
    found: dict[str, ReporterTable] = {}
    group = _group(tables, "reporters", problems) if "reporters" in tables else {}
    for kind in SHORT_REPORTERS:
        if kind not in tables:
            continue
        options = _group(tables, kind, problems)
        if kind in group:
            problems.append(f"{kind}: [{kind}] is short for [reporters.{kind}], which is there too; remove one")
        found[kind] = ReporterTable(kind, options, kind)
    for name, raw in _named(group, "reporters", problems):
        options, where = dict(raw), f"reporters.{name}"
        kind = options.pop("kind", None)
        if isinstance(kind, str):
            found[name] = ReporterTable(kind, options, where)
        else:
            problems.append(_no_kind(where, raw, "mqtt"))
        if problem := _unfit_for_folder(name, found):
            problems.append(f"{where}: {problem}")
    return found


def _unfit_for_folder(name: str, names: Iterable[str]) -> str:
    """Return why a reporter of this name cannot have its own folder, if it cannot."""
    if name.endswith(".damaged"):
        return "no name ends in .damaged; folders that are set aside do"
    if same := [other for other in names if other != name and other.lower() == name.lower()]:
        return f"on some disks its folder would be that of {same[0]!r}; take another name"
    return ""


def _unknown(name: str, value: Any) -> str:
    """Return what is wrong with a name that no table of a configuration has."""
    if not isinstance(value, dict):
        return f"{name}: unknown key; keys belong in tables such as [device]"
    hint = suggest(name, TABLES)
    if "did you mean" not in hint:
        hint = f'; a reporter of another package is [reporters.NAME] with kind = "{name}"'
    return f"{name}: unknown table{hint}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

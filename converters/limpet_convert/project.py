"""The project file, ``convert.toml``: how one model is converted, from its training framework to a bundle.

Like the agent's configuration it is TOML, typed, with unknown keys refused and every problem reported at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta

from limpet import config, plugins
from limpet.contracts.fields import Count, Positive, WindowSpec
from limpet.errors import ConfigError
from limpet.filling import fill
from limpet.models.manifest import Limits, Name, Requires
from limpet.problems.locate import in_file
from limpet.wording import suggest

if TYPE_CHECKING:
    from collections.abc import Mapping

Variant: TypeAlias = Literal["float", "float16", "dynamic", "int8", "int16x8", "mixed"]
"""``dynamic``: int8 weights, float activations. ``int16x8``: int8 weights, int16 activations. ``mixed``: int8, but
for layers that cause too large an error."""

Observer: TypeAlias = Literal["minmax", "percentile", "mse"]
Share = Annotated[float, Meta(ge=0, le=1)]
Loss = Annotated[float, Meta(ge=0)]


class Model(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The trained model."""

    path: Path
    """File or folder of the model. Example: `"motion.keras"`."""
    kind: str = ""
    """Converter. Default: by the name of the file. Example: `"keras"`."""
    options: dict[str, Any] = {}
    """The converter's own options. Example: `{ shape = [128, 6] }`."""


class Data(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What calibrates, and what is held back to verify with."""

    calibration: Path
    """A recording, or a folder of recordings, such as `limpet record` writes. Example: `"recordings/train"`."""
    test: Path
    """Held back: what is verified with. In a folder with sub-folders, these are the labels. A folder that
    `limpet record` wrote has its own labels. Example: `"recordings/test"`."""
    targets: Path | None = None
    """`.npy` file with a class index, a number, or 0 or 1 for each test window; `.jsonl` for detection. Default:
    from sub-folders or labels. Example: `"targets.npy"`."""
    groups: Path | None = None
    """`.npy` file with a group's name for each test window. Default: no groups. Example: `"groups.npy"`."""
    occasions: Path | None = None
    """`.npy` file with a whole number for each test window. Windows that were taken shortly after each other have
    the same one. They do not count as independent. Default: as `recordings.json` says, else each recording has its
    own. Example: `"occasions.npy"`."""
    seen: bool = False
    """Whether the model learned from the test windows too. Then they compare variants only."""
    source: dict[str, Any] = msgspec.field(default_factory=lambda: {"kind": "replay"})
    """Options of the source of the device. Example: `{ kind = "replay", rate = 100 }`."""
    samples: Count = 200
    """Windows to calibrate with, evenly spread."""
    golden: Count = 8
    """Golden vectors in the bundle."""


class Bundle(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What the manifest of the bundle says."""

    name: Name
    """Name of the bundle. Example: `"motion"`."""
    version: Annotated[int, Meta(ge=0)]
    """Version of the bundle. Example: `1`."""
    task: Literal["classify", "regress", "anomaly", "detect"]
    """What the model does."""
    description: str = ""
    """One sentence about the model. Example: `"Motion of the arm"`."""
    licence: str = ""
    """Licence of the model. Example: `"Apache-2.0"`."""
    labels: list[str] = []
    """Names of the classes, in the order of the model's outputs. Example: `["idle", "walk"]`."""
    channels: list[str] = []
    """Channels of the source that the model takes, in order. Example: `["ax", "ay", "az"]`."""
    unit: str = ""
    """Unit of the channels. Example: `"m/s²"`."""
    rate: Positive | None = None
    """Samples a second that the model was made for. Default: any rate. Example: `100`."""
    stateful: bool | None = None
    """Whether the model's state lasts from window to window. Default: as the model file shows. Example: `true`."""
    window: WindowSpec = msgspec.field(default_factory=lambda: WindowSpec(size=1))
    """How samples become windows. Example: `{ size = 50, hop = 10 }`."""
    transforms: list[dict[str, Any]] = []
    """Steps before the model, each a table with `kind`. Example: `[{ kind = "normalise", std = 2.0 }]`."""
    decoder: dict[str, Any] = {}
    """How the outputs are read. Default: the task's own. Example: `{ kind = "classify" }`."""
    postprocess: list[dict[str, Any]] = []
    """Steps behind the decoder, each a table with `kind`. Example: `[{ kind = "track" }]`."""
    requires: Requires = Requires()
    """What a device must have to run the model. Example: `{ arch = ["aarch64"] }`."""
    limits: Limits = Limits()
    """What the model may take on the device. Example: `{ latency_ms = 40 }`."""
    variant: Variant = "int8"
    """Variant of the model that is packaged."""
    edgetpu: bool = False
    """Also compile the int8 model for the Edge TPU, with the vendor's compiler."""
    metrics: dict[str, Any] = {}
    """What was measured before, such as by `limpet-convert train`. Example: `{ accuracy = 0.97 }`."""


class Card(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What the model card says beside what was measured."""

    purpose: str = ""
    """What the model is for. Example: `"Tells walking from running"`."""
    data: str = ""
    """What it was trained with. Example: `"12 people, 3 hours"`."""
    data_licence: str = ""
    """Licence of the data. Example: `"CC-BY-4.0"`."""
    limits: str = ""
    """What it cannot do. Example: `"Not for stairs"`."""


class Quantize(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Which variants are made, and how ranges are chosen."""

    variants: list[Variant] = msgspec.field(default_factory=lambda: ["int8"])
    """Variants to make and compare. Example: `["float16", "int8"]`."""
    observer: Observer = "minmax"
    """How the range of a tensor is chosen."""
    percentile: Annotated[float, Meta(gt=50, le=100)] = 99.99
    """For the observer `percentile`: share of the values, in percent, that the range must hold."""


class Verify(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What the packaged variant must keep. Otherwise the exit status is 1, and no bundle is written."""

    max_metric_loss: Loss = 1.0
    """Largest loss in points: hundredths of the task's metric. Each number of a regression counts."""
    min_metric: float | None = None
    """What the metric must reach at all. Default: no limit. Example: `0.9`."""
    min_agreement: Share = 0.98
    """Share of the test windows on which the variant and the float model must agree. Numbers of a regression agree
    if they differ by at most a tenth of their spread. The number with the lowest share counts."""
    max_size_ratio: Loss | None = None
    """Largest size, divided by the float model's. Default: no limit. Example: `0.3`."""
    max_calibration_loss: Loss = 1.0
    """Largest loss of calibration error, in points."""
    max_slice_gap: Loss | None = None
    """Points by which the metric of a group of `data.groups` may be below that of all windows. Of an accuracy, the
    upper end of its interval counts, of 95 % for all groups together. Default: no limit. Example: `5.0`."""


class Reference(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The bundle's reference: what the model sees, and from where on a device reports drift."""

    enabled: bool = True
    """Whether the bundle gets a reference. Without it, no device watches for drift."""
    data: Path | None = None
    """A recording or a folder of recordings as devices will see them, with the classes as frequent as there.
    Default: `data.test`. Example: `"recordings/field"`."""
    false_alarms: Positive = 1.0
    """False alarms that all monitors together may raise in a month of 26 million windows."""
    monitors: dict[str, dict[str, Any]] = {}
    """Options of monitors, by their kind. Default: all monitors with their defaults. Example: `{ univariate = {
    least = 0.2 } }`."""


class Uncertainty(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What is fitted on the test windows, so that the model is as sure as it is right."""

    temperature: bool | None = None
    """Whether a temperature is fitted. Default: if the decoder classifies, and has neither a threshold nor a
    temperature."""
    coverage: Annotated[float, Meta(gt=0, lt=1)] = 0.9
    """Share of the windows whose set of classes, or whose interval, has the truth in it."""
    intervals: bool = True
    """Whether sets or intervals are in the results."""
    method: Literal["lac", "aps"] = "lac"
    """How sets are made: `"lac"` makes the smallest sets, `"aps"` covers classes more evenly."""
    bayes: bool = False
    """Whether a Bayes filter over windows is added, with transitions counted in the recordings of `data.test`."""


class Search(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Mixed precision. The smallest solution is taken."""

    precisions: list[Literal["int16", "float"]] = msgspec.field(default_factory=lambda: ["int16", "float"])
    """What layers with too large an error may be kept in."""
    max_layers: Count = 8
    """How many layers, at most."""


class Sign(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The signature."""

    key: str | Annotated[list[str], Meta(min_length=1)]
    """A private key's file, as `limpet-convert keygen` writes it, or `agent:COMMENT` for a key of an ssh-agent. Or
    a list of them, if several must sign. Example: `"release.key"`."""
    expires: str | None = None
    """Day from which on no device installs the bundle any more. Default: in two years. Example: `"2030-01-01"`."""


class Project(msgspec.Struct, kw_only=True):
    """A whole project file. ``base`` is its directory: relative paths start there."""

    base: Path
    file: Path
    model: Model
    data: Data
    bundle: Bundle
    card: Card
    quantize: Quantize
    verify: Verify
    search: Search
    reference: Reference
    uncertainty: Uncertainty
    coreml: dict[str, Any]
    sign: Sign | None

    @property
    def build(self) -> Path:
        """Where everything that is made goes, unless the command says otherwise."""
        return self.base / "build"


TABLES: dict[str, type[msgspec.Struct]] = {
    "model": Model,
    "data": Data,
    "bundle": Bundle,
    "card": Card,
    "quantize": Quantize,
    "verify": Verify,
    "search": Search,
    "reference": Reference,
    "uncertainty": Uncertainty,
    "sign": Sign,
}
REQUIRED = ("model", "data", "bundle")


def read(path: Path) -> Project:
    """Read a project file. ``ConfigFileError`` has all that is wrong with it."""
    _, tables = config.parse(path, hint="Run: limpet-convert init")
    with in_file(path):
        return build(tables, path.absolute())


def build(tables: Mapping[str, Any], file: Path) -> Project:
    """Turn parsed TOML into a ``Project``. ``ConfigError`` has all that is wrong with its form."""
    base = file.parent
    problems = [
        f"{name}: unknown table (there are: {', '.join([*TABLES, 'coreml'])})"
        for name in tables
        if name not in TABLES and name != "coreml"
    ]
    filled: dict[str, Any] = {}
    for name, kind in TABLES.items():
        if name not in tables and name in REQUIRED:
            problems.append(f"{name} is missing; every project has a table [{name}]")
        elif name == "sign" and name not in tables:
            filled[name] = None
        else:
            filled[name] = fill(kind, _table(tables, name, problems), name, base, problems)
    coreml = _table(tables, "coreml", problems)
    _fill_coreml(coreml, base, problems)
    problems += _files(filled)
    problems += _source(filled.get("data"))
    problems += _monitors(filled.get("reference"))
    if filled.get("bundle"):
        problems += _disagreements(filled["bundle"], filled.get("data"))
    if problems:
        raise ConfigError(problems)
    return Project(base=base, file=file, coreml=coreml, **filled)


def _table(tables: Mapping[str, Any], name: str, problems: list[str]) -> dict[str, Any]:
    table = tables.get(name, {})
    if isinstance(table, dict):
        return table
    problems.append(f"{name}: must be a table, as [{name}]")
    return {}


def _fill_coreml(table: dict[str, Any], base: Path, problems: list[str]) -> None:
    """Find what is wrong with the table now; the package is made last of all."""
    from limpet_convert.converters import coreml

    fill(coreml.Config, table, "coreml", base, problems)


def _files(filled: Mapping[str, Any]) -> list[str]:
    """Return which files are missing."""
    keys = {"model": ("path",), "data": ("calibration", "test", "targets", "groups"), "reference": ("data",)}
    named = {
        f"{name}.{key}": getattr(filled[name], key)
        for name, wanted in keys.items()
        for key in wanted
        if filled.get(name)
    }
    return [f"{key}: {path}: no such file or folder" for key, path in named.items() if path and not path.exists()]


def _monitors(reference: Reference | None) -> list[str]:
    """Return what is wrong with the options of monitors."""
    tables = reference.monitors if reference else {}
    return [
        problem
        for kind, options in tables.items()
        for problem in _options("monitors", kind, options, f"reference.monitors.{kind}")
    ]


def _source(data: Data | None) -> list[str]:
    """Return what is wrong with the options of the source. Its path is that of each recording."""
    if data is None:
        return []
    options = {key: value for key, value in data.source.items() if key != "kind"}
    return _options("sources", data.source.get("kind", "replay"), options | {"path": "recording"}, "data.source")


def _disagreements(bundle: Bundle, data: Data | None) -> list[str]:
    """Return what no single key shows: a task without what it needs."""
    problems = []
    if bundle.task in {"classify", "detect"} and not bundle.labels:
        problems.append(
            'bundle.labels: missing; one for each class of the model, in order, as ["idle", "walking"]'
        )
    if bundle.edgetpu and bundle.variant != "int8":
        problems.append('bundle.edgetpu: the Edge TPU takes int8 throughout; say variant = "int8"')
    if len(set(bundle.labels)) < len(bundle.labels):
        problems.append("bundle.labels: a label appears twice; each output needs its own name")
    if bundle.task == "anomaly" and bundle.decoder.get("kind") != "anomaly":
        problems.append('bundle.decoder: an anomaly task needs kind = "anomaly" and its threshold')
    if bundle.task == "detect":
        problems += _undetectable(data, bundle)
    return problems + _undecodable(bundle)


def _undecodable(bundle: Bundle) -> list[str]:
    """Return what is wrong with the tables behind the model, which the device would refuse."""
    groups: list[tuple[plugins.Group, Mapping[str, Any], str]] = [
        ("postprocess", table, f"bundle.postprocess[{number}]") for number, table in enumerate(bundle.postprocess)
    ]
    if bundle.decoder:
        groups.append(("decoders", bundle.decoder, "bundle.decoder"))
    problems = []
    for group, table, where in groups:
        options = {key: value for key, value in table.items() if key != "kind"}
        problems += _options(group, table.get("kind"), options, where)
    return problems


def _options(group: plugins.Group, kind: Any, options: Mapping[str, Any], where: str) -> list[str]:
    """Return what is wrong with the options of a plugin."""
    if not isinstance(kind, str):
        return [f"{where}.kind is missing{suggest('', plugins.names(group))}"]
    try:
        module = plugins.load(group, kind)
    except ConfigError as error:
        return [f"{where}.kind: {problem}" for problem in error.problems]
    problems: list[str] = []
    fill(module.Config, options, where, Path(), problems)
    return problems


def _undetectable(data: Data | None, bundle: Bundle) -> list[str]:
    problems = []
    if bundle.decoder.get("kind") != "detect":
        problems.append(
            'bundle.decoder: a detection task needs kind = "detect", and pixels if boxes are in pixels'
        )
    if data and (data.targets is None or data.targets.suffix != ".jsonl"):
        problems.append(
            "data.targets: a detection task needs a .jsonl file with a line for each test window, such as "
            '`[{"label": "dog", "box": [0.1, 0.2, 0.5, 0.9]}]`. A box is left, top, right, bottom, '
            "as fractions of the picture"
        )
    return problems

"""The project file, ``convert.toml``: how one model is converted, from its training framework to a bundle.

Like the agent's configuration it is TOML, typed, with unknown keys refused and every problem reported at once.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta

from limpet import plugins, text_file
from limpet.config import fill
from limpet.contracts.fields import Count, Positive, WindowSpec
from limpet.errors import ConfigError
from limpet.models.manifest import Name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Mapping

Variant: TypeAlias = Literal["float", "float16", "dynamic", "int8", "int16x8", "mixed"]
"""``dynamic``: int8 weights, float activations. ``int16x8``: int8 weights, int16 activations. ``mixed``: int8, but
for layers that cause too large an error."""

Observer: TypeAlias = Literal["minmax", "percentile", "mse"]
Share = Annotated[float, Meta(ge=0, le=1)]
Loss = Annotated[float, Meta(ge=0)]


class Model(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The trained model. ``kind`` names the converter, by default recognised by the file's name.

    ``options`` are the converter's own.
    """

    path: Path
    kind: str = ""
    options: dict[str, Any] = {}


class Data(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What calibrates and what is held back to verify with; each a recording or a folder of recordings.

    In a folder with sub-folders, a sub-folder's name is the label of what is in it. Otherwise ``targets`` is an
    ``.npy`` file with a class index, a number or, for anomalies, 0 or 1 for each window; for detection a
    ``.jsonl`` file, see ``detections.read_targets``. ``source`` holds the options of the device's source,
    ``groups`` an ``.npy`` file with a group's name for each test window. ``seen``: the model learnt from the test
    windows too, so they compare variants, and their metrics are not in the bundle.
    """

    calibration: Path
    test: Path
    targets: Path | None = None
    groups: Path | None = None
    seen: bool = False
    source: dict[str, Any] = msgspec.field(default_factory=lambda: {"kind": "replay"})
    samples: Count = 200
    golden: Count = 8


class Bundle(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What the manifest will say: see ``limpet.models.manifest``. ``labels`` are in order of the model's outputs.

    ``edgetpu``: compile the int8 model for the Edge TPU too, by the vendor's compiler. ``metrics``: what was
    measured before, such as by ``train``.
    """

    name: Name
    version: Annotated[int, Meta(ge=0)]
    task: Literal["classify", "regress", "anomaly", "detect"]
    description: str = ""
    licence: str = ""
    labels: list[str] = []
    channels: list[str] = []
    unit: str = ""
    rate: Positive | None = None
    stateful: bool | None = None
    window: WindowSpec = msgspec.field(default_factory=lambda: WindowSpec(size=1))
    transforms: list[dict[str, Any]] = []
    decoder: dict[str, Any] = {}
    variant: Variant = "int8"
    edgetpu: bool = False
    metrics: dict[str, Any] = {}


class Card(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What the model card says beside what was measured."""

    purpose: str = ""
    data: str = ""
    data_licence: str = ""
    limits: str = ""


class Quantize(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How ranges are chosen. ``percentile``: the share of values in percent that the range must hold."""

    variants: list[Variant] = msgspec.field(default_factory=lambda: ["int8"])
    observer: Observer = "minmax"
    percentile: Annotated[float, Meta(gt=50, le=100)] = 99.99


class Verify(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What the packaged variant must keep, or the exit status is 1.

    ``max_metric_loss`` in points (hundredths of the task's metric). ``max_size_ratio``: size divided by the float
    model's size. Without this key the size is reported, but is no reason to fail.
    ``min_metric``: what it must reach whatever the float model does, which two bad models do not that agree.
    """

    max_metric_loss: Loss = 1.0
    min_metric: float | None = None
    min_agreement: Share = 0.98
    max_size_ratio: Loss | None = None
    max_calibration_loss: Loss = 1.0


class Search(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Mixed precision: what to keep faulty layers in, and how many at most. The smallest solution is taken."""

    precisions: list[Literal["int16", "float"]] = msgspec.field(default_factory=lambda: ["int16", "float"])
    max_layers: Count = 8


class Sign(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """``key``: a private key's file, as ``keygen`` writes it, or ``agent:COMMENT`` for one of an ssh-agent."""

    key: str


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
    coreml: dict[str, Any]
    sign: Sign | None

    @property
    def build(self) -> Path:
        """Where everything that is made goes, unless the command says otherwise."""
        return self.base / "build"


_TABLES: dict[str, type[msgspec.Struct]] = {
    "model": Model,
    "data": Data,
    "bundle": Bundle,
    "card": Card,
    "quantize": Quantize,
    "verify": Verify,
    "search": Search,
    "sign": Sign,
}
_REQUIRED = ("model", "data", "bundle")


def read(path: Path) -> Project:
    """Read a project file. ``ConfigError`` has all that is wrong with it."""
    try:
        tables = tomllib.loads(text_file.read(path))
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror}"]) from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError([f"{path}: not TOML: {error}"]) from error
    return build(tables, path.absolute())


def build(tables: Mapping[str, Any], file: Path) -> Project:
    """Turn parsed TOML into a ``Project``. ``ConfigError`` has all that is wrong with its form."""
    base = file.parent
    problems = [
        f"{name}: unknown table (there are: {', '.join([*_TABLES, 'coreml'])})"
        for name in tables
        if name not in _TABLES and name != "coreml"
    ]
    filled: dict[str, Any] = {}
    for name, kind in _TABLES.items():
        if name not in tables and name in _REQUIRED:
            problems.append(f"{name} is missing; every project has a table [{name}]")
        elif name == "sign" and name not in tables:
            filled[name] = None
        else:
            filled[name] = fill(kind, _table(tables, name, problems), name, base, problems)
    coreml = _table(tables, "coreml", problems)
    _fill_coreml(coreml, base, problems)
    if not problems:
        problems += _disagreements(filled["data"], filled["bundle"], filled["model"])
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


def _disagreements(data: Data, bundle: Bundle, model: Model) -> list[str]:
    """Return what no single key shows: files that are not there, a task without what it needs."""
    named = {"model.path": model.path, "data.calibration": data.calibration, "data.test": data.test}
    named |= {"data.targets": data.targets} if data.targets else {}
    named |= {"data.groups": data.groups} if data.groups else {}
    problems = [f"{key}: {path}: no such file or folder" for key, path in named.items() if not path.exists()]
    if bundle.task in {"classify", "detect"} and not bundle.labels:
        problems.append(
            'bundle.labels: missing; one for each class of the model, in order, as ["idle", "walking"]'
        )
    if bundle.edgetpu and bundle.variant != "int8":
        problems.append('bundle.edgetpu: the Edge TPU takes int8 throughout; say variant = "int8"')
    if len(set(bundle.labels)) < len(bundle.labels):
        problems.append("bundle.labels: one is there twice; each output needs a name of its own")
    if bundle.task == "anomaly" and bundle.decoder.get("kind") != "anomaly":
        problems.append('bundle.decoder: an anomaly task needs kind = "anomaly" and its threshold')
    if bundle.task == "detect":
        problems += _undetectable(data, bundle)
    return problems + _undecodable(bundle)


def _undecodable(bundle: Bundle) -> list[str]:
    """Return what is wrong with the decoder's table, which the device would refuse."""
    if not bundle.decoder:
        return []
    kind = bundle.decoder.get("kind")
    try:
        module = plugins.load("decoders", str(kind))
    except ConfigError as error:
        return [f"bundle.decoder.kind: {problem}" for problem in error.problems]
    problems: list[str] = []
    options = {key: value for key, value in bundle.decoder.items() if key != "kind"}
    fill(module.Config, options, "bundle.decoder", Path(), problems)
    return problems


def _undetectable(data: Data, bundle: Bundle) -> list[str]:
    problems = []
    if bundle.decoder.get("kind") != "detect":
        problems.append(
            'bundle.decoder: a detection task needs kind = "detect", and pixels if boxes are in pixels'
        )
    if data.targets is None or data.targets.suffix != ".jsonl":
        problems.append(
            "data.targets: a detection task needs a .jsonl file, a line for each test window, as "
            '[{"label": "dog", "box": [0.1, 0.2, 0.5, 0.9]}]: left, top, right, bottom as fractions of the picture'
        )
    return problems

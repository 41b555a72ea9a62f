"""A module is a plugin: its file name is the ``kind`` in the configuration.

Built-in plugins are the modules of ``limpet.GROUP``; third parties register theirs as an entry point named
after the kind in the group ``limpet.GROUP``. Each has ``Config``, a msgspec struct with what may be configured,
and ``open``, whose form is that of its group (see the protocols here). A module may leave out what else a protocol
names: ``load`` puts the default in its place. The contract suite of each group, under tests/, holds every
plugin to it.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import msgspec

from limpet.errors import ConfigError

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from importlib import metadata
    from pathlib import Path

    from limpet.accelerators.delegate_kinds import Choice
    from limpet.contracts.data import Array, FloatArray, Rows, Samples, SampleSpec, TensorSpec
    from limpet.contracts.messages import (
        DeviceHealth,
        EventMessage,
        Message,
        ModelReported,
        Origin,
        PipelineHealth,
        Reply,
        ResultMessage,
    )
    from limpet.contracts.model_facts import ModelFacts
    from limpet.inference.plan import PipelinePlan
    from limpet.reporters.dialects import Publish

Group: TypeAlias = Literal["sources", "framings", "transforms", "runtimes", "decoders", "reporters", "dialects"]

_PACKAGES: dict[Group, str] = {"framings": "limpet.sources.framings", "dialects": "limpet.reporters.dialects"}

_DISTRIBUTIONS = {"google": "protobuf"}
"""Distributions that modules come from that are not called like them."""


class SourceNeeds(msgspec.Struct, frozen=True, kw_only=True):
    """What the sandbox of a source's worker leaves open: ``devices`` in ``/dev``, connections to a ``network``.

    Files that its ``Config`` names can always be read.
    """

    devices: bool = False
    network: bool = False


class Source(Protocol):
    """Where samples come from. ``describe`` must work while the device is away."""

    Config: Any

    def needs(self, config: Any) -> SourceNeeds:
        """Say what its sandbox leaves open. Default: devices, and no network."""

    def describe(self, config: Any) -> SampleSpec:
        """Say what its samples are. ``ConfigError`` where the configuration cannot be right."""

    def open(self, config: Any, dropped: Counter[str]) -> AbstractContextManager[Iterator[Samples]]:
        """Open it. The iterator yields at least once a second, no samples if there are none.

        A block without samples may say in its ``note`` why there are none; the pipelines then wait. It counts what
        it must drop by cause. ``SourceError`` from here or from the iterator means that the
        device is away and is to be opened again later; the iterator's end means the source's end.
        """


class Transform(Protocol):
    """Windows to model input. ``shape`` and ``dtype`` of what it returns are known before data flow."""

    shape: tuple[int, ...]
    dtype: Any

    def __call__(self, values: Array) -> Array:
        """Return what the model, or the next transform, sees; valid until the next call."""


class TransformPlugin(Protocol):
    """``ValueError`` from ``open`` says why it cannot work on such windows.

    A module with ``ELEMENTWISE = True`` says that of its result each number depends on the number in its place and
    its channel alone, so that it may be opened for, and be given, many windows in one array, along an axis more.

    A module with ``KEEPS_RANGE = True`` says that its result is in the unit and the range of what it gets, so that
    a model may take it as integers that are not quantized, rounded.
    """

    Config: Any
    ELEMENTWISE: bool
    KEEPS_RANGE: bool

    def open(self, config: Any, spec: SampleSpec, shape: tuple[int, ...]) -> Transform:
        """``shape`` is that of the arrays that it will get, ``spec`` that of the source's samples."""


class Model(Protocol):
    """A loaded model. Used by one thread."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @property
    def delegate(self) -> str:
        """The name of the delegate that it is on."""

    @property
    def delegate_share(self) -> float:
        """Share of its ops that the delegate runs, 0 to 1."""

    def run(self, inputs: Sequence[Array]) -> Sequence[Array]:
        """Run once. Inputs and outputs are real values (float) where the tensor is quantized.

        Outputs are valid until the next call. ``ModelError`` where the runtime refuses.
        """

    def reset(self) -> None:
        """Forget earlier inputs, for a model with state."""


class Load(Protocol):
    """How a pipeline comes by its model."""

    def __call__(
        self, plan: PipelinePlan, shapes: Sequence[tuple[int, ...]] | None
    ) -> AbstractContextManager[Model]:
        """Load it, inputs resized to ``shapes`` where given. ``ModelError``."""


class RuntimePlugin(Protocol):
    """Who executes the model."""

    Config: Any

    def check(self, path: Path, delegates: Sequence[str]) -> list[str]:
        """Return why a model cannot be run here on these delegates, without loading it. Default: none."""

    def describe(self, path: Path, config: Any) -> ModelFacts | None:
        """Return what the model's file says, without loading it. ``ModelError``. Default: ``None``, unknown."""

    def open(
        self, path: Path, config: Any, delegate: Choice, shapes: Sequence[tuple[int, ...]] | None
    ) -> AbstractContextManager[Model]:
        """Load the model file on one delegate, inputs resized to ``shapes`` where given. ``ModelError``."""


class Decoder(Protocol):
    """Output tensors to meaning."""

    def __call__(self, outputs: Sequence[FloatArray], inputs: Sequence[FloatArray]) -> Any:
        """Return a mapping, or a struct that encodes as one. ``inputs`` are what the model was given.

        A decoder may have ``many`` too, which takes the same with a batch of windows in front and returns a list.
        """


class DecoderPlugin(Protocol):
    """``ValueError`` from ``open`` says why it cannot decode such outputs.

    A module with ``READS_INPUTS = False`` says that its decoders do not look at what the model was given.
    """

    Config: Any
    READS_INPUTS: bool

    def open(self, config: Any, outputs: Sequence[TensorSpec], labels: Sequence[str]) -> Decoder:
        """Prepare to decode the model's ``outputs`` with the bundle's ``labels``."""


class Framing(Protocol):
    """Bytes of a serial line to rows of channel values, without I/O.

    ``modulo``: the node's sequence counter goes from ``modulo - 1`` to 0; ``None`` if it never wraps.
    """

    modulo: int | None

    def feed(self, data: bytes) -> Rows:
        """Take the bytes that came, in pieces of any size, and return the rows that they complete.

        It never raises, counts what it cannot read by cause, and keeps no more than one frame.
        """


class FramingPlugin(Protocol):
    """``ValueError`` from ``open`` says why it cannot read such channels."""

    Config: Any

    def open(self, config: Any, channels: Sequence[str], dropped: Counter[str]) -> Framing:
        """Start anew, as after opening a port: the first frame may be the rest of one."""


class Reporter(Protocol):
    """Where messages go. It batches, queues and sends on a thread of its own."""

    def report(self, message: Message) -> None:
        """Take a message. Called by the supervisor's main thread; never blocks, never raises."""

    def health(self) -> dict[str, Any]:
        """Return its own figures for the device's health."""


class Command(Protocol):
    """A request that came to a reporter from outside. ``payload`` is not to be trusted."""

    name: str
    payload: bytes

    def reply(self, reply: Reply) -> None:
        """Send the answer to who asked. Never blocks, never raises; called at most once, from any thread."""


class ReporterPlugin(Protocol):
    """``open``'s context manager sends what it can in a few seconds when it is left."""

    Config: Any

    def check(self, config: Any, state: Path) -> None:
        """Raise ``ConfigError`` where ``open`` would, without opening anything. Default: nothing is checked.

        A reporter whose options changed is closed only if this finds nothing.
        """

    def open(
        self, config: Any, origin: Origin, state: Path, obey: Callable[[Command], None] | None
    ) -> AbstractContextManager[Reporter]:
        """Open it. ``ConfigError``, never ``TransportError``.

        ``state`` is a directory for what must survive a reboot. ``obey`` takes a command from any thread and
        answers it later, or at once where it refuses it.
        """


class Dialect(Protocol):
    """How messages are told over MQTT, without I/O. All calls come from one thread.

    What the calls return is published in that order, and nothing else in between of the same dialect. A call may
    return nothing. ``subscriptions`` are topics that it wants to hear, with QoS 1, on each connection.
    ``reserved`` are roots of topics on which other systems act, so that no reply to a command may go there.
    """

    subscriptions: tuple[str, ...]
    reserved: tuple[str, ...]

    def connecting(self, protocol: Literal["5", "3.1.1"]) -> Publish | None:
        """Return the last will for the connection now tried; none: that of the topic ``status`` will do."""

    def connected(self) -> list[Publish]:
        """Return what to say first on a new connection, after subscribing. What was unsent before is void."""

    def results(self, results: Sequence[ResultMessage]) -> list[Publish]:
        """Tell results of one pipeline, at least one, oldest first. Their outputs are as decoded from JSON."""

    def event(self, event: EventMessage) -> list[Publish]:
        """Tell an event."""

    def state(self, message: PipelineHealth | DeviceHealth | ModelReported) -> list[Publish]:
        """Tell a state; it replaces the one before."""

    def received(self, topic: str, payload: bytes) -> list[Publish]:
        """Answer what came on one of the subscriptions; it is not to be trusted."""

    def leaving(self) -> list[Publish]:
        """Return what to say last before a clean end."""


class DialectPlugin(Protocol):
    """A language that messages are told in over MQTT.

    ``root`` is ``limpet/DEVICE``, where its topics begin unless a standard says where.
    """

    Config: Any

    def open(self, config: Any, origin: Origin, root: str) -> Dialect:
        """Begin as after a start of the daemon: nothing is known yet."""


_DEFAULTS: dict[Group, dict[str, Any]] = {
    "sources": {"needs": lambda _config: SourceNeeds(devices=True)},
    "transforms": {"ELEMENTWISE": False, "KEEPS_RANGE": False},
    "runtimes": {"check": lambda _path, _delegates: [], "describe": lambda _path, _config: None},
    "decoders": {"READS_INPUTS": True},
    "reporters": {"check": lambda _config, _state: None},
}
"""What stands in the place of what a module of a group leaves out."""


def _package(group: Group) -> str:
    return _PACKAGES.get(group, f"limpet.{group}")


def built_in(group: Group) -> list[str]:
    """Return the kinds that come with Limpet."""
    package = importlib.import_module(_package(group))
    modules = pkgutil.iter_modules(package.__path__)
    return [module.name for module in modules if not (module.ispkg or module.name.startswith("_"))]


def _others(group: Group) -> dict[str, metadata.EntryPoint]:
    """Return third parties' kinds. Looking through all that is installed takes tens of milliseconds."""
    from importlib import metadata

    return {entry.name: entry for entry in metadata.entry_points(group=_package(group))}


def names(group: Group) -> list[str]:
    """Return the kinds there are in a group, third parties' among them."""
    return sorted({*built_in(group), *_others(group)})


def load(group: Group, kind: str) -> Any:
    """Import the plugin ``kind`` of ``group``, and put defaults in the place of what it leaves out.

    ``ConfigError`` says that there is none, or which extra it lacks.
    """
    module = _import(group, kind)
    for name, default in _DEFAULTS.get(group, {}).items():
        vars(module).setdefault(name, default)
    return module


def _import(group: Group, kind: str) -> Any:
    if kind not in built_in(group):
        others = _others(group)
        if kind in others:
            return others[kind].load()
        raise ConfigError([f"{kind!r} is not one of the {group}{suggest(kind, names(group))}"])
    try:
        return importlib.import_module(f"{_package(group)}.{kind}")
    except ModuleNotFoundError as error:
        raise ConfigError([_missing(group, kind, error.name or "")]) from error


def suggest(word: str, known: Iterable[str]) -> str:
    """Return the end of a sentence: the known word that was probably meant, or all of them."""
    import difflib

    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1)
    if close:
        return f" (did you mean {close[0]!r}?)"
    return f" (there are: {', '.join(known)})" if known else ""


def _missing(group: Group, kind: str, module: str) -> str:
    """Say what to install so that ``module`` is there."""
    from importlib import metadata

    package = module.partition(".")[0]
    distribution = _DISTRIBUTIONS.get(package, package.replace("_", "-"))
    for requirement in metadata.requires("limpet") or []:
        name, _, marker = requirement.partition(";")
        if name.startswith(distribution) and "extra ==" in marker:
            extra = marker.rpartition("extra ==")[2].strip(" '\"")
            return f"{group} {kind!r} needs the extra {extra!r}: pip install 'limpet[{extra}]'"
    return f"{group} {kind!r} needs the Python module {module!r}, which is not installed"

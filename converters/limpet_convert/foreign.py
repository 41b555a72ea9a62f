"""Checks a foreign model before a library opens it: whether it would run code or read files.

This refuses early and says why. It is not the border: that is the sandbox of ``jail``.
"""

from __future__ import annotations

import os
import re
import stat
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from limpet.errors import UnreadableError
from limpet.models.protobuf import ProtobufMessage
from limpet.untrusted import read_file, reading
from limpet_convert.errors import ConvertError

if TYPE_CHECKING:
    from collections.abc import Iterator

_GRAPH = 1 << 31
"""Bytes of a protobuf message: no library reads a larger one."""
_MOST_FILES = 10_000
_UNPACKED, _RATIO = 1 << 30, 100
"""An archive that unpacks to more than this many bytes, and to more than so many times its size, is a bomb."""

_SAVER = re.compile(r"SaveV2|RestoreV2|MergeV2Checkpoints|ShardedFilename|Save|SaveSlices|Restore|RestoreSlice")
_SAVER_FUNCTION = re.compile(r"__inference__traced_(save|restore)_\d+")
_SAVER_NODE = re.compile(r"save(_\d+)?/.*")
_OUTSIDE = re.compile(
    r"""(Eager)?PyFunc(Stateless)? | WriteFile | ReadFile | MatchingFiles | FileSystemSetConfiguration
    | .*Dataset.* | .*Reader(V2)? | Reader.* | RecordInput | LMDB.* | ImmutableConst | LoadAndRemapMatrix
    | GenerateVocabRemapping | InitializeTableFromTextFile(V2)? | CalibrationStatisticsSaver | CustomAggregator
    | DistributedSave | DTensor.* | CreateSummary.* | Write\w*Summary | .*SummaryWriter | Debug(?!Gradient).*
    | Copy | CopyHost | Rpc.* | DeleteRpc.* | RemoteCall | _?(Host)?(Send|Recv) | Collective.* | .*TPU.* | .*TRT.*
    | .*(Custom|Host)(Call|Compute).* | Experimental.* | (Gcs|BigQuery|Bigtable|Kafka|Pubsub|S3).*""",
    re.VERBOSE,
)
"""TensorFlow's ops that run Python, or touch files, other processes or the network."""
_SHOWN, _LONGEST_NAME = 10, 100
"""Ops that a message names at most, and characters of each."""
_DOMAINS = {"", "ai.onnx", "ai.onnx.ml", "ai.onnx.preview.training", "com.microsoft"}


def refuse(path: Path) -> tuple[Path, ...]:
    """Return the files and folders that reading a model takes. ``ConvertError`` says what is wrong with it."""
    try:
        return _looked_over(path)
    except UnreadableError as error:
        raise ConvertError(str(error)) from error


def _looked_over(path: Path) -> tuple[Path, ...]:
    if path.is_dir():
        refuse_links(path)
        if is_saved_model(path):
            refuse_ops(path)
        return (path,)
    if not stat.S_ISREG(path.stat().st_mode):
        raise ConvertError(f"{path}: not a regular file")
    if path.suffix == ".onnx":
        return (path, *external_data(path))
    if zipfile.is_zipfile(path):
        refuse_bomb(path)
    return (path,)


def refuse_links(folder: Path) -> None:
    """Raise ``ConvertError`` where a model's folder holds links, or anything but files and folders."""
    count = 0
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(parent) / name
            count += 1
            mode = path.lstat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise ConvertError(
                    f"{path}: a link or a special file; a model's folder holds plain files. Copy them there"
                )
            if count > _MOST_FILES:
                raise ConvertError(f"{folder}: more than {_MOST_FILES} files in it; this is no model's folder")


def refuse_bomb(path: Path) -> None:
    """Raise ``ConvertError`` where an archive unpacks to far more than it has."""
    with reading(f"{path}"), zipfile.ZipFile(path) as archive:
        unpacked = sum(info.file_size for info in archive.infolist())
    packed = path.stat().st_size
    if unpacked > _UNPACKED and unpacked > _RATIO * packed:
        raise ConvertError(f"{path}: {packed:,} bytes that unpack to {unpacked:,}; it is not opened")


def is_saved_model(folder: Path) -> bool:
    """Return whether a folder is a TensorFlow SavedModel, in any of the forms that TensorFlow reads."""
    return any((folder / f"saved_model.{ending}").is_file() for ending in ("pb", "pbtxt", "cpb"))


class SavedModel:
    """The graphs of a SavedModel, read without TensorFlow. ``UnreadableError``."""

    def __init__(self, folder: Path) -> None:
        path = folder / "saved_model.pb"
        for other in ("pbtxt", "cpb"):
            if (folder / f"saved_model.{other}").exists():
                raise UnreadableError(f"{folder}: saved_model.{other} is not supported; save it as saved_model.pb")
        data = read_file(path, _GRAPH)
        try:
            with reading("it"):
                self.graphs = [_MetaGraph(meta) for meta in ProtobufMessage(data).messages(2)]
        except UnreadableError as error:
            raise UnreadableError(f"{path}: not a whole SavedModel: {error}") from error


class _Node:
    """``functions``: those that its attributes name."""

    def __init__(self, node: ProtobufMessage) -> None:
        self.name, self.op = node.text(1), node.text(2)
        self.inputs = [name.lstrip("^").partition(":")[0] for name in node.texts(3)]
        self.attributes = {entry.text(1): entry.message(2) for entry in node.messages(5)}
        values = list(self.attributes.values())
        functions = [f for value in values for f in (*value.messages(10), *value.message(1).messages(9))]
        self.functions = {self.op, *(function.text(1) for function in functions)}


class _MetaGraph:
    """``functions``: the nodes of each. ``saver``: the nodes that TensorFlow saves and restores by."""

    def __init__(self, meta: ProtobufMessage) -> None:
        graph = meta.message(2)
        self.nodes = [_Node(node) for node in graph.messages(1)]
        self.functions = {
            function.message(1).text(1): [_Node(node) for node in function.messages(3)]
            for function in graph.message(2).messages(1)
        }
        saver = meta.message(3)
        self.saver = {saver.text(number).partition(":")[0] for number in (2, 3)} - {""}
        self.signatures = {entry.text(1): _Signature(entry.message(2)) for entry in meta.messages(5)}
        self.objects = {entry.text(1) for entry in meta.message(7).messages(2)}


class _Signature:
    def __init__(self, signature: ProtobufMessage) -> None:
        self.inputs = {entry.text(1): _Tensor(entry.message(2)) for entry in signature.messages(1)}
        self.outputs = {entry.text(1): _Tensor(entry.message(2)) for entry in signature.messages(2)}


class _Tensor:
    """``node`` makes it; ``shape`` has -1 for what may vary; ``dtype`` is TensorFlow's number."""

    def __init__(self, info: ProtobufMessage) -> None:
        self.node = info.text(1).partition(":")[0]
        self.dtype = info.number(2)
        self.shape = [size.number(1) for size in info.message(3).messages(2)]


def refuse_ops(folder: Path) -> None:
    """Raise ``ConvertError`` where a SavedModel's graphs hold ops that reach outside the model."""
    for graph in SavedModel(folder).graphs:
        for where, node in _reaching(graph):
            raise ConvertError(
                f"{folder}: the op {node.op} ({node.name}{where}) reads or writes outside the model, or runs "
                "Python. The model was not opened. Save it without this op"
            )


def _reaching(graph: _MetaGraph) -> Iterator[tuple[str, _Node]]:
    savers = {name for name in graph.functions if _SAVER_FUNCTION.fullmatch(name)}
    if graph.objects & savers:  # An object could call it with another file's name.
        savers = set()
    for node in graph.nodes:
        v1 = _SAVER_NODE.fullmatch(node.name) is not None and not graph.functions
        calls = not savers.isdisjoint(node.functions) and node.name not in graph.saver
        if calls or _reaches(node, saver=v1):
            yield "", node
        if graph.saver & set(node.inputs) and _SAVER_NODE.fullmatch(node.name) is None and not _ends(node, graph):
            yield "", node
    for name, nodes in graph.functions.items():
        for node in nodes:
            if _reaches(node, saver=name in savers) or not savers.isdisjoint(node.functions):
                yield f" in {name}", node


def _ends(node: _Node, graph: _MetaGraph) -> bool:
    """Return whether a node only ends a save or a restore."""
    return node.op in {"Identity", "NoOp"} and not any(
        node.name == tensor.node
        for signature in graph.signatures.values()
        for tensor in signature.outputs.values()
    )


def _reaches(node: _Node, *, saver: bool) -> bool:
    if node.op == "PrintV2":
        stream = node.attributes.get("output_stream")
        return stream is not None and stream.text(2).startswith("file:")
    return _OUTSIDE.fullmatch(node.op) is not None or (_SAVER.fullmatch(node.op) is not None and not saver)


class Onnx:
    """An ONNX model's graphs, read without onnx. ``UnreadableError``."""

    def __init__(self, path: Path) -> None:
        data = read_file(path.resolve(), _GRAPH)
        try:
            with reading("it"):
                self.model = ProtobufMessage(data)
                self.graph = self.model.message(7)
                self.nodes = list(_onnx_nodes(self.graph))
                for function in self.model.messages(25):
                    self.nodes += [n for node in function.messages(7) for n in _nested(node)]
        except UnreadableError as error:
            raise UnreadableError(f"{path}: not a whole ONNX model: {error}") from error

    def input_sizes(self) -> dict[str, list[int | None] | None]:
        """Return the shape of each input, ``None`` for an open size, or in place of a shape that is unknown."""
        constants = {constant.text(8) for constant in self.graph.messages(5)}
        return {
            value.text(1): _sizes(value) for value in self.graph.messages(11) if value.text(1) not in constants
        }

    def tensors(self) -> Iterator[ProtobufMessage]:
        """Yield the constants, those in attributes and in nested graphs too."""
        graphs = [self.graph, *(g for training in self.model.messages(20) for g in training.messages(1))]
        for graph in graphs:
            yield from _onnx_tensors(graph)
        for node in self.nodes:
            yield from _attribute_tensors(node)


def _sizes(value: ProtobufMessage) -> list[int | None] | None:
    shapes = value.message(2).message(1).messages(2)
    if not shapes:
        return None
    sizes = [size.number(1) for size in shapes[0].messages(1)]
    return [size if 0 < size < 1 << 31 else None for size in sizes]


def _onnx_tensors(graph: ProtobufMessage) -> Iterator[ProtobufMessage]:
    yield from graph.messages(5)
    for sparse in graph.messages(15):
        yield from (*sparse.messages(1), *sparse.messages(2))


def _attribute_tensors(node: ProtobufMessage) -> Iterator[ProtobufMessage]:
    for attribute in node.messages(5):
        yield from (*attribute.messages(5), *attribute.messages(10))
        for graph in (*attribute.messages(6), *attribute.messages(11)):
            yield from _onnx_tensors(graph)


def _onnx_nodes(graph: ProtobufMessage) -> Iterator[ProtobufMessage]:
    for node in graph.messages(1):
        yield from _nested(node)


def _nested(node: ProtobufMessage) -> Iterator[ProtobufMessage]:
    yield node
    for attribute in node.messages(5):
        for graph in (*attribute.messages(6), *attribute.messages(11)):
            yield from _onnx_nodes(graph)


def external_data(path: Path) -> list[Path]:
    """Return the files beside an ONNX model that hold its constants.

    ``ConvertError`` where one is elsewhere, or an op is of a domain that is not ONNX's.
    """
    model = Onnx(path)
    custom = [node for node in model.nodes if node.text(7) not in _DOMAINS | _local_domains(model)]
    if custom:
        names = sorted({ascii(f"{node.text(7)}.{node.text(4)}")[1:-1][:_LONGEST_NAME] for node in custom})[:_SHOWN]
        raise ConvertError(
            f"{path}: ops that only their maker's library runs: {', '.join(names)}; export the model without them"
        )
    found: dict[str, Path] = {}
    for tensor in model.tensors():
        for entry in tensor.messages(13):
            if entry.text(1) == "location":
                found[entry.text(2)] = _beside(path, entry.text(2))
    return list(found.values())


def _local_domains(model: Onnx) -> set[str]:
    """Return the domains of functions that the model itself defines of other ops."""
    return {function.text(10) for function in model.model.messages(25)}


def _beside(path: Path, location: str) -> Path:
    """Return a file of external data. ``ConvertError`` unless it is a plain file in the model's folder."""
    folder = path.parent.resolve()
    wanted = Path(location)
    target = folder / wanted
    if not location or "\0" in location or wanted.is_absolute() or ".." in wanted.parts:
        raise ConvertError(
            f"{path}: its data have the location {location!r}, outside its folder; they are not read"
        )
    if not target.is_file() or target.resolve() != target:
        raise ConvertError(f"{path}: its data have the location {location!r}, where no plain file is")
    return target

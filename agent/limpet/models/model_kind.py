"""Which kind of model a file or a folder is, found by its content and not by its name. No library opens it."""

from __future__ import annotations

import mmap
import re
import zipfile
from typing import TYPE_CHECKING

import msgspec

from limpet.errors import LimpetError
from limpet.models.archive import opened
from limpet.models.protobuf import ProtobufMessage
from limpet.untrusted import reading

if TYPE_CHECKING:
    from pathlib import Path

_HEAD = 64
_COREML_TYPES = 200
"""From this field on, a Core ML message says which type of model it holds."""


class ModelKind(msgspec.Struct, frozen=True):
    """``words`` say what it is. ``reader``: the command that reads it, empty if none does."""

    name: str
    words: str
    reader: str = "limpet-convert inspect"


TFLITE = ModelKind("tflite", "a TFLite model", "limpet inspect")
BUNDLE = ModelKind("bundle", "a bundle", "limpet inspect")
ONNX = ModelKind("onnx", "an ONNX model")
MLMODEL = ModelKind("mlmodel", "a Core ML model")
MLPACKAGE = ModelKind("mlpackage", "a Core ML package")
COMPILED = ModelKind("mlmodelc", "a compiled Core ML model, which only macOS reads; use the .mlpackage", "")
KERAS = ModelKind("keras", "a Keras model")
KERAS_H5 = ModelKind("keras_h5", "a Keras model or weights in HDF5", "limpet-convert convert")
SAVED_MODEL = ModelKind("saved_model", "a TensorFlow SavedModel")
EXPORTED = ModelKind("exported", "an exported program of PyTorch")
TRACED = ModelKind("traced", "a traced model of PyTorch", "limpet-convert convert")
STATE_DICT = ModelKind(
    "weights", "weights of PyTorch without a program; export the model with torch.export.save", ""
)
PICKLE = ModelKind("pickle", "a pickle, which can hold code and is not opened", "")
ARCHIVE = ModelKind("archive", "a zip archive, but none of a model that Limpet knows", "")
FOLDER = ModelKind("folder", "a folder, but none of a model that Limpet knows", "")
SPECIAL = ModelKind("special", "neither a file nor a folder", "")
EMPTY = ModelKind("empty", "an empty file", "")
UNKNOWN = ModelKind("unknown", "no model that Limpet knows", "")


def of(path: Path) -> ModelKind:
    """Return the kind of a file or folder. ``OSError`` if it is not there."""
    if path.is_dir():
        return _folder(path)
    if path.exists() and not path.is_file():  # Opening a FIFO can block without end.
        return SPECIAL
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if head.startswith(b"PK") or (head[4:8] != b"TFL3" and zipfile.is_zipfile(path)):
        return _archive(path)
    return _marked(head) or _message(path)


def _marked(head: bytes) -> ModelKind | None:
    """Return the kind of a file by its first bytes, ``None`` if they show none."""
    if not head:
        return EMPTY
    if head[4:8] == b"TFL3":
        return TFLITE
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return KERAS_H5
    return PICKLE if re.match(rb"\x80[\x02-\x05]", head) else None


def _folder(path: Path) -> ModelKind:
    if any((path / f"saved_model.{ending}").exists() for ending in ("pb", "pbtxt", "cpb")):
        return SAVED_MODEL
    if (path / "Manifest.json").exists() and (path / "Data").is_dir():
        return MLPACKAGE
    return COMPILED if (path / "coremldata.bin").exists() else FOLDER


def _archive(path: Path) -> ModelKind:
    try:
        with reading(str(path)), opened(path) as archive:
            names = archive.namelist()
    except LimpetError:
        return ModelKind("archive", "a damaged zip archive", "")
    if "manifest.json" in names:
        return BUNDLE
    inner = {name.partition("/")[2] for name in names}
    if "config.json" in names and "model.weights.h5" in names:
        return KERAS
    if "archive_format" in inner or any(name.startswith(("models/", "serialized_")) for name in {*inner, *names}):
        return EXPORTED
    if any(name.startswith("code/") for name in inner):
        return TRACED
    return STATE_DICT if "data.pkl" in inner else ARCHIVE


def _message(path: Path) -> ModelKind:
    """Distinguish ONNX and Core ML by the fields of the message, as their files have no magic number."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _fields(bytes(data))
    except (LimpetError, ValueError, OSError):
        return UNKNOWN


def _fields(data: bytes) -> ModelKind:
    with reading("it"):
        message = ProtobufMessage(data)
        if message.number(1) and message.spans(7) and message.spans(8):
            return ONNX
        if message.number(1) and message.spans(2) and any(n >= _COREML_TYPES for n in message.present):
            return MLMODEL
    return UNKNOWN


def refused(path: Path, kind: ModelKind) -> str:
    """Return a sentence: what it is, and which command reads it."""
    return f"{path}: {kind.words}" + (f": {kind.reader} reads it" if kind.reader else "")


def by_content(path: Path, kind: ModelKind, folder: Path) -> Path:
    """Return a path with the suffix of a TFLite model or a bundle, if need be that of a link in ``folder``."""
    suffix = {TFLITE: ".tflite", BUNDLE: ".limpet"}[kind]
    if path.suffix == suffix:
        return path
    link = folder / f"{path.name}{suffix}"
    link.symlink_to(path.resolve())
    return link

"""ONNX models, through onnx2tf, which lives in an environment of its own that this module makes and keeps.

onnx2tf pins another numpy and TensorFlow than the rest can live with. The environment is made once, from the
locked list in ``locks/onnx2tf.txt``, under the user's cache; a package index is needed that once only.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from limpet_convert.converters import _onnx_names
from limpet_convert.errors import ConvertError
from limpet_convert.graph import Graph

SUFFIXES = (".onnx",)
LOCK = Path(__file__).parent.parent / "locks" / "onnx2tf.txt"
_TEXT = 400
_CALIBRATION = "calibration_image_sample_data_20x128x128x3_float32.npy"


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """``shape`` of the input with the batch, where the model leaves it open. ``layout`` of the model made.

    onnx2tf turns channels-first into channels-last, as windows have them; ``as_is`` keeps the input's order.
    """

    shape: list[int] | None = None
    layout: str = "channels_last"


def convert(path: Path, config: Config) -> bytes:
    """Return the model as float TFLite. ``ConvertError`` where it is damaged or onnx2tf cannot express it."""
    model, names = _read(path)
    if config.shape and len(names) != 1:
        raise ConvertError(f"{path}: options.shape is for a model with one input; this one has {', '.join(names)}")
    python = environment()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        # Without this file onnx2tf downloads one, although it is for its own quantization only.
        np.save(work / _CALIBRATION, np.zeros((20, 128, 128, 3), np.float32))
        command = [str(python), "-m", "onnx2tf", "-i", str(path.absolute()), "-o", "out", "-n", "-v", "error"]
        if config.shape:
            command += ["-ois", f"{names[0]}:{','.join(map(str, config.shape))}"]
        if config.layout == "as_is":
            command += ["-kat", *names]
        quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0", "CUDA_VISIBLE_DEVICES": ""}
        done = subprocess.run(
            command, cwd=work, env=os.environ | quiet, capture_output=True, text=True, check=False
        )
        made = sorted((work / "out").glob("*_float32.tflite"))
        if not made:
            raise ConvertError(f"{path}: onnx2tf cannot express it: {_reason(done.stdout + done.stderr)}")
        plain = made[0].read_bytes()
    _refuse_flex(plain, model, path)
    try:
        return _onnx_names.named(plain, model, channels_last=config.layout != "as_is")
    except ConvertError as error:
        raise ConvertError(f"{path}: {error}") from error


def _refuse_flex(model: bytes, source: Any, path: Path) -> None:
    """Raise ``ConvertError`` where an op is TensorFlow's own, which no TFLite runtime here has."""
    flex = [op.kind.removeprefix("Flex") for op in Graph(model).ops if op.kind.startswith("Flex")]
    if flex:
        nodes = [f"{n.name or n.output[0]} ({n.op_type})" for n in source.graph.node if _makes(n, flex)]
        where = f" in {', '.join(nodes)}" if nodes else ""
        raise ConvertError(
            f"{path}: TFLite has no op for {', '.join(flex)}{where}; write it with other ops, or compute it in "
            "the pipeline's transforms or decoder"
        )


def _makes(node: Any, flex: list[str]) -> bool:
    """Tell whether an ONNX op became one of these: TensorFlow's name is the longer form of ONNX's."""
    return any(node.op_type.lower() in kind.lower() for kind in flex)


def _reason(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if "ERROR" in line.upper() or "not" in line.lower()]
    return (telling or lines or ["no reason given"])[0][:_TEXT]


def _read(path: Path) -> tuple[Any, list[str]]:
    """Return the model and the names of its inputs, having looked whether the file is whole."""
    try:
        import onnx
    except ModuleNotFoundError as error:
        raise ConvertError("onnx is not installed; it comes with: pip install 'limpet[convert-onnx]'") from error
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf's and onnx's own, none of a common kind.
        text = str(error).strip().splitlines() or [type(error).__name__]
        raise ConvertError(f"{path}: not a whole ONNX model: {text[0]}") from error
    constants = {one.name for one in model.graph.initializer}
    return model, [one.name for one in model.graph.input if one.name not in constants]


def environment() -> Path:
    """Return the Python of onnx2tf's environment, making it where it is not there yet."""
    digest = hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "limpet"
    folder = cache / f"onnx2tf-{digest}"
    python = folder / "bin" / "python"
    if (folder / "complete").exists():
        return python
    interpreter = shutil.which("python3.11") or (sys.executable if sys.version_info[:2] == (3, 11) else None)
    if interpreter is None:
        raise ConvertError(
            "onnx2tf needs Python 3.11, which is not here; install it, or convert on another machine"
        )
    cache.mkdir(parents=True, exist_ok=True)
    _run([interpreter, "-m", "venv", "--clear", str(folder)])
    _run([str(python), "-m", "pip", "install", "--quiet", "--no-input", "--require-hashes", "-r", str(LOCK)])
    (folder / "complete").touch()
    return python


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [done.stderr[-_TEXT:]]
        raise ConvertError(f"the environment for onnx2tf cannot be made: {lines[0]}")

"""ONNX models, through onnx2tf, which lives in its own environment that this module makes and keeps.

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
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

import limpet
from limpet.untrusted import read_file
from limpet_convert import foreign
from limpet_convert.converters import _onnx_names, _shapes
from limpet_convert.errors import ConvertError
from limpet_convert.graph import Graph
from limpet_convert.jail import Jail
from limpet_convert.libraries import called, last_line, need, with_log

if TYPE_CHECKING:
    from collections.abc import Sequence

SUFFIXES = (".onnx",)
IN_JAIL = False
LIVE = False
"""Whether it is opened in a sandboxed child: here each of several steps is, see ``convert``."""
LOCK = Path(__file__).parent.parent / "locks" / "onnx2tf.txt"
_TEXT = 400
AGENT = Path(limpet.__file__).resolve().parents[1]
IN_SANDBOX = """
import runpy, sys
agent, scratch = sys.argv[1:3]
sys.path.insert(0, agent)
from pathlib import Path
from limpet.isolation import sandbox
from limpet.isolation.permissions import Permissions
sys.path.remove(agent)
sandbox.enter(Permissions(scratch=frozenset([Path(scratch)])))
sys.argv[:3] = ["onnx2tf"]
runpy.run_module("onnx2tf", run_name="__main__", alter_sys=True)
"""
"""What onnx2tf's Python runs. It has no Limpet and no msgspec; the sandbox needs the standard library alone.

``Permissions`` stands for ``limpet.isolation.permissions.Permissions``, which is a msgspec struct.
"""
_CALIBRATION = "calibration_image_sample_data_20x128x128x3_float32.npy"


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """ONNX, through onnx2tf."""

    shape: list[int] | None = None
    """Shape of the model's own input, if it leaves sizes open, with the batch or without it.
    Example: `[6, 128]`."""
    layout: str = "channels_last"
    """`"channels_last"`: the model has the channels first; they are moved last, as windows have them.
    `"as_is"`: the model has them last."""


def convert(path: Path, config: Config) -> bytes:
    """Return the model as float TFLite. ``ConvertError`` where it is damaged or onnx2tf cannot express it."""
    files = foreign.refuse(path)
    if config.shape:
        config = msgspec.structs.replace(config, shape=_with_batch(path, config.shape))
    jail = Jail(files)
    try:
        names: list[str] = jail.call("onnx_inputs", str(path.resolve()))
        plain = _made(files, config, names)
        made: bytes = jail.call("onnx_named", str(path.resolve()), plain, config.layout)
    finally:
        jail.close()
    return made


def _with_batch(path: Path, given: list[int]) -> list[int]:
    """Return ``options.shape`` with the batch. ``ConvertError`` if it is not one of this model's."""
    found = foreign.Onnx(path).input_sizes()
    sizes = next(iter(found.values()), None)
    return [1, *_shapes.closed(given, sizes, len(found))]


def _made(files: Sequence[Path], config: Config, names: Sequence[str]) -> bytes:
    """Return what onnx2tf makes of a model and its data, the first of ``files`` and those beside it.

    It runs in the same sandbox, with the Python of its environment, on a copy: it writes names into the model.
    """
    path = files[0]
    python = environment()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        # Without this file onnx2tf downloads one, although it is for its own quantization only.
        np.save(work / _CALIBRATION, np.zeros((20, 128, 128, 3), np.float32))
        for file in files:
            copy = work / "model" / file.relative_to(path.parent if file is path else path.parent.resolve())
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
        begin = [str(python), "-c", IN_SANDBOX, str(AGENT), str(work.resolve())]
        command = [*begin, "-i", str(work / "model" / path.name), "-o", "out", "-n", "-v", "error"]
        if config.shape:
            command += ["-ois", f"{names[0]}:{','.join(map(str, config.shape))}"]
        if config.layout == "as_is":
            command += ["-kat", *names]
        quiet = dict.fromkeys(("HOME", "TMPDIR", "XDG_CACHE_HOME"), folder)
        quiet |= {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0", "CUDA_VISIBLE_DEVICES": ""}
        done = subprocess.run(
            command, cwd=work, env={"PATH": os.environ.get("PATH", "")} | quiet, capture_output=True, check=False
        )
        said = (done.stdout + done.stderr).decode(errors="replace")
        made = sorted((work / "out").glob("*_float32.tflite"))
        if not made:
            text = f"{path}: onnx2tf cannot express it: {last_line(said) or 'no reason given'}"
            raise ConvertError(with_log(text, said), said)
        return read_file(made[0], 1 << 31)


def proven(path: Path, plain: bytes, layout: str) -> bytes:
    """Return what onnx2tf made, run beside the ONNX model. ``ConvertError`` where it answers otherwise."""
    model, _ = read(path)
    _refuse_flex(plain, model, path)
    try:
        return _onnx_names.named(plain, model, channels_last=layout != "as_is")
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
    """Return whether an ONNX op became one of these: TensorFlow's name is the longer form of ONNX's."""
    return any(node.op_type.lower() in kind.lower() for kind in flex)


def read(path: Path) -> tuple[Any, list[str]]:
    """Return the model and the names of its inputs, having looked whether the file is whole."""
    onnx = need("onnx", "convert-onnx")
    with called("onnx", f"{path}: not a whole ONNX model"):
        model = onnx.load(path)
        onnx.checker.check_model(model)
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

"""onnx2tf, two versions of it, each in a separate environment that this module makes and keeps.

onnx2tf pins other versions of libraries than the rest can live with. An environment is made once, from a locked
list, under the user's cache. A package index is needed that once only.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import limpet
from limpet.untrusted import read_file
from limpet_convert.errors import ConvertError
from limpet_convert.libraries import last_line, shown, uncoloured, with_log

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

LOCKS = Path(__file__).parent.parent / "locks"
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
LONGEST = 900
"""Seconds that a conversion may take."""
_CALIBRATION = "calibration_image_sample_data_20x128x128x3_float32.npy"
_LARGEST = 1 << 31
_KEPT = 1 << 20
"""Bytes of what onnx2tf printed that are read, the last ones."""
_NODE = re.compile(r"\bnode_\d+_\w+")
_RAISED = re.compile(r"^(?:[A-Za-z_][\w.]*(?:Error|Exception|Exit|Interrupt)): *(.+)")


@dataclass(frozen=True)
class Way:
    """A version of onnx2tf. ``lock``: of its environment. ``pythons``: those it runs on, the best first."""

    name: str
    lock: Path
    pythons: tuple[str, ...]
    options: tuple[str, ...] = ()


WAYS = (
    Way("onnx2tf 2", LOCKS / "onnx2tf-2.txt", ("3.12", "3.13"), ("-tb", "flatbuffer_direct")),
    Way("onnx2tf 1 and TensorFlow", LOCKS / "onnx2tf-1.txt", ("3.11",)),
)
"""Ways from ONNX to TFLite. The first one writes the file itself, in seconds. The other one needs TensorFlow."""


def convert(way: Way, model: bytes, keep: Sequence[str], nodes: Mapping[str, str]) -> bytes:
    """Return what a way makes of a model: float TFLite. It runs in a sandbox.

    ``keep``: inputs whose layout stays as it is. ``nodes``: what each node was called in the user's file.
    ``ConvertError`` names the node, its op and the reason.
    """
    python = environment(way)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        # Without this file onnx2tf downloads one, although it is for its own quantization only.
        np.save(work / _CALIBRATION, np.zeros((20, 128, 128, 3), np.float32))
        (work / "model.onnx").write_bytes(model)
        command = [str(python), "-c", IN_SANDBOX, str(AGENT), str(work.resolve())]
        command += ["-i", "model.onnx", "-o", "out", "-n", "-v", "error", *way.options]
        said = _run(command + (["-kat", *keep] if keep else []), work, way)
        made = sorted((work / "out").glob("*_float32.tflite"))
        if not made:
            advice = "Write the node with other ops, or convert the model from its framework"
            raise ConvertError(with_log(f"{way.name} {refusal(said, nodes)}. {advice}", said), said)
        return read_file(made[0], _LARGEST)


def _run(command: Sequence[str], work: Path, way: Way) -> str:
    """Run onnx2tf and return what it printed."""
    quiet = dict.fromkeys(("HOME", "TMPDIR", "XDG_CACHE_HOME"), str(work))
    quiet |= {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0", "CUDA_VISIBLE_DEVICES": ""}
    with tempfile.TemporaryFile() as said:
        try:
            subprocess.run(
                command,
                cwd=work,
                env={"PATH": os.environ.get("PATH", "")} | quiet,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                check=False,
                timeout=LONGEST,
            )
        except subprocess.TimeoutExpired as error:
            raise ConvertError(f"{way.name} did not end within {LONGEST} s") from error
        said.seek(max(0, said.seek(0, os.SEEK_END) - _KEPT))
        return said.read().decode(errors="replace")


def refusal(said: str, nodes: Mapping[str, str]) -> str:
    """Return which node of the user's model onnx2tf cannot convert, and why, from all that it printed.

    The node is the last one that is named. The reason is the last exception's, or else the last useful line.
    """
    plain = uncoloured(said)
    found = [name for name in _NODE.findall(plain) if name in nodes]
    raised = [match[1] for line in plain.splitlines() if (match := _RAISED.match(line.strip()))]
    reason = raised[-1] if raised else last_line(said) or "it said nothing"
    reason = _NODE.sub(lambda match: nodes.get(match[0], match[0]), reason)
    where = f"node {shown(nodes[found[-1]])[:200]}" if found else "the model"
    return f"cannot convert {where}: {shown(reason.rstrip(' .'))[:400]}"


def available() -> list[Way]:
    """Return the ways that this machine can go. ``ConvertError`` if there is none."""
    found = [way for way in WAYS if _complete(way) or _interpreter(way)]
    if not found:
        pythons = " or ".join(sorted({python for way in WAYS for python in way.pythons}))
        raise ConvertError(f"onnx2tf needs Python {pythons}. Install one of them, or convert on another machine")
    return found


def environment(way: Way) -> Path:
    """Return the Python of a way's environment. If it is not there yet, it is made."""
    folder = _folder(way)
    python = folder / "bin" / "python"
    if _complete(way):
        return python
    interpreter = _interpreter(way)
    if interpreter is None:
        raise ConvertError(f"{way.name} needs Python {' or '.join(way.pythons)}, which is not installed")
    folder.parent.mkdir(parents=True, exist_ok=True)
    _make([interpreter, "-m", "venv", "--clear", str(folder)])
    _make([str(python), "-m", "pip", "install", "--quiet", "--no-input", "--require-hashes", "-r", str(way.lock)])
    (folder / "complete").touch()
    return python


def _folder(way: Way) -> Path:
    digest = hashlib.sha256(way.lock.read_bytes()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "limpet"
    return cache / f"{way.lock.stem}-{digest}"


def _complete(way: Way) -> bool:
    return (_folder(way) / "complete").exists()


def _interpreter(way: Way) -> str | None:
    """Return a Python of a version that the way runs on, one that really starts."""
    for version in way.pythons:
        for path in _candidates(version):
            if not subprocess.run([path, "-c", "import venv"], capture_output=True, check=False).returncode:
                return path
    return None


def _candidates(version: str) -> Iterator[str]:
    """Yield where a Python of this version may be: this one, on the path, of the system, of pyenv."""
    if version == f"{sys.version_info[0]}.{sys.version_info[1]}":
        yield sys.executable
    for command in (f"python{version}", f"/usr/bin/python{version}"):
        if path := shutil.which(command):
            yield path
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from map(str, sorted(root.glob(f"versions/{version}.*/bin/python{version}"), reverse=True))


def _make(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = last_line(done.stderr) or last_line(done.stdout)
        raise ConvertError(f"the environment for onnx2tf cannot be made: {reason}")

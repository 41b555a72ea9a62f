"""Windows of model input that a client sends with the command ``infer``, and the reply that it gets."""

from __future__ import annotations

import re
from math import prod
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from limpet import __version__
from limpet.contracts.data import fits
from limpet.contracts.messages import Inferred, Tensor
from limpet.errors import ModelError
from limpet.models import bundle as bundles

if TYPE_CHECKING:
    from pathlib import Path

    from limpet.contracts.data import Array, FloatArray
    from limpet.contracts.messages import Placed
    from limpet.contracts.runtime import Model
    from limpet.inference.admission import Planned
    from limpet.inference.plan import PipelinePlan


def windows(tensor: Tensor) -> FloatArray:
    """Return the windows in a tensor, float32 ``(n, *shape of one)``. ``ModelError`` where it holds none."""
    shape = tuple(tensor.shape)
    dtype = np.dtype(tensor.dtype).newbyteorder("<")
    try:
        if tensor.values:
            with np.errstate(over="ignore"):  # too large for float32 is infinite
                values = np.array(tensor.values, np.float32)
        else:
            values = np.frombuffer(tensor.data, dtype).astype(np.float32)
        if not prod(shape):
            raise ModelError("there is no window in it")
        return values.reshape(shape)
    except ValueError as error:
        held = f"{len(tensor.values)} numbers" if tensor.values else f"{len(tensor.data)} bytes of {tensor.dtype}"
        raise ModelError(f"the windows have the shape {list(shape)}, but {held} were sent") from error


def tensor(values: Array) -> Tensor:
    """Return real values as they are sent."""
    return Tensor(shape=list(values.shape), data=values.astype("<f4").tobytes())


def refuse(model: Model, windows: FloatArray) -> None:
    """Raise ``ModelError`` where windows are none that the model can take, before an accelerator stumbles."""
    if len(model.inputs) != 1:
        raise ModelError(f"the model has {len(model.inputs)} inputs; only a model with one takes windows")
    (wanted,) = model.inputs
    if wanted.dtype.kind not in "fiub":
        raise ModelError(f"the model's input {wanted.name!r} takes {wanted.dtype}, and windows are real values")
    if not fits(windows.shape[1:], wanted.shape):
        raise ModelError(
            f"the model's input {wanted.name!r} has shape {list(wanted.shape)}, but windows of "
            f"{list(windows.shape[1:])} came"
        )


class Answers:
    """What a model made of windows so far: the time of each run in µs, and the bytes of all outputs."""

    def __init__(self) -> None:
        self.run_us: list[float] = []
        self.size = 0
        self._outputs: list[list[FloatArray]] = []

    def add(self, model: Model, window: FloatArray) -> None:
        """Run on one window. ``ModelError``."""
        begin = perf_counter()
        found = model.run([window])
        self.run_us.append((perf_counter() - begin) * 1e6)
        self._outputs.append([np.array(output, np.float32) for output in found])
        self.size += sum(output.nbytes for output in self._outputs[-1])

    def tensors(self) -> list[Tensor]:
        """Return each output with the windows first. ``ModelError`` where its size is not always the same."""
        try:
            return [tensor(np.stack(output)) for output in zip(*self._outputs, strict=True)]
        except ValueError as error:
            raise ModelError("the model's output has another size for each window") from error


def inferred(plan: PipelinePlan, model: Model, answers: Answers, placed: Placed | None, sha256: str) -> Inferred:
    """Return the reply's part about a model. ``ModelError`` as ``Answers.tensors``."""
    manifest = plan.bundle.manifest
    return Inferred(
        model=manifest.name,
        version=manifest.version,
        sha256=sha256,
        limpet=__version__,
        runtime=runtime(plan),
        delegate=model.delegate,
        delegate_share=model.delegate_share,
        placement=placed,
        outputs=answers.tensors(),
        run_us=[round(time, 3) for time in answers.run_us],
    )


def digest(plan: Planned, delegate: str) -> str:
    """Return the SHA-256 of the model file that is used on a delegate, in hexadecimal."""
    path = _file(plan, delegate)
    # A bundle's members are unpacked under their hash. A bare file may have been replaced since it was loaded.
    return path.stem if _is_digest(path.stem) else bundles.digest(path)


def digest_of_loaded(plan: PipelinePlan, delegate: str) -> str:
    """Return the same without reading the file: a bare file was compared with ``identity`` when it was loaded."""
    path = _file(plan, delegate)
    return path.stem if _is_digest(path.stem) else plan.identity or bundles.digest(path)


def _file(plan: Planned, delegate: str) -> Path:
    choices = {choice.name: choice for choice in plan.delegates}
    names = {delegate, choices[delegate].kind} if delegate in choices else {delegate}
    path, _ = plan.bundle.suited(names)
    return path


def _is_digest(name: str) -> bool:
    return bool(re.fullmatch(r"[0-9a-f]{64}", name))


def runtime(plan: Planned) -> str:
    """Return the runtime's package and version."""
    able = plan.runtime.abilities
    return f"{able.package or plan.runtime.kind} {able.version}".strip()

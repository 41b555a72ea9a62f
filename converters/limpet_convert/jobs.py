"""What a jailed child does with a foreign model. Arguments and results are plain values and ``Packed`` arrays."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from limpet_convert import sources
from limpet_convert.mil import Program
from limpet_convert.packed import Opened, Packed, pack, plain, unpack

if TYPE_CHECKING:
    from collections.abc import Callable

    from limpet_convert.runners import Runner


_open: list[Runner] = []


def open_model(path: str) -> Opened:
    """Open a model, for ``run``."""
    from limpet_convert import runners

    model = runners.open_here(Path(path))
    _open[:] = [model]
    kinds = dict(Counter(model.kinds())) if isinstance(model, Program) else {}
    return Opened(plain(model.inputs), plain(model.outputs), kinds)


def run(inputs: list[Any]) -> list[Packed]:
    """Run the model that was opened once."""
    return [pack(np.asarray(output)) for output in _open[0].run([unpack(one) for one in inputs])]


def convert(path: str, kind: str, options: dict[str, Any], base: str) -> bytes:
    """Return a model as float TFLite."""
    return sources.convert_here(Path(path), kind, options, Path(base))


def coreml(  # noqa: PLR0913, PLR0917 - a model, what is to be made of it, and data
    path: str, kind: str, options: dict[str, Any], base: str, table: dict[str, Any], samples: list[Any]
) -> str:
    """Make a Core ML package in the current folder and return its name."""
    from limpet.errors import ConfigError
    from limpet.filling import fill
    from limpet_convert.converters import coreml as converter

    problems: list[str] = []
    config = fill(converter.Config, table, "coreml", Path(base), problems)
    if config is None:
        raise ConfigError(problems)
    model, shape = sources.live_here(Path(path), kind, options, Path(base))
    made = Path.cwd() / f"{config.weights}.mlpackage"
    converter.convert(model, made, config, [shape], [[unpack(one).reshape(shape)] for one in samples])
    return made.name


def onnx_prepared(path: str, sizes: dict[str, list[int]]) -> tuple[bytes, dict[str, str], list[str]]:
    """Return an ONNX model ready for conversion, what its nodes were called, and the names of its inputs."""
    from limpet_convert.converters import onnx

    return onnx.prepared(Path(path), sizes)


def onnx_proven(model: bytes, nodes: dict[str, str], made: bytes, layout: str) -> bytes:
    """Return what onnx2tf made, proven against the ONNX model and with its names."""
    from limpet_convert.converters import onnx

    return onnx.proven(model, nodes, made, layout)


def prove(model: bytes, name: str, inputs: list[Any]) -> None:
    """Load a model and run it once, see ``limpet_convert.proving``."""
    from limpet_convert import runners
    from limpet_convert.graph import Tracer

    path = Path(Path(name).name)
    path.write_bytes(model)
    runner = runners.TFLite(path)
    if inputs:
        pairs = zip((unpack(one) for one in inputs), runner.inputs, strict=True)
        given = [runners.laid_out(window[None], spec)[0] for window, spec in pairs]
    elif any(-1 in spec.shape for spec in runner.inputs):
        Tracer(model)
        return
    else:
        given = [np.zeros(spec.shape, np.float32 if spec.quantized else spec.dtype) for spec in runner.inputs]
    runner.run(given)
    shapes = [runners.closed(one.shape, spec.shape) for one, spec in zip(given, runner.inputs, strict=True)]
    Tracer(model, shapes).invoke(given)


JOBS: dict[str, Callable[..., Any]] = {
    "open": open_model,
    "run": run,
    "convert": convert,
    "prove": prove,
    "coreml": coreml,
    "onnx_prepared": onnx_prepared,
    "onnx_proven": onnx_proven,
}

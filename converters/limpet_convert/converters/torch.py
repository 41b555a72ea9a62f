"""PyTorch models: exported programs (``.pt2``) and traced ones (TorchScript: ``.ts``, ``.torchscript``, ``.pt``).

A model file of PyTorch may hold a pickle, and a pickle may hold code that runs when it is read. Pickles that name
anything but tensors are refused before they are opened.
"""

from __future__ import annotations

import itertools
import os
import zipfile
from pathlib import Path
from typing import Any

import msgspec

from limpet_convert.converters import _pickles, _shapes, _torch_names, _torch_transposed
from limpet_convert.errors import ConvertError
from limpet_convert.libraries import called, need, reason

SUFFIXES = (".pt2", ".pt", ".pth", ".ts", ".torchscript")
IN_JAIL = True
LIVE = True
"""Whether it is opened in a sandboxed child: its library runs what the model says."""


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """PyTorch, which has channels first. Windows have them last."""

    layout: str = "channels_last"
    """`"channels_last"`: the model has the channels first; they are moved last, as windows have them.
    `"as_is"`: the model has them last."""
    shape: list[int] | None = None
    """Shape of the model's own input, with the batch or without it. A traced model needs it.
    Example: `[6, 128]`."""

    def __post_init__(self) -> None:
        if self.layout not in {"channels_last", "as_is"}:
            raise ValueError(f"layout: channels_last or as_is, not {self.layout!r}")


def convert(path: Path, config: Config) -> bytes:
    """Return the model as float TFLite with a batch of 1."""
    torch = need("torch", "convert-torch")
    if path.suffix == ".pt2":
        program = load(path)
        return to_tflite(program.module(check_guards=False), _examples(program, config.shape), config.layout)
    _pickles.refuse_code(path)
    _refuse_weights(path)
    if config.shape is None:
        raise ConvertError(
            f"{path}: a traced model does not keep the shape of its input. Set it in [model], such as "
            "options = { shape = [6, 100] }"
        )
    with called("PyTorch", f"{path}: reading the traced model"):
        script = torch.jit.load(str(path)).eval()
    example = _taken(torch, script, config.shape)
    return to_tflite(_traced(path, script, (example,)), (example,), config.layout)


def _taken(torch: Any, script: Any, given: list[int]) -> Any:
    """Return an example that a traced model takes: its file has neither the number of axes nor the type.

    ``ConvertError`` with what the model says if it takes none.
    """
    shapes = [(1, *given), *([tuple(given)] if given[:1] == [1] and len(given) > 1 else [])]
    refused: ConvertError | None = None
    for shape, dtype in itertools.product(shapes, (torch.float32, torch.int64)):
        example = torch.zeros(*shape, dtype=dtype)
        try:
            _try(torch, script, example, f"model.options.shape is {given}")
        except ConvertError as error:
            refused = refused or error
        else:
            return example
    raise refused or ConvertError(f"model.options.shape is {given}; set at least one size")


def _try(torch: Any, script: Any, example: Any, where: str) -> None:
    def explain(error: Exception, said: str) -> str:
        why = reason(error, said, last=True)  # The lines before are the model's code.
        return f"{where}, but the model does not take an input of shape {list(example.shape)}: {why}"

    with torch.no_grad(), called("PyTorch", where, explain=explain):
        script(example)


def _examples(program: Any, given: list[int] | None) -> tuple[Any, ...]:
    """Return the inputs to convert an exported program with: what its file leaves open as given, a batch of 1.

    ``ConvertError`` if the program was exported for another shape than the given one.
    """
    torch = need("torch", "convert-torch")
    examples, inputs = program.example_inputs[0], _open_sizes(program)
    if given is None and all(sizes[:1] != [None] for sizes in inputs):
        return tuple(examples)
    made = []
    for example, sizes in zip(examples, inputs, strict=True):
        usual = [have if size is None else size for have, size in zip(example.shape, sizes, strict=True)]
        if given is not None:
            shape = [1, *_shapes.closed(given, sizes, len(inputs))]
        else:
            shape = [1 if sizes[:1] == [None] else size for size in usual[:1]] + usual[1:]
        made.append(torch.zeros(*shape, dtype=example.dtype))
    return tuple(made)


def _open_sizes(program: Any) -> list[list[int | None]]:
    """Return the shape of each input of an exported program, ``None`` for a size that it leaves open."""
    names = set(program.graph_signature.user_inputs)
    values = [node.meta["val"] for node in program.graph.nodes if node.op == "placeholder" and node.name in names]
    return [[size if isinstance(size, int) else None for size in value.shape] for value in values]


def _refuse_weights(path: Path) -> None:
    """Raise ``ConvertError`` where there are weights in a file, but no program: a ``state_dict``."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if not any("/code/" in name for name in archive.namelist()):
                raise ConvertError(
                    f"{path}: weights without a program; load them into their module, and write that with "
                    "torch.export.save(torch.export.export(module, (example,)), 'model.pt2')"
                )


def live(path: Path, config: Config) -> tuple[Any, tuple[int, ...]]:
    """Return an exported program and its input's shape with the batch, for another output than TFLite.

    It takes what the TFLite model takes: channels where ``config`` says.
    """
    program = load(path)
    examples = _examples(program, config.shape)
    moves = config.layout == "channels_last" and examples[0].ndim > 2
    if moves or examples[0].shape != program.example_inputs[0][0].shape:
        torch, graph = need("torch"), program.module(check_guards=False)
        examples = _channels_last(torch, graph, examples) if moves else examples
        with called("PyTorch", f"{path}: exporting the model for windows"):
            program = torch.export.export(torch.fx.GraphModule(graph, graph.graph), examples)
    return program, tuple(examples[0].shape)


def load(path: Path) -> Any:
    """Read an exported program. ``ConvertError`` where it is damaged or holds code."""
    torch = need("torch", "convert-torch")
    if not zipfile.is_zipfile(path):
        raise ConvertError(f"{path}: not an exported program, or cut short; write it with torch.export.save")
    _pickles.refuse_code(path)
    with called("PyTorch", f"{path}: reading the exported program"):
        program = torch.export.load(path)
    if not program.example_inputs or not program.example_inputs[0]:
        raise ConvertError(f"{path}: export it with example inputs, a batch of 1")
    return program


def to_tflite(module: Any, examples: tuple[Any, ...], layout: str = "as_is") -> bytes:
    """Return a live module as float TFLite; ``examples`` hold a tensor with a batch of 1 for each input.

    ``ConvertError`` names an op that LiteRT lacks, the module that called it and what to write instead.
    """
    torch = need("torch", "convert-torch")
    os.environ.setdefault("PJRT_DEVICE", "CPU")
    converter = need("litert_torch", "convert-torch")
    with called("litert-torch", "converting to TFLite", explain=lambda error, _: _torch_names.explain(error)):
        graph = _torch_names.named(_graph(torch, module, examples))
        _torch_transposed.cut(torch, graph)
        if layout == "channels_last":
            examples = _channels_last(torch, graph, examples)
        # A separate GraphModule: the exported program's checks inputs against the sizes it was made for.
        wrapped = torch.fx.GraphModule(graph, graph.graph)
        with torch.no_grad():
            return _exported(converter.convert(wrapped, examples))


def _graph(torch: Any, module: Any, examples: tuple[Any, ...]) -> Any:
    """Return a module as a graph of ATen's ops that knows which module each came from."""
    if isinstance(module, torch.fx.GraphModule):
        return module
    modes = [(one, one.training) for one in module.modules()]
    module.eval()
    try:
        return torch.export.export(module, examples).module(check_guards=False)
    finally:
        for one, training in modes:
            one.training = training


def _channels_last(torch: Any, graph: Any, examples: tuple[Any, ...]) -> tuple[Any, ...]:
    """Make a graph take channels last, and return the examples so. Inputs without a spatial axis stay."""
    inputs = [node for node in graph.graph.nodes if node.op == "placeholder"]
    for node, example in zip(inputs, examples, strict=True):
        if example.ndim > 2:
            with graph.graph.inserting_after(node):
                moved = graph.graph.call_function(torch.ops.aten.movedim.int, (node, -1, 1))
            _torch_names.name(moved, "channels_first")
            node.replace_all_uses_with(moved, delete_user_cb=lambda user, moved=moved: user is not moved)
    return tuple(one.movedim(1, -1).contiguous() if one.ndim > 2 else one for one in examples)


def _exported(model: Any) -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        model.export(str(path))
        return path.read_bytes()


def _traced(path: Path, script: Any, examples: tuple[Any, ...]) -> Any:
    exporting = need("torch._export.converter", "convert-torch")

    def explain(error: Exception, said: str) -> str:
        why = reason(error, said, last=True)
        what = f"{path}: not a traced model that can be exported again ({why})"
        return f"{what}; save it with torch.export.save instead"

    with called("PyTorch", f"{path}: reading the traced model", explain=explain):
        return exporting.TS2EPConverter(script, examples).convert().module(check_guards=False)

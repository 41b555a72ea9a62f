"""Whether the windows and the labels of a project fit its model, and which key to change if they do not.

All of it is found before calibration, and most before conversion.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from limpet import plugins
from limpet.contracts.data import TensorSpec, fits
from limpet.contracts.stage import Spec
from limpet.errors import ConfigError, LimpetError
from limpet.filling import fill
from limpet_convert import facts, new_project, sources
from limpet_convert.errors import ConvertError
from limpet_convert.graph import Graph

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet_convert.data import Windows
    from limpet_convert.project import Bundle, Model, Project

_EXACT = 1 << 24
"""Below this, float32, which windows are in, holds every whole number."""


@dataclass(frozen=True)
class Layout:
    """``option``: the converter's ``layout``, empty if it has none."""

    option: str

    @classmethod
    def of(cls, model: Model) -> Layout:
        """Return the layout that a project sets, or its default."""
        kind = model.kind or sources.named(model.path)
        has = kind in sources.kinds() and "layout" in sources.kinds()[kind].Config.__struct_fields__
        return cls(str(model.options.get("layout", "channels_last")) if has else "")

    def turned(self, shape: Sequence[int]) -> list[int] | None:
        """Return what a converted model takes with the other layout, with the batch; ``None`` if it has none."""
        if not self.option or len(shape) < 3:
            return None
        batch, *rest = shape
        return [batch, rest[-1], *rest[:-1]] if self.option == "channels_last" else [batch, *rest[1:], rest[0]]

    @property
    def other(self) -> str:
        """The other option."""
        return "as_is" if self.option == "channels_last" else "channels_last"


def refuse_early(project: Project, window: Sequence[int]) -> None:
    """Raise ``ConvertError`` where the model's file alone shows that it does not take such windows."""
    model = project.model
    kind = model.kind or sources.named(model.path)
    if kind not in {"keras", "saved_model", "onnx"}:  # Others need their library to be read.
        return
    try:
        found = facts.read(model.path).inputs
    except LimpetError:  # The converter says more.
        return
    if kind == "saved_model":
        signature = f"{model.options.get('signature', 'serving_default')}: "
        found = [text for text in found if text.startswith(signature)]
    if len(found) > 1:
        raise ConvertError(new_project.several_inputs(found))
    sizes = new_project.shape_in(found[0]) if found else []
    if not sizes or (-1 in sizes and "shape" in model.options):
        return
    layout = Layout.of(model)
    shape = [1, *sizes]
    if layout.option == "channels_last" and len(sizes) > 1:
        shape = [1, *sizes[1:], sizes[0]]
    refuse_shape(shape, window, layout, project.bundle)


def refuse(model: bytes, windows: Windows, project: Project) -> None:
    """Raise ``ConvertError`` where a float model does not fit the windows, the labels or the decoder."""
    graph = Graph(model)
    if len(graph.inputs) != 1:
        raise ConvertError(new_project.several_inputs([graph.names[index] for index in graph.inputs]))
    shape = [int(n) for n in graph.subgraph.tensors[graph.inputs[0]].shape]
    refuse_shape(shape, windows.values.shape[1:], Layout.of(project.model), project.bundle)
    refuse_numbers(_dtype(graph, graph.inputs[0]), windows, project.bundle)
    bundle = project.bundle
    if bundle.task == "classify":
        outputs = math.prod(int(n) for n in graph.subgraph.tensors[graph.outputs[0]].shape)
        if outputs != len(bundle.labels):
            raise ConvertError(
                f"bundle.labels: {len(bundle.labels)} labels for {outputs} outputs of the model; one for each, in "
                "their order"
            )
    _refuse_undecodable(graph, bundle)


def refuse_targets(model: bytes, windows: Windows, bundle: Bundle) -> None:
    """Raise ``ConvertError`` where the targets of a regression are not one for each number of the model."""
    if bundle.task != "regress" or windows.targets is None:
        return
    graph = Graph(model)
    numbers = sum(math.prod(int(n) for n in graph.subgraph.tensors[index].shape) for index in graph.outputs)
    if windows.targets.size != numbers * len(windows):
        count = len(windows)
        shape, wanted = list(windows.targets.shape), [count, numbers]
        raise ConvertError(
            f"data.targets: shape {shape}, but the model gives {numbers} numbers for each of {count} windows."
            f" Write an array of shape {wanted}, in the order of the outputs"
        )


def refuse_shape(shape: Sequence[int], window: Sequence[int], layout: Layout, bundle: Bundle) -> None:
    """Raise ``ConvertError`` where a converted model of this ``shape``, with the batch, does not take a window."""
    shape, window = list(shape), list(window)
    if shape and shape[0] > 1 and fits(window, shape[1:]):
        raise ConvertError(
            f"the model's input has shape {shape}, a batch of {shape[0]}. Export it with a batch of 1: a device"
            " runs one window at a time"
        )
    if fits(window, shape):
        return
    made = "bundle.window and bundle.channels" + (" and bundle.transforms" if bundle.transforms else "")
    wanted = f'shape {shape} with layout = "{layout.option}"' if layout.option else f"shape {shape}"
    raise ConvertError(
        f"the model's input has {wanted}, but {made} give windows of shape {window}. "
        f"{_advice(shape, window, layout, bundle)}"
    )


def _advice(shape: list[int], window: list[int], layout: Layout, bundle: Bundle) -> str:
    """Return which key to change, and to what value."""
    turned = layout.turned(shape)
    if turned and fits(window, turned):
        where = "last already" if layout.other == "as_is" else "first"
        return f'The model has its channels {where}. Set model.options.layout to "{layout.other}"'
    have, want = (sorted(size for size in one if size != 1) for one in (window, shape))
    if have == want:
        return (
            "The sizes are the same in another order. Export the model with a first layer that takes "
            f"{window} and swaps the axes"
        )
    if math.prod(have) == math.prod(want):
        return f"Export the model with a first layer that takes {window} and reshapes it to {shape[1:]}"
    if not bundle.transforms:
        changes = _changes(shape, window)
        if turned and (others := _changes(turned, window)) and (not changes or len(others) < len(changes)):
            changes = [f'model.options.layout to "{layout.other}"', *others]
        if changes:
            return f"Set {' and '.join(changes)}"
    if len(window) == 3 and len(shape) == 4 and window[-1] == shape[-1]:
        height, width = shape[1:3]
        table = f'{{ kind = "resize", height = {height}, width = {width} }}'
        return f"Set bundle.transforms to [{table}], or to what the model was trained with"
    keys = "bundle.transforms" if bundle.transforms else "bundle.window, bundle.channels or bundle.transforms"
    return f"Change {keys} so that they give {shape[1:]}"


def _changes(shape: Sequence[int], window: Sequence[int]) -> list[str]:
    """Return which of size and channels to set, for windows ``(samples, channels)``, empty if that is no help."""
    inner = [size for size in shape[1:] if size != 1]
    if len(window) != 2 or not 0 < len(inner) <= 2 or -1 in inner:
        return []
    size, channels = inner if len(inner) == 2 else (1, inner[0]) if inner[0] == window[1] else (inner[0], 1)
    changes = [f"bundle.window.size to {size}"] if size != window[0] else []
    if channels != window[1]:
        changes.append(f"bundle.channels to the {channels} that the model was trained on")
    return changes


def refuse_numbers(dtype: np.dtype[Any], windows: Windows, bundle: Bundle) -> None:
    """Raise ``ConvertError`` where windows have values that an input of whole numbers cannot hold."""
    if dtype.kind not in "iub":
        return
    low, high = (0, 1) if dtype.kind == "b" else (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))
    values = windows.values
    what = f"the model's input takes whole numbers ({dtype})"
    fractions = values[values != np.rint(values)]
    if fractions.size:
        way = "Change bundle.transforms" if bundle.transforms else "Record whole numbers"
        raise ConvertError(
            f"{what}, and the windows have {fractions[0]:g}. {way}, or export the model with a float input"
        )
    outside = values[(values < low) | (values > high)]
    if outside.size:
        raise ConvertError(
            f"{what}, from {low} to {high}, and the windows have {outside[0]:.0f}. Correct the recordings, or "
            "export the model with a wider type"
        )
    largest = float(np.abs(values).max(initial=0))
    if largest >= _EXACT:
        raise ConvertError(
            f"{what}, and the windows have {largest:.0f}. Numbers from {_EXACT:,} on are not exact in windows, "
            "which are float32. Use smaller numbers"
        )


def _dtype(graph: Graph, tensor: int) -> np.dtype[Any]:
    """Return the type of the numbers that a tensor takes: float32 if it is quantized or unknown to numpy."""
    names = {v: k.lower() for k, v in vars(graph.schema.TensorType).items() if not k.startswith("_")}
    found = graph.subgraph.tensors[tensor]
    quantized = found.quantization is not None and found.quantization.scale is not None
    try:
        return np.dtype(np.float32) if quantized else np.dtype(names[found.type])
    except TypeError:
        return np.dtype(np.float32)


def _refuse_undecodable(graph: Graph, bundle: Bundle) -> None:
    """Raise ``ConvertError`` where the decoder does not take such outputs: no device would run the bundle."""
    if not bundle.decoder:
        return
    module = plugins.load("decoders", str(bundle.decoder.get("kind")))
    problems: list[str] = []
    options = {key: value for key, value in bundle.decoder.items() if key != "kind"}
    config = fill(module.Config, options, "bundle.decoder", Path(), problems)
    if config is None:
        raise ConfigError(problems)
    shapes = [(index, tuple(int(n) for n in graph.subgraph.tensors[index].shape)) for index in graph.outputs]
    outputs = tuple(TensorSpec(graph.names[i], shape, np.dtype(np.float32)) for i, shape in shapes)
    shape = outputs[0].shape if outputs else ()
    try:
        module.open(
            config, Spec(shape=shape, dtype=np.dtype(np.float32), outputs=outputs, labels=tuple(bundle.labels))
        )
    except ValueError as error:
        raise ConvertError(f"bundle.decoder: {error}") from error

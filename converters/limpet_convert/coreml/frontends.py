"""Models of TensorFlow, Keras and PyTorch to coremltools' ML program, in float."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from limpet_convert.errors import ConvertError
from limpet_convert.libraries import need

if TYPE_CHECKING:
    from collections.abc import Sequence

_TF_OP = re.compile(r"Conversion for TF op '(?P<op>\w+)' not implemented.*?name: \"(?P<layer>[^\"]*)\"", re.DOTALL)
_TORCH_OP = re.compile(r"(?:convert function for op|Unsupported fx node) '?(?P<op>\w+)'?")
_INSTEAD = {
    "lstm": "give the module or a trace of it, not an exported program",
    "gru": "give the module or a trace of it, not an exported program",
    "rnn": "give the module or a trace of it, not an exported program",
    "svd": "decompose at training time and store the factors, or compute it in a transform",
    "fft": "compute the spectrum in the pipeline's transforms",
    "bessel": "replace the function by a table lookup or a polynomial",
    "erfinv": "replace the function by a polynomial",
    "unique": "count in the decoder; shapes that depend on values do not fit the Neural Engine",
    "nonzero": "mask with where(); shapes that depend on values do not fit the Neural Engine",
    "where": "give where() both branches; shapes that depend on values do not fit the Neural Engine",
    "sort": "take top-k of a fixed k",
    "string": "look words up in a transform; Core ML has no strings",
    "cdist": "write the distance with matmul: |x|^2 + |y|^2 - 2 x y",
    "random": "draw the numbers outside and give them as an input",
    "quantize": "convert the float model and quantize it here",
}


def convert(model: Any, inputs: Sequence[Any], options: dict[str, Any]) -> tuple[Any, list[str]]:
    """Return coremltools' model and the names that its outputs should have.

    ``model``: a Keras model, a TensorFlow concrete function, an ``ExportedProgram``, a traced module or a module.
    ``inputs``: coremltools' types in the model's order. ``ConvertError`` names an op that Core ML lacks, its layer
    and what to write instead.
    """
    module = type(model).__module__.partition(".")[0]
    if module == "keras" or hasattr(model, "get_config") or module == "tensorflow":
        return _tensorflow(model, inputs, options)
    if hasattr(model, "graph_signature") or hasattr(model, "state_dict"):
        return _torch(model, inputs, options)
    raise ConvertError(
        f"a {type(model).__module__}.{type(model).__name__} cannot be converted to Core ML; give a Keras model, "
        "a TensorFlow function, a torch module or an exported program"
    )


def _tensorflow(model: Any, inputs: Sequence[Any], options: dict[str, Any]) -> tuple[Any, list[str]]:
    coremltools, tf = need("coremltools", "coreml"), need("tensorflow")
    _teach_erfc()
    function, names = _concrete(tf, model, inputs)
    tensors = function.inputs[: len(function.inputs) - len(function.captured_inputs)]  # Weights come behind them.
    for kind, tensor in zip(inputs, tensors, strict=True):
        kind.name = tensor.op.name
    outputs = [coremltools.TensorType(name=tensor.op.name, dtype=np.float32) for tensor in function.outputs]
    try:
        made = coremltools.convert([function], source="tensorflow", inputs=inputs, outputs=outputs, **options)
    except Exception as error:  # coremltools raises whatever its passes do
        raise _explained(error, model) from error
    return made, names or [tensor.op.name for tensor in function.outputs]


def _teach_erfc() -> None:
    """Give coremltools (9.0) the op that Keras' exact GELU is made of."""
    from coremltools.converters.mil import Builder, register_tf_op
    from coremltools.converters.mil.frontend.tensorflow.tf_op_registry import _TF_OPS_REGISTRY

    if "Erfc" in _TF_OPS_REGISTRY:
        return

    def erfc(context: Any, node: Any) -> None:
        error_function = Builder.erf(x=context[node.inputs[0]])
        context.add(node.name, Builder.sub(x=1.0, y=error_function, name=node.name))

    register_tf_op(erfc, tf_alias=["Erfc"])


def _concrete(tf: Any, model: Any, inputs: Sequence[Any]) -> tuple[Any, list[str]]:
    """Return a concrete function of fixed shapes, and the names of Keras' outputs."""
    if hasattr(model, "structured_input_signature"):
        return model, []
    specs = [tf.TensorSpec(kind.shape.shape, tf.float32, kind.name) for kind in inputs]
    function = tf.function(lambda *tensors: model(tensors[0] if len(tensors) == 1 else list(tensors)))
    return function.get_concrete_function(*specs), list(getattr(model, "output_names", []))


def _torch(model: Any, inputs: Sequence[Any], options: dict[str, Any]) -> tuple[Any, list[str]]:
    """Convert a trace or an exported program; of a module first the one, and if that fails the other.

    coremltools (9.0) has LSTM, GRU and the tanh form of GELU in traces alone, attention in exported programs.
    """
    torch = need("torch")
    if isinstance(model, torch.jit.ScriptModule):
        return _torch_graph(model, inputs, options), []
    if not isinstance(model, torch.nn.Module):
        return _torch_graph(_taken(_decomposed, model, ()), inputs, options), []
    examples = tuple(torch.zeros(tuple(kind.shape.shape)) for kind in inputs)
    model.eval()
    try:
        return _torch_graph(_taken(torch.jit.trace, model, examples), inputs, options), []
    except ConvertError as error:
        try:
            exported = _taken(torch.export.export, model, examples)
            return _torch_graph(_taken(_decomposed, exported, ()), inputs, options), []
        except ConvertError:
            raise error from None


def _decomposed(program: Any, _: tuple[Any, ...]) -> Any:
    """Return an exported program brought down to ATen's core ops, which coremltools wants."""
    return program.run_decompositions({})


def _taken(take: Any, model: Any, examples: tuple[Any, ...]) -> Any:
    try:
        return take(model, examples)
    except Exception as error:  # torch raises whatever the model's own code does
        raise ConvertError(f"torch cannot follow the model: {_first_line(error)}") from error


def _torch_graph(graph: Any, inputs: Sequence[Any], options: dict[str, Any]) -> Any:
    coremltools = need("coremltools", "coreml")
    try:
        return coremltools.convert(graph, source="pytorch", inputs=list(inputs), **options)
    except Exception as error:  # coremltools raises whatever its passes do
        raise _explained(error, graph) from error


def _explained(error: Exception, model: Any) -> ConvertError:
    """Return coremltools' complaint in plain words."""
    text = str(error)
    if match := _TF_OP.search(text):
        op, layers = match["op"], [_keras_layer(model, match["layer"])]
    elif match := _TORCH_OP.search(text):
        op = match["op"]
        layers = _torch_layers(model, op)
    elif loops := _loops(model):
        return ConvertError(f"coremltools cannot convert the loop of {loops}; build it with unroll=True")
    else:
        return ConvertError(f"coremltools cannot convert the model: {_first_line(error)}")
    where = f" of layer {', '.join(map(repr, layers))}" if layers else ""
    return ConvertError(f"Core ML has no op {op!r}{where}; {_instead(op)}")


def _loops(model: Any) -> str:
    """Return the names of a Keras model's recurrent layers that loop."""
    cells = [getattr(layer, "forward_layer", layer) for layer in getattr(model, "layers", ())]
    return ", ".join(repr(cell.name) for cell in cells if getattr(cell, "unroll", None) is False)


def _keras_layer(model: Any, node: str) -> str:
    """Return the Keras layer that made ``model/layer_1/Op`` of TensorFlow's graph, else the node's scope."""
    known = {layer.name for layer in getattr(model, "layers", ())}
    scopes = node.split("/")[:-1]
    for scope in reversed(scopes):  # A layer that is called again gets a number behind its name.
        for name in (scope, re.sub(r"_\d+$", "", scope)):
            if name in known:
                return name
    return "/".join(scopes) or node


def _torch_layers(program: Any, op: str) -> list[str]:
    """Return the paths of the modules that an op comes from."""
    if hasattr(program, "inlined_graph"):
        nodes = [node for node in program.inlined_graph.nodes() if node.kind() == f"aten::{op}"]
        paths = [node.scopeName().rpartition("/")[2].removeprefix("__module.") for node in nodes]
    else:
        matching = [node for node in program.graph.nodes if op in (node.name, _base(node.target))]
        stacks = [node.meta.get("nn_module_stack") or {} for node in matching]
        paths = [list(stack.values())[-1][0] for stack in stacks if stack]
    return sorted({path for path in paths if path})


def _base(target: Any) -> str:
    """Return an ATen op's name without its namespace and overload."""
    return str(getattr(target, "__name__", target)).partition(".")[0]


def _instead(op: str) -> str:
    lowered = op.lower()
    for part, advice in _INSTEAD.items():
        if part in lowered:
            return advice
    return "write the layer with other ops, or move it into the pipeline's transforms or decoder"


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__

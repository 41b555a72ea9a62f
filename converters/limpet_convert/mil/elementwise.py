"""Element by element: arithmetic, comparisons, activations."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from limpet.contracts.data import Array

Kernel: TypeAlias = "Callable[..., Any]"

_erf = np.vectorize(math.erf, otypes=[np.float32])

_DTYPES = {"fp16": "float16", "fp32": "float32", "fp64": "float64", "double": "float64"}


def dtype_of(name: str) -> np.dtype[Any]:
    """Return the dtype that a MIL program calls ``name``."""
    return np.dtype(_DTYPES.get(name, name))


def sigmoid(x: Array) -> Array:
    """Return the logistic function, without overflow for large negative x."""
    return 0.5 * (1 + np.tanh(0.5 * x))


def softplus(x: Array) -> Array:
    """Return log(1 + e^x), without overflow."""
    return np.logaddexp(x, np.zeros((), x.dtype))


def softmax(x: Array, axis: int = -1) -> Array:
    """Return e^x over the sum of them along ``axis``."""
    powers = np.exp(x - x.max(axis=axis, keepdims=True))
    return np.asarray(powers / powers.sum(axis=axis, keepdims=True))


def hard_sigmoid(x: Array, alpha: float = 0.2, beta: float = 0.5) -> Array:
    """Return a line cut off at 0 and 1."""
    return np.clip(alpha * x + beta, 0, 1)


def _gelu(x: Array, mode: str = "EXACT") -> Array:
    if mode == "EXACT":
        return np.asarray(0.5 * x * (1 + _erf(x / math.sqrt(2))))
    if mode == "SIGMOID_APPROXIMATION":
        return x * sigmoid(1.702 * x)
    return np.asarray(0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))


def _per_channel(alpha: Array, x: Array) -> Array:
    """Spread one value a channel (axis 1) over ``x``."""
    return alpha.reshape(-1, *[1] * (x.ndim - 2))


def _prelu(x: Array, alpha: Array) -> Array:
    return np.where(x >= 0, x, x * _per_channel(alpha, x))


def _softplus_parametric(x: Array, alpha: Array, beta: Array) -> Array:
    return np.asarray(_per_channel(alpha, x) * softplus(x * _per_channel(beta, x)))


def _clamped_relu(x: Array, alpha: float, beta: float) -> Array:
    return np.minimum(np.where(x >= 0, x, alpha * x), beta)


def _clip(x: Array, alpha: float, beta: float) -> Array:
    return np.clip(x, alpha, beta)


def _threshold(x: Array, alpha: float) -> Array:
    return np.maximum(x, alpha)


def _select(cond: Array, a: Array, b: Array) -> Array:
    return np.where(cond, a, b)


def _cast(x: Array, dtype: str) -> Array:
    wanted = dtype_of(dtype)
    return np.asarray(np.trunc(x) if wanted.kind in "iu" and x.dtype.kind == "f" else x).astype(wanted)


def _divide(x: Array, y: Array) -> Array:
    """Divide; of two integers the quotient is an integer, rounded towards zero."""
    quotient = np.true_divide(x, y)
    return np.trunc(quotient) if np.asarray(x).dtype.kind in "iu" else quotient


def _unary(function: Kernel) -> Kernel:
    """Give a function of numpy's the name of MIL's input, which its ufuncs do not take."""

    def kernel(x: Array) -> Any:
        return function(x)

    return kernel


def _binary(function: Kernel) -> Kernel:
    def kernel(x: Array, y: Array) -> Any:
        return function(x, y)

    return kernel


_UNARY: dict[str, Kernel] = {
    "abs": np.abs, "acos": np.arccos, "asin": np.arcsin, "atan": np.arctan, "atanh": np.arctanh, "ceil": np.ceil,
    "cos": np.cos, "cosh": np.cosh, "erf": _erf, "exp": np.exp, "exp2": np.exp2, "floor": np.floor,
    "identity": np.asarray, "logical_not": np.logical_not, "round": np.rint, "sigmoid": sigmoid, "sign": np.sign,
    "sin": np.sin, "sinh": np.sinh, "softplus": softplus, "sqrt": np.sqrt, "square": np.square, "tan": np.tan,
    "tanh": np.tanh,
}  # fmt: skip
_BINARY: dict[str, Kernel] = {
    "add": np.add, "equal": np.equal, "floor_div": np.floor_divide, "greater": np.greater,
    "greater_equal": np.greater_equal, "less": np.less, "less_equal": np.less_equal, "logical_and": np.logical_and,
    "logical_or": np.logical_or, "logical_xor": np.logical_xor, "maximum": np.maximum, "minimum": np.minimum,
    "mod": np.mod, "mul": np.multiply, "not_equal": np.not_equal, "pow": np.power, "real_div": _divide,
    "sub": np.subtract,
}  # fmt: skip

OPS: dict[str, Kernel] = {
    **{name: _unary(function) for name, function in _UNARY.items()},
    **{name: _binary(function) for name, function in _BINARY.items()},
    "cast": _cast,
    "clamped_relu": _clamped_relu,
    "clip": _clip,
    "elu": lambda x, alpha=1.0: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))),
    "gelu": _gelu,
    "inverse": lambda x, epsilon=1e-4: 1 / (x + epsilon),
    "leaky_relu": lambda x, alpha=0.01: np.where(x >= 0, x, alpha * x),
    "linear_activation": lambda x, alpha=1.0, beta=0.0: alpha * x + beta,
    "log": lambda x, epsilon=1e-45: np.log(x + epsilon),
    "prelu": _prelu,
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "rsqrt": lambda x, epsilon=1e-12: 1 / np.sqrt(x + epsilon),
    "scaled_tanh": lambda x, alpha=1.0, beta=1.0: alpha * np.tanh(beta * x),
    "select": _select,
    "sigmoid_hard": hard_sigmoid,
    "silu": lambda x: x * sigmoid(x),
    "softmax": softmax,
    "softplus_parametric": _softplus_parametric,
    "softsign": lambda x: x / (1 + np.abs(x)),
    "threshold": _threshold,
    "thresholded_relu": lambda x, alpha=1.0: np.where(x >= alpha, x, 0),
}

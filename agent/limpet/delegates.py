"""Delegates by name: what must be loaded for each, what is missing where that fails, and what they cover."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from limpet.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_EXTERNAL = "external:"
_EDGETPU = "libedgetpu.so.1"


def load(name: str, load_delegate: Callable[[str], Any]) -> list[Any]:
    """Return the delegates that ``name`` stands for, none for ``cpu``: the runtime brings its own for that.

    ``edgetpu`` is the vendor's library, ``external:LIBRARY`` any library with TFLite's plugin interface.
    ``ModelError`` says what is missing.
    """
    if name == "cpu":
        return []
    if name == "edgetpu":
        missing = "install the Edge TPU runtime of its vendor (libedgetpu)"
        absent = "no Edge TPU answers: is it plugged in, and may this user open it?"
        return [_load(name, _EDGETPU, missing, absent, load_delegate)]
    if name.startswith(_EXTERNAL):
        library = name.removeprefix(_EXTERNAL)
        return [_load(name, library, "install it, or correct its path", "it gives no reason", load_delegate)]
    raise ModelError(f"there is no delegate {name!r}; there are cpu, edgetpu and external:LIBRARY")


def _load(name: str, library: str, missing: str, absent: str, load_delegate: Callable[[str], Any]) -> Any:
    """Load one library. The runtimes' own errors are empty, or printed from a half-made object's ``__del__``."""
    try:
        loaded = ctypes.CDLL(library)
    except OSError as error:
        raise ModelError(f"delegate {name!r}: {error}; {missing}") from error
    if not hasattr(loaded, "tflite_plugin_create_delegate"):
        raise ModelError(f"delegate {name!r}: {library} is not a TFLite delegate")
    try:
        return load_delegate(library)
    except (ValueError, OSError, AttributeError) as error:
        reason = str(error).partition("\n")[2].strip() or absent
        raise ModelError(f"delegate {name!r}: {library} cannot be used: {reason}") from error


@dataclass(frozen=True, slots=True)
class Coverage:
    """Which of a graph's ops a delegate runs: ``ops`` are their names in order, ``delegated`` the same long.

    ``results`` are the tensors that nodes of the plan write: the delegates', and those of the ops left over.
    """

    ops: tuple[str, ...]
    delegated: tuple[bool, ...]
    results: tuple[int, ...]

    @property
    def share(self) -> float:
        """Share of the ops that are on a delegate."""
        return sum(self.delegated) / len(self.ops) if self.ops else 0.0


def coverage(nodes: Sequence[dict[str, Any]]) -> Coverage:
    """Find the ops that delegates took over in ``Interpreter._get_ops_details()`` after allocation.

    The list has the original ops and behind them an entry for each delegate's partition. What lies between its
    outputs and its inputs is what it covers.
    """
    ops = [node for node in nodes if node["op_name"] != "DELEGATE"]
    partitions = [node for node in nodes if node["op_name"] == "DELEGATE"]
    producer = {int(tensor): i for i, op in enumerate(ops) for tensor in op["outputs"]}
    covered: set[int] = set()
    for partition in partitions:
        borders = {int(tensor) for tensor in partition["inputs"]}
        wanted = [int(tensor) for tensor in partition["outputs"]]
        while wanted:
            op = producer.get(wanted.pop())
            if op is not None and op not in covered:
                covered.add(op)
                wanted += [int(tensor) for tensor in ops[op]["inputs"] if int(tensor) not in borders]
    plan = partitions + [op for i, op in enumerate(ops) if i not in covered]
    return Coverage(
        tuple(op["op_name"] for op in ops),
        tuple(i in covered for i in range(len(ops))),
        tuple(int(tensor) for node in plan for tensor in node["outputs"]),
    )

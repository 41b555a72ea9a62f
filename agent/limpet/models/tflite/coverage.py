"""Which ops of a graph a delegate runs, as far as the interpreter reports."""

from __future__ import annotations

from typing import Any

import msgspec


class Coverage(msgspec.Struct, frozen=True):
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


def coverage(interpreter: Any) -> Coverage:
    """Find the ops that delegates have taken over so far.

    An interpreter lists the model's ops and behind them a node for each partition that a delegate took. What
    is between that node's outputs and its inputs is what it covers. The list is private to the runtimes.
    There is no public way, and both have had it since TensorFlow 2.5.
    """
    nodes = interpreter._get_ops_details()  # noqa: SLF001
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

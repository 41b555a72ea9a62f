"""A model as clients of the gateway use it: on tensors as it stores them or on real values, row by row.

Requests come from outside and are checked here. What is wrong with one is a ``ModelError``, which fails it alone.
"""

from __future__ import annotations

from collections import deque
from math import inf, prod
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from limpet.errors import LimpetError, ModelError
from limpet.inference.served_outputs import REAL, Target, to_real, to_stored
from limpet.inference.served_rows import SIZE, Rows
from limpet.untrusted import reading
from limpet.wire.border import cleaned
from limpet.wire.guest_records import MOST_DIMENSIONS, MOST_TENSORS, Inferred, Placed, Serving, TensorFacts

if TYPE_CHECKING:
    import mmap
    from collections.abc import Sequence

    from limpet.contracts.data import Array, TensorSpec
    from limpet.contracts.runtime import Model, Storing
    from limpet.wire.guest_socket import Wanted

MOST_ROWS = 64
"""Windows in one request, for a model whose batch is open."""
_KINDS = "biuf"
"""Kinds of dtype that tensors may have, as numpy writes them."""


class Identity(NamedTuple):
    """Which model it is. ``forgets``: it keeps state, which is cleared before each request.

    ``rows``: how many windows a request may have in its first dimension.
    """

    name: str
    version: int
    sha256: str
    runtime: str
    rows: int = 1
    forgets: bool = False


class ServedModel:
    """A model, and how clients see it. ``ModelError`` if it has tensors that cannot be sent.

    ``storing``: the same model, if it also takes tensors as it stores them. ``batch``: a copy of it that takes
    several windows at once, if there can be one.
    """

    def __init__(
        self, identity: Identity, model: Model, storing: Storing | None = None, batch: Rows | None = None
    ) -> None:
        self._identity = identity
        self._model = model
        self._storing = storing
        self._batch = batch
        self._one = inf
        self.together = 1 if batch is None else SIZE
        self._ins = tuple(_facts(spec) for spec in model.inputs)
        self._outs = tuple(_facts(spec) for spec in model.outputs)
        if len(self._ins) > MOST_TENSORS or len(self._outs) > MOST_TENSORS:
            raise ModelError(f"it has more than {MOST_TENSORS} inputs or outputs, which are not sent")

    def serving(self) -> Serving:
        """Return what clients can know."""
        which, model = self._identity, self._model
        inputs, outputs = list(self._ins), list(self._outs)
        if which.rows > 1:
            inputs, outputs = [_open(one) for one in inputs], [_open(one) for one in outputs]
        return Serving(
            which.name, which.version, which.sha256, which.runtime, model.delegate, inputs, outputs, which.rows
        )

    def begin(self, requests: Sequence[Wanted]) -> Job:
        """Begin to run requests, at most ``together`` of them. They run in the steps of the job."""
        return Job(self, requests)

    def prepare(self, wanted: Wanted) -> Prepared:
        """Check a request. ``LimpetError`` says what is wrong with it."""
        infer = wanted.infer
        inputs, rows = self._inputs(infer.inputs, wanted.memory)
        target = Target(wanted.memory, infer.offset, infer.size, rows)
        return Prepared(inputs, rows, infer.real, target)

    def pays_together(self, rows: int) -> bool:
        """Whether so many windows run faster at once."""
        return self._batch is not None and rows <= SIZE and self._batch.pays(rows, self._one)

    def run_row(self, request: Prepared, row: int) -> None:
        """Run one window of a request. ``ModelError``."""
        if self._identity.forgets:
            self._model.reset()
        inputs = request.inputs if request.rows == 1 else [each[row : row + 1] for each in request.inputs]
        begin = perf_counter()
        request.target.put(row, self._once(inputs, real=request.real))
        self._one = min(self._one, perf_counter() - begin)

    def run_together(self, windows: Sequence[tuple[Prepared, int]]) -> None:
        """Run windows of several requests, or of one, at once. They have the same form. ``ModelError``."""
        assert self._batch is not None
        rows = [[each[row : row + 1] for each in request.inputs] for request, row in windows]
        outputs = self._batch.run(rows, real=windows[0][0].real)
        for n, (request, row) in enumerate(windows):
            request.target.put(row, [values[n : n + 1] for values in outputs])

    def _once(self, inputs: Sequence[Array], *, real: bool) -> Sequence[Array]:
        """Run on one window, inputs and outputs as they are stored. ``real``: outputs as real values."""
        if self._storing is not None:
            return self._storing.run_stored(inputs, real=real)
        pairs = zip(inputs, self._model.inputs, strict=True)
        outputs = self._model.run([to_real(values, spec) for values, spec in pairs])
        if real:
            return outputs
        return [to_stored(values, spec) for values, spec in zip(outputs, self._model.outputs, strict=True)]

    def _inputs(self, placed: Sequence[Placed], memory: mmap.mmap) -> tuple[list[Array], int]:
        """Return the inputs, and how many windows they are."""
        if len(placed) != len(self._ins):
            raise ModelError(f"the model has {len(self._ins)} inputs, but {len(placed)} came")
        rows = placed[0].shape[0] if self._identity.rows > 1 and placed[0].shape else 1
        if not 1 <= rows <= self._identity.rows:
            raise ModelError(f"a request has {rows} windows; the model takes 1 to {self._identity.rows} at a time")
        pairs = zip(placed, self._model.inputs, strict=True)
        return [self._input(one, spec, rows, memory) for one, spec in pairs], rows

    def _input(self, placed: Placed, spec: TensorSpec, rows: int, memory: mmap.mmap) -> Array:
        dtype = np.dtype(placed.dtype)
        if dtype != spec.dtype and not (spec.quantized and dtype == REAL):
            also = " or <f4" if spec.quantized else ""
            raise ModelError(f"the input {spec.name!r} takes {spec.dtype.str}{also}, but {placed.dtype} came")
        wanted = spec.shape if self._identity.rows == 1 else (rows, *spec.shape[1:])
        have = tuple(placed.shape)
        if len(have) != len(wanted) or any(w not in (-1, h) for h, w in zip(have, wanted, strict=True)):
            raise ModelError(f"the input {spec.name!r} has shape {list(spec.shape)}, but {list(have)} came")
        if placed.offset + prod(have) * dtype.itemsize > len(memory):
            raise ModelError(f"the input {spec.name!r} is not in the memory")
        values: Array = np.frombuffer(memory, dtype, prod(have), placed.offset).reshape(have)
        # Stored integers and floats may change while they are read: any of them is a value. An index may not.
        if spec.dtype.kind == "b":
            flags: Array = values.view(np.uint8) != 0
            return flags
        return values if spec.quantized or spec.dtype.kind == "f" else values.copy()


class Prepared(NamedTuple):
    """A request that was checked."""

    inputs: list[Array]
    rows: int
    real: bool
    target: Target

    def form(self) -> tuple[object, ...]:
        """Return what requests have in common that can run together."""
        return self.real, *(values.dtype for values in self.inputs)


class Job:
    """Requests that run, in steps that take as long as one run of the model."""

    def __init__(self, served: ServedModel, requests: Sequence[Wanted]) -> None:
        self._served = served
        self._ran = 0.0
        self._left = deque(requests)
        self._row = 0
        self._prepared: Prepared | None = None
        self._may_run_together = len(requests) > 1

    @property
    def done(self) -> bool:
        """Whether all requests are answered."""
        return not self._left

    @property
    def numbers(self) -> list[int]:
        """The requests that are not answered yet."""
        return [wanted.infer.number for wanted in self._left]

    def step(self) -> list[Inferred]:
        """Run the model once. Return the answers that are known now."""
        if self._may_run_together and (answers := self._together()):
            return answers
        begin, problem = perf_counter(), ""
        try:
            with reading("a request"):
                if self._prepared is None:
                    self._prepared = self._served.prepare(self._left[0])
                self._run(self._prepared)
        except LimpetError as error:
            problem = cleaned(str(error)) or type(error).__name__
        self._ran += perf_counter() - begin
        if problem or self._prepared is None:
            return [self._answer(problem=problem)]
        return [self._answer(self._prepared.target.placed)] if self._row >= self._prepared.rows else []

    def _run(self, request: Prepared) -> None:
        """Run the next window of a request, or several."""
        count = min(request.rows - self._row, SIZE)
        if count > 1 and self._served.pays_together(count):
            self._served.run_together([(request, self._row + n) for n in range(count)])
        else:
            self._served.run_row(request, self._row)
            count = 1
        self._row += count

    def _answer(self, outputs: Sequence[Placed] = (), problem: str = "") -> Inferred:
        """Return the answer to the first request, and go on with the next one."""
        wanted, ran = self._left.popleft(), self._ran
        self._row, self._prepared, self._ran = 0, None, 0.0
        queue_us = max(perf_counter() - wanted.since - ran, 0.0) * 1e6
        return Inferred(wanted.infer.number, list(outputs), problem, queue_us=queue_us, run_us=ran * 1e6)

    def _together(self) -> list[Inferred]:
        """Run all requests at once, and return their answers; none if they have to run one by one."""
        self._may_run_together = False
        count, begin = len(self._left), perf_counter()
        try:
            with reading("a request"):
                prepared = [self._served.prepare(wanted) for wanted in self._left]
                alike = len({request.form() for request in prepared}) == 1
                if not alike or any(request.rows > 1 for request in prepared):
                    return []
                if not self._served.pays_together(count):
                    return []
                self._served.run_together([(request, 0) for request in prepared])
        except LimpetError:  # Which of them it is shows one by one.
            return []
        ran = (perf_counter() - begin) * 1e6
        answers = [
            Inferred(
                wanted.infer.number,
                request.target.placed,
                queue_us=(begin - wanted.since) * 1e6,
                run_us=ran,
                batched=count,
            )
            for wanted, request in zip(self._left, prepared, strict=True)
        ]
        self._left.clear()
        return answers


def _facts(spec: TensorSpec) -> TensorFacts:
    dtype = spec.dtype.newbyteorder("<")
    if dtype.kind not in _KINDS or len(spec.shape) > MOST_DIMENSIONS:
        raise ModelError(f"its tensor {spec.name!r}, {spec.dtype} of shape {list(spec.shape)}, cannot be sent")
    scale, zero = (spec.scale[0], spec.zero_point[0]) if len(spec.scale) == 1 else (0.0, 0)
    return TensorFacts(cleaned(spec.name), dtype.str, list(spec.shape), scale, zero)


def _open(facts: TensorFacts) -> TensorFacts:
    return TensorFacts(facts.name, facts.dtype, [-1, *facts.shape[1:]], facts.scale, facts.zero_point)

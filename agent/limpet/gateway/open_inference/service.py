"""What the protocol's requests do, over REST and gRPC."""

from __future__ import annotations

from time import perf_counter_ns, time_ns
from typing import TYPE_CHECKING, TypeAlias
from weakref import WeakKeyDictionary

from limpet.gateway.channels.answers import NotRunError, item_size, succeeded
from limpet.gateway.channels.spans import Span
from limpet.gateway.errors import RequestError
from limpet.gateway.open_inference.messages import InferAnswer, Output, Region
from limpet.gateway.open_inference.planning import form, plan
from limpet.gateway.open_inference.shared_memory import SharedMemory
from limpet.gateway.open_inference.statistics import ModelStatistics
from limpet.gateway.open_inference.tensors import DATATYPES
from limpet.wire.guest_records import Placed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from limpet.gateway.channels.model_channel import ModelChannel
    from limpet.gateway.channels.models import Models
    from limpet.gateway.open_inference.messages import InferRequest
    from limpet.gateway.open_inference.planning import ModelForm, Plan
    from limpet.wire.gateway_records import ServedModel
    from limpet.wire.guest_records import Inferred, Serving


class OpenInference:
    """The protocol. ``statistics``: by name and version of a model. ``shared``: memory that clients registered."""

    def __init__(self, models: Models) -> None:
        self.models = models
        self.shared = SharedMemory()
        self.statistics: dict[tuple[str, str], ModelStatistics] = {}
        self._forms: WeakKeyDictionary[ModelChannel, ModelForm] = WeakKeyDictionary()

    async def infer(self, request: InferRequest) -> InferAnswer:
        """Run a model. ``RequestError`` says why not."""
        channel = await self.find_channel(request.model, request.version)
        try:
            return await self._infer(channel, request)
        except NotRunError:
            if not await channel.ends():
                raise
        # Another model has taken its place.
        return await self._infer(await self.find_channel(request.model, request.version), request)

    async def _infer(self, channel: ModelChannel, request: InferRequest) -> InferAnswer:
        begin = perf_counter_ns()
        version = str(channel.serving.version)
        counted = self._statistics(request.model, version)
        try:
            model = self._form(channel)
            planned = plan(channel.serving, model, request)
            span = await channel.take(planned.inputs_size + planned.outputs_size)
            try:
                inferred = await self._run(channel, planned, span, request)
                outputs = self._outputs(channel, model, planned, inferred, request.uid)
            finally:
                channel.give_back(span)
        except RequestError:
            counted.fail.add(perf_counter_ns() - begin)
            raise
        counted.add(inferred, planned.rows, perf_counter_ns() - begin, time_ns() // 1_000_000)
        return InferAnswer(request.model, version, request.id, outputs)

    def start(self, channel: ModelChannel, request: InferRequest, reply: Reply) -> bool:
        """Begin to run a model, without waiting for anything. ``False`` if it has no room at once.

        ``reply`` gets the answer. ``RequestError`` says what is wrong with the request.
        """
        begin = perf_counter_ns()
        model = self._form(channel)
        planned = plan(channel.serving, model, request)
        span = channel.take_now(planned.inputs_size + planned.outputs_size)
        if span is None:
            return False
        try:
            placed, room = self._place(channel, planned, span, request)
            started = _Started(self, channel, model, planned, span, request, reply, begin)
            channel.start(span, placed, room, started, real=request.real, patience=request.patience)
        except RequestError:
            channel.give_back(span)
            raise
        return True

    def finish(self, started: _Started, inferred: Inferred | RequestError) -> InferAnswer:
        """Return the answer to a request that was started. ``RequestError`` says why there is none."""
        channel, request = started.channel, started.request
        version = str(channel.serving.version)
        counted = self._statistics(request.model, version)
        took = perf_counter_ns() - started.begin
        try:
            if isinstance(inferred, RequestError):
                raise inferred
            succeeded(inferred)
            outputs = self._outputs(channel, started.model, started.planned, inferred, request.uid)
        except RequestError:
            counted.fail.add(took)
            raise
        counted.add(inferred, started.planned.rows, took, time_ns() // 1_000_000)
        return InferAnswer(request.model, version, request.id, outputs)

    async def _run(self, channel: ModelChannel, planned: Plan, span: Span, request: InferRequest) -> Inferred:
        placed, room = self._place(channel, planned, span, request)
        return await channel.run(span, placed, room, real=request.real, patience=request.patience)

    def _place(
        self, channel: ModelChannel, planned: Plan, span: Span, request: InferRequest
    ) -> tuple[list[Placed], Span]:
        """Copy inputs to the memory. Return where they are, and where outputs go."""
        placed = []
        for part in planned.parts:
            begin = span.offset + part.offset
            target = channel.memory[begin : begin + part.size]
            if isinstance(part.content, Region):
                self.shared.read(request.uid, part.content, target)
            else:
                target[:] = part.content
            placed.append(Placed(part.dtype, part.shape, begin))
        return placed, Span(span.offset + planned.inputs_size, planned.outputs_size)

    def _outputs(
        self, channel: ModelChannel, model: ModelForm, planned: Plan, inferred: Inferred, uid: int | None
    ) -> list[Output]:
        found = []
        for index, region in planned.outputs:
            placed = inferred.outputs[index]
            size = item_size(placed.dtype)
            for dimension in placed.shape:
                size *= dimension
            view = channel.memory[placed.offset : placed.offset + size]
            name, datatype = model.outputs[index].name, DATATYPES[placed.dtype]
            if region is None:
                found.append(Output(name, datatype, placed.shape, bytes(view)))
            else:
                self.shared.write(uid, region, view)
                where = Region(region.name, region.offset, size)
                found.append(Output(name, datatype, placed.shape, None, where))
        return found

    async def describe(self, name: str, version: str) -> tuple[Serving, ModelForm]:
        """Return what a model is, and its tensors. ``RequestError`` if it is not there or not ready."""
        channel = await self.find_channel(name, version)
        return channel.serving, self._form(channel)

    async def find_channel(self, name: str, version: str) -> ModelChannel:
        """Return the channel to a model. ``RequestError`` if it is not there or not ready."""
        return await self.models.channel(name, version_number(version))

    async def versions(self, name: str) -> list[str]:
        """Return the versions of a model that can be used now."""
        return [str(one.version) for one in await self.models.listed() if one.name == name and one.ready]

    async def ready(self, name: str, version: str) -> bool:
        """Whether a model can be used now. ``RequestError`` ``unknown`` if it does not exist."""
        return (await self.find(name, version)).ready

    async def find(self, name: str, version: str) -> ServedModel:
        """Return a model as the supervisor knows it. ``RequestError`` ``unknown`` if it does not exist."""
        return await self.models.find(name, version_number(version))

    async def index(self) -> Sequence[ServedModel]:
        """Return all models that clients can use or load."""
        return await self.models.listed()

    def _form(self, channel: ModelChannel) -> ModelForm:
        found = self._forms.get(channel)
        if found is None:
            found = self._forms[channel] = form(channel.serving)
        return found

    def _statistics(self, name: str, version: str) -> ModelStatistics:
        key = (name, version)
        found = self.statistics.get(key)
        if found is None:
            found = self.statistics[key] = ModelStatistics()
        return found


Reply: TypeAlias = "Callable[[InferAnswer | RequestError], None]"


class _Started:
    """A request that a model runs, and what is to be done with the answer."""

    def __init__(  # noqa: PLR0913, PLR0917 - all that is known of it
        self,
        protocol: OpenInference,
        channel: ModelChannel,
        model: ModelForm,
        planned: Plan,
        span: Span,
        request: InferRequest,
        reply: Reply,
        begin: int,
    ) -> None:
        self.channel = channel
        self.model = model
        self.planned = planned
        self.request = request
        self.begin = begin
        self._protocol = protocol
        self._span = span
        self._reply = reply
        self._is_done = False

    def done(self) -> bool:
        """Whether there is an answer."""
        return self._is_done

    def set_result(self, result: Inferred | RequestError) -> None:
        """Pass on what the model's process answered."""
        self._is_done = True
        answer: InferAnswer | RequestError
        try:
            answer = self._protocol.finish(self, result)
        except RequestError as error:
            answer = error
        self.channel.give_back(self._span)
        self._reply(answer)

    def set_exception(self, exception: RequestError) -> None:
        """Pass on the reason why it did not answer."""
        self.set_result(exception)


def version_number(version: str) -> int | None:
    """Return the number of a version, ``None`` for the one that runs. ``RequestError`` if it is no number."""
    if not version:
        return None
    if version.isascii() and version.isdecimal() and len(version) <= 10:
        return int(version)
    raise RequestError("unknown", f'version "{version[:20]}" does not exist; a version is a whole number')

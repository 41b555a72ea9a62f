"""The shadows of all pipelines of a worker: begun and ended as the supervisor assigns them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping

    from limpet.contracts.assignment import PipelineOptions, ShadowAssignment
    from limpet.contracts.data import SampleSpec
    from limpet.wire.records import Result
    from limpet.worker.shadow import Shadow


class Shadows:
    """Shadows by the name of their pipeline. ``report`` takes results that waited for one of them."""

    def __init__(
        self, source: SampleSpec, send: Callable[[Any], None], report: Callable[[list[Result[Any]]], None]
    ) -> None:
        self._source = source
        self._send = send
        self._report = report
        self._all: dict[str, Shadow] = {}

    def __bool__(self) -> bool:
        return bool(self._all)

    @property
    def hold(self) -> bool:
        """Whether a result waits for a shadow."""
        return any(shadow.holds for shadow in self._all.values())

    def assign(self, wanted: Mapping[str, ShadowAssignment], running: Mapping[str, PipelineOptions]) -> None:
        """Begin and end shadows. One that failed is not begun again unless another one was wanted meanwhile.

        ``running``: the options of the pipelines that run.
        """
        for name, shadow in list(self._all.items()):
            if wanted.get(name) != shadow.wanted or name not in running:
                self.end(name)
        new = {name: one for name, one in wanted.items() if name in running and name not in self._all}
        if not new:
            return
        from limpet.worker.shadow import Shadow  # most workers never need it in memory

        for name, one in new.items():
            self._all[name] = Shadow(name, one, self._source, running[name], self._send)

    def of(self, name: str) -> Shadow | None:
        """Return the shadow of a pipeline, if there is one at work."""
        shadow = self._all.get(name)
        return None if shadow is None or shadow.failed else shadow

    def connect(self, number: int, end: socket.socket) -> bool:
        """Take the socket of a process, if a shadow requested it. Return whether one did."""
        for shadow in self._all.values():
            if shadow.number == number and not shadow.failed:
                shadow.connect(end)
                return True
        return False

    def poll(self) -> None:
        """Look after all shadows."""
        for shadow in self._all.values():
            self._report(shadow.poll())

    def release(self, name: str) -> None:
        """Report the results of a pipeline that wait for its shadow."""
        if name in self._all:
            self._report(self._all[name].release())

    def end(self, name: str) -> None:
        """End the shadow of a pipeline, if it has one."""
        if (shadow := self._all.pop(name, None)) is not None:
            self._report(shadow.close())

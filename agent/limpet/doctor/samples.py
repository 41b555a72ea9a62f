"""Whether samples come from the configured sources: as the running daemon says, else by opening them."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from limpet.deployment.assignments import sources_alone
from limpet.device.machine import this_user
from limpet.doctor import running_daemon
from limpet.doctor.finding import bad, ok, skip, warn
from limpet.errors import LimpetError, UnreadableError
from limpet.inference import needs
from limpet.inference.planning import plan_source, source_plugin
from limpet.inference.reader import Expected, Reader
from limpet.isolation import confined
from limpet.sources._sound_watch import FULL
from limpet.untrusted import reading
from limpet.wording import IN_USE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from limpet.config import Config
    from limpet.contracts.data import Samples
    from limpet.doctor.finding import Finding
    from limpet.doctor.installation import Installation
    from limpet.doctor.running_daemon import PipelineState
    from limpet.inference.plan import SourcePlan

SECONDS = 6.0
"""How long to wait for a sample. A source says earlier what comes instead."""
COUNTED = 1.0
"""Seconds over which samples are counted, from the first one."""
_EXTRA = 20.0
"""Seconds beyond that after which a source hangs."""
_SOUND = {"audio"}
"""Kinds of sources whose samples are sound."""
_LISTED = {"audio", "camera"}
"""Kinds of sources that `limpet devices` lists."""
_MUCH = 0.01
"""Share of clipped samples that distorts sound."""
_FILES = {"replay"}
"""Kinds of sources whose samples need no listening."""


class Heard(msgspec.Struct):
    """What came from a source: ``samples`` in ``seconds``, or why there are none.

    Of sound: ``level`` is the root mean square in dB of full scale, ``clipped`` the share at full scale.
    """

    samples: int
    seconds: float
    away: str = ""
    level: float | None = None
    clipped: float = 0.0


def samples(installation: Installation) -> Iterator[Finding]:
    """Check that each source that a pipeline uses gives samples."""
    config = installation.config
    used = (
        {}
        if config is None
        else {pipeline.source: config.sources[pipeline.source] for pipeline in config.pipelines.values()}
    )
    names = [name for name, table in used.items() if table.kind not in _FILES]
    if config is None or not names:
        yield skip("samples", "no sensor is configured")
    elif str(installation.machine.root) != "/" or installation.machine.user.uid != this_user().uid:
        yield skip("samples", "sensors are read only on this machine, as this user")
    else:
        yield from _heard(installation, config, names)


def _heard(installation: Installation, config: Config, names: Sequence[str]) -> Iterator[Finding]:
    try:
        said = running_daemon.lines(installation)
        if said is not None:
            yield from _of_daemon(config, {one.pipeline: one for one in running_daemon.states(said)})
            return
    except LimpetError as error:
        yield skip("samples", f"{error}")
        return
    for name in names:
        port = str(config.sources[name].options.get("port", ""))
        if port.startswith("/") and not Path(port).exists():
            yield skip("samples", f"{name}: its port does not exist")
        else:
            yield of_source(config, name)


def _of_daemon(config: Config, states: dict[str, PipelineState]) -> Iterator[Finding]:
    """Return what the running daemon says, which has the ports open."""
    for name, pipeline in config.pipelines.items():
        known = states.get(name)
        if known is None:
            fix = "sudo systemctl reload limpet, or restart `limpet run`"
            yield warn(
                "samples", f"{name}: the running daemon does not have it", "the file changed since then", fix
            )
        elif known.state == "running":
            yield ok("samples", f"{pipeline.source}: the running daemon has {known.results:,} results of {name}")
        elif known.state in {"waiting", "failed"}:
            what = f"{pipeline.source}: {name} is {known.state}: {known.reason}"
            yield bad("samples", what, _WHY, _fix(config, pipeline.source, known.reason))
        else:
            yield skip("samples", f"{pipeline.source}: {name} is {known.state} in the running daemon")


_WHY = "without samples there are no results"


def _fix(config: Config, source: str, away: str = "") -> str:
    if away.endswith(IN_USE) and not away.startswith("/"):
        return "stop the other program; `sudo fuser -v /dev/snd/*` names it"
    if away.endswith(IN_USE):
        return f"stop the other program; `sudo fuser -v {away.removesuffix(': ' + IN_USE)}` names it"
    if config.sources[source].kind in _LISTED:
        return f"correct [sources.{source}]; `limpet devices` lists cameras and microphones"
    return f"correct [sources.{source}], or the board; `limpet init` recognises what a board sends"


def of_source(config: Config, name: str) -> Finding:
    """Open a source in a sandbox, as a worker does, and return whether samples come."""
    try:
        alone = sources_alone(config, [name])
        plan = plan_source(alone, name)
        allowed = needs.of_source(alone.folders, name, source_plugin(alone, name))
        with reading(f"what came from {name}"):
            heard = msgspec.json.decode(confined.run(lambda: _listen(plan), allowed, SECONDS + _EXTRA), type=Heard)
    except UnreadableError as error:
        return bad("samples", str(error), _WHY, _fix(config, name))
    except LimpetError:
        return skip("samples", f"{name}: its configuration is wrong, see below")
    except confined.LostError as error:
        return bad("samples", f"{name}: reading it ends with: {error}", _WHY, _fix(config, name))
    if heard.away:
        return bad("samples", f"{name}: {heard.away}", _WHY, _fix(config, name, heard.away))
    if not heard.samples:
        return warn("samples", f"{name}: no sample in {heard.seconds:.0f} s", _WHY, _fix(config, name))
    channels = f" of {len(plan.spec.channels)} channels" if plan.spec.channels else ""
    what = f"{name}: {heard.samples:,} samples{channels} in {heard.seconds:.1f} s"
    return _of_sound(what, heard) if config.sources[name].kind in _SOUND else ok("samples", what)


def _of_sound(what: str, heard: Heard) -> Finding:
    """Return how loud a microphone is, and whether it can be used."""
    if heard.level is None:
        fix = "unmute it in `alsamixer` (F4), or choose another channel with `channels`"
        return warn("samples", f"{what}, all the same", "the microphone is silent: it may be muted", fix)
    what = f"{what} at {heard.level:.0f} dB of full scale"
    if heard.clipped > _MUCH:
        why = f"{heard.clipped:.0%} of them are at full scale, so the sound is distorted"
        return warn("samples", what, why, "lower the capture volume in `alsamixer`, or `gain`")
    return ok("samples", what)


def _listen(plan: SourcePlan) -> str:
    return msgspec.json.encode(listen(plan)).decode()


def listen(plan: SourcePlan) -> Heard:
    """Read a source for some seconds, less if it is known earlier whether samples come."""
    reader = Reader(plan.plugin.module, plan.plugin.config, Counter(), Expected(None, plan.spec, reported=True))
    count, began, until, sound = 0, monotonic(), monotonic() + SECONDS, _Level()
    for block in reader:
        now = monotonic()
        if len(block) and not count:
            began, until = now, now + COUNTED
        count += len(block)
        sound.see(block)
        if now >= until or reader.away is not None:
            break
    seconds, away = monotonic() - began, "" if count else reader.away or ""
    return Heard(count, seconds, away, sound.level, sound.clipped)


class _Level:
    """How loud samples are that are numbers from -1 to 1."""

    def __init__(self) -> None:
        self._count = self._full = 0
        self._low, self._high, self._squares = 0.0, 0.0, 0.0

    def see(self, block: Samples) -> None:
        """Look at a block."""
        values = block.values
        if not len(block) or values.dtype.kind != "f":
            return
        low, high = float(values.min()), float(values.max())
        self._low = low if not self._count else min(low, self._low)
        self._high = high if not self._count else max(high, self._high)
        self._squares += float((values.astype(np.float64) ** 2).sum())
        self._full += int((np.abs(values) >= FULL).sum())
        self._count += values.size

    @property
    def level(self) -> float | None:
        """Root mean square in dB of full scale, ``None`` if all samples are the same."""
        if self._low == self._high:
            return None
        return 10 * math.log10(self._squares / self._count)

    @property
    def clipped(self) -> float:
        """Share of the samples at full scale."""
        return self._full / self._count if self._count else 0.0

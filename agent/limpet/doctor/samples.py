"""Whether samples come from the configured sources: as the running daemon says, else by opening them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import msgspec

from limpet.deployment.assignments import sources_alone
from limpet.device.machine import this_user
from limpet.doctor import running_daemon
from limpet.doctor.finding import bad, ok, skip, warn
from limpet.errors import LimpetError, UnreadableError
from limpet.inference import needs
from limpet.inference.planning import plan_source, source_plugin
from limpet.inference.reader import Expected, Reader
from limpet.isolation import confined
from limpet.untrusted import reading
from limpet.wording import IN_USE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from limpet.config import Config
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
_FILES = {"replay"}
"""Kinds of sources whose samples need no listening."""


class Heard(msgspec.Struct):
    """What came from a source: ``samples`` in ``seconds``, or why there are none."""

    samples: int
    seconds: float
    away: str = ""


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
            yield _of_source(config, name)


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
            yield bad("samples", what, _WHY, _fix(pipeline.source, known.reason))
        else:
            yield skip("samples", f"{pipeline.source}: {name} is {known.state} in the running daemon")


_WHY = "without samples there are no results"


def _fix(source: str, away: str = "") -> str:
    if away.endswith(IN_USE):
        return f"stop the other program; `sudo fuser -v {away.removesuffix(': ' + IN_USE)}` names it"
    return f"correct [sources.{source}], or the board; `limpet init` recognises what a board sends"


def _of_source(config: Config, name: str) -> Finding:
    """Open a source in a sandbox, as a worker does, and return whether samples come."""
    try:
        alone = sources_alone(config, [name])
        plan = plan_source(alone, name)
        allowed = needs.of_source(alone.folders, name, source_plugin(alone, name))
        with reading(f"what came from {name}"):
            heard = msgspec.json.decode(confined.run(lambda: _listen(plan), allowed, SECONDS + _EXTRA), type=Heard)
    except UnreadableError as error:
        return bad("samples", str(error), _WHY, _fix(name))
    except LimpetError:
        return skip("samples", f"{name}: its configuration is wrong, see below")
    except confined.LostError as error:
        return bad("samples", f"{name}: reading it ends with: {error}", _WHY, _fix(name))
    if heard.away:
        return bad("samples", f"{name}: {heard.away}", _WHY, _fix(name, heard.away))
    if not heard.samples:
        return warn("samples", f"{name}: no sample in {heard.seconds:.0f} s", _WHY, _fix(name))
    channels = f" of {len(plan.spec.channels)} channels" if plan.spec.channels else ""
    return ok("samples", f"{name}: {heard.samples:,} samples{channels} in {heard.seconds:.1f} s")


def _listen(plan: SourcePlan) -> str:
    return msgspec.json.encode(listen(plan)).decode()


def listen(plan: SourcePlan) -> Heard:
    """Read a source for some seconds, less if it is known earlier whether samples come."""
    reader = Reader(plan.plugin.module, plan.plugin.config, Counter(), Expected(None, plan.spec, reported=True))
    count, began, until = 0, monotonic(), monotonic() + SECONDS
    for block in reader:
        now = monotonic()
        if len(block) and not count:
            began, until = now, now + COUNTED
        count += len(block)
        if now >= until or reader.away is not None:
            break
    return Heard(count, monotonic() - began, "" if count else reader.away or "")

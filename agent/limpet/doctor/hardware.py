"""Accelerators, and the delegates that pipelines are configured with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limpet.accelerators.delegate_kinds import resolve
from limpet.accelerators.inventory import discover, missing
from limpet.doctor.finding import bad, ok, skip, warn
from limpet.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from limpet.accelerators.inventory import Accelerator
    from limpet.contracts.assignment import DelegateTable
    from limpet.device.machine import Machine
    from limpet.doctor.finding import Finding
    from limpet.doctor.installation import Installation


def accelerators(installation: Installation) -> Iterator[Finding]:
    """Look for accelerators. One that cannot be used is a warning: the CPU still runs models."""
    found = discover(installation.machine)
    yield from map(_accelerator, found)
    if not found:
        yield skip("accelerators", "none: models run on the CPU")


def _accelerator(device: Accelerator) -> Finding:
    what = f"{device.name}{', ' if device.where else ''}{device.where}"
    if not device.usable:
        return warn("accelerators", f"{what}: not usable", "; ".join(device.why_not), "; ".join(device.todo))
    use = f'delegates = ["{device.delegate}", "cpu"]' if device.delegate else "usable"
    return ok("accelerators", "; ".join([f"{what}: {use}", *device.notes]))


def delegates(installation: Installation) -> Iterator[Finding]:
    """Check each delegate of each pipeline except the CPU."""
    pipelines = installation.config.pipelines if installation.config else {}
    tables = installation.config.delegates if installation.config else {}
    seen = False
    for pipeline, wanted in pipelines.items():
        # Without `require` the CPU stands at the end of the list, named or not.
        order = [name for name in wanted.delegates if name != "cpu"]
        follows = [*order, "" if wanted.require else "cpu"][1:]
        for name, next_one in zip(order, follows, strict=True):
            seen = True
            yield _delegate(installation.machine, f"{pipeline}: {name}", name, tables, next_one)
    if not seen:
        yield skip("delegates", "only the CPU is configured")


def _delegate(
    machine: Machine, what: str, name: str, tables: Mapping[str, DelegateTable], next_one: str
) -> Finding:
    try:
        choice = resolve(name, tables)
    except ConfigError as error:
        return bad("delegates", what, "; ".join(error.problems), "correct the pipeline's delegates")
    problem, fix = missing(machine, choice)
    if not problem:
        return ok("delegates", f"{what} can be used")
    if next_one:
        return warn("delegates", what, f"{problem}; it will run on {next_one}, degraded", fix)
    return bad("delegates", what, f"{problem}, and there is no other delegate", fix)

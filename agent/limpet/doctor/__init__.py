"""Checks of an installation, in the order in which a user would fix what they find."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limpet.doctor import (
    access,
    broker_connection,
    configuration,
    hardware,
    kernel,
    local_api,
    samples,
    service,
    software,
    system,
    updates,
    usage,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from limpet.doctor.finding import Finding
    from limpet.doctor.installation import Installation

CHECKS: tuple[Callable[[Installation], Iterator[Finding]], ...] = (
    software.python,
    software.runtime,
    access.ports,
    samples.samples,
    access.groups,
    access.rivals,
    access.state,
    hardware.accelerators,
    hardware.delegates,
    service.service,
    broker_connection.connection,
    system.clock,
    system.disk,
    usage.usage,
    local_api.local_api,
    updates.updates,
    system.memory,
    system.power,
    system.heat,
    kernel.sandbox,
    kernel.cgroups,
    configuration.configuration,
)


def examine(installation: Installation) -> list[Finding]:
    """Return what all checks found, in order."""
    return [finding for check in CHECKS for finding in check(installation)]

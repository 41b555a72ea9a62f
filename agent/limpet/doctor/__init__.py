"""What is wrong with an installation, found in the order in which a person would mend it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limpet.doctor import access, broker, hardware, kernel, service, settings, software, system, usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from limpet.doctor.finding import Finding
    from limpet.doctor.subject import Subject

CHECKS: tuple[Callable[[Subject], Iterator[Finding]], ...] = (
    software.python,
    software.runtime,
    access.ports,
    access.groups,
    access.rivals,
    access.state,
    hardware.accelerators,
    hardware.delegates,
    service.service,
    broker.broker,
    system.clock,
    system.disk,
    usage.usage,
    system.memory,
    system.power,
    system.heat,
    kernel.sandbox,
    kernel.cgroups,
    settings.configuration,
)


def examine(subject: Subject) -> list[Finding]:
    """Return what all checks found, in order."""
    return [finding for check in CHECKS for finding in check(subject)]

"""The figures of the device as metrics. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limpet.gateway.metrics.family import Family, Kind, Point

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from limpet.contracts.messages import DeviceHealth
    from limpet.wire.gateway_records import Figures

MB = 1_000_000


def device_families(figures: Figures) -> Iterator[Family]:
    """Yield the metrics of the device. Some have no point."""
    device = figures.device
    facts = {"device": device.device, "boot": device.boot, "version": device.version}
    text = "The device, this run of the daemon and Limpet's version."
    yield Family("limpet.device", "info", "", text, [Point(facts, 1)])
    for name, kind, unit, text, value in _FIGURES:
        found = value(figures)
        yield Family(f"limpet.{name}", kind, unit, text, [] if found is None else [Point({}, found)])
    usable = [
        Point({"accelerator": one.name, "where": one.where, "delegate": one.delegate}, one.usable)
        for one in device.accelerators
    ]
    yield Family("limpet.accelerator.usable", "gauge", "", "Whether an accelerator can be used.", usable)


def _of(value: Callable[[DeviceHealth], float | None]) -> Callable[[Figures], float | None]:
    return lambda figures: value(figures.device)


def _megabytes(value: Callable[[DeviceHealth], float | None]) -> Callable[[Figures], float | None]:
    def in_bytes(figures: Figures) -> int | None:
        found = value(figures.device)
        return None if found is None else round(found * MB)

    return in_bytes


_FIGURES: tuple[tuple[str, Kind, str, str, Callable[[Figures], float | None]], ...] = (
    ("start.time", "gauge", "s", "Unix time at which the daemon started.", lambda figures: figures.started),
    (
        "machine.cpu.busy",
        "counter",
        "s",
        "Time for which the cores of the machine worked.",
        lambda figures: figures.cpu.busy_s if figures.cpu else None,
    ),
    (
        "machine.cpu",
        "counter",
        "s",
        "Time for which the cores of the machine worked or idled.",
        lambda figures: figures.cpu.all_s if figures.cpu else None,
    ),
    ("machine.load", "gauge", "", "Load average over a minute.", _of(lambda one: one.load_1m)),
    (
        "machine.memory.available",
        "gauge",
        "By",
        "Memory that is available without swapping.",
        _megabytes(lambda one: one.memory_available_mb),
    ),
    (
        "machine.disk.free",
        "gauge",
        "By",
        "Space left on the disk of the state directory.",
        _megabytes(lambda one: one.disk_free_mb),
    ),
    (
        "machine.temperature",
        "gauge",
        "Cel",
        "Temperature of the hottest thermal zone.",
        _of(lambda one: one.temperature_c),
    ),
    (
        "machine.throttled",
        "gauge",
        "",
        "Whether heat or power slows the machine down.",
        _of(lambda one: one.throttled),
    ),
    (
        "machine.clock.synchronised",
        "gauge",
        "",
        "Whether the wall clock is right.",
        _of(lambda one: one.clock_synchronised),
    ),
    (
        "memory",
        "gauge",
        "By",
        "Memory of Limpet's processes, shared pages counted once.",
        _megabytes(lambda one: one.pss_mb),
    ),
    (
        "audit.lost.lines",
        "counter",
        "",
        "Lines that the audit journal lost.",
        _of(lambda one: one.audit.lost if one.audit else None),
    ),
)
"""A metric of the whole device, and where its value is. ``None``: this machine cannot measure it."""

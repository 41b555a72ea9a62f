"""The device's figures as metrics. They have the same meaning on ``/metrics`` and in OTLP. No I/O.

Names and units are as OpenTelemetry has them: ``limpet.pipeline.stage.duration`` in ``s``. Prometheus' name
of it is ``limpet_pipeline_stage_duration_seconds``, see ``exposition``. Counters only rise while a supervisor
runs. What a machine cannot measure is left out.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from limpet.gateway.metrics.device import device_families
from limpet.gateway.metrics.pipelines import pipeline_families
from limpet.gateway.metrics.reporters import reporter_families

if TYPE_CHECKING:
    from limpet.gateway.metrics.family import Family
    from limpet.wire.gateway_records import Figures


def families(figures: Figures) -> list[Family]:
    """Return all metrics that have a point."""
    found = chain(
        device_families(figures), pipeline_families(figures), reporter_families(figures.device.reporters)
    )
    return [family for family in found if family.points]

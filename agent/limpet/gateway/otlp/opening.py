"""Opens the export to an OpenTelemetry collector, if there is to be one. It needs the extra ``otel``."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from limpet.errors import LimpetError
from limpet.gateway.otlp import collector_files

if TYPE_CHECKING:
    from limpet.gateway.otlp.export import Exporter
    from limpet.wire.gateway_records import Begin

log = logging.getLogger(__name__)


def open_exporter(begin: Begin) -> Exporter | None:
    """Read what it needs, before the sandbox is entered. If that fails, the log says why, and there is none."""
    table = begin.table.otlp
    if table is None:
        return None
    try:
        from limpet.gateway.otlp.export import Exporter
    except ImportError as error:
        log.error("OTLP: %s is missing. Run: pip install 'limpet[otel]'", error.name)  # noqa: TRY400 - no bug
        return None
    try:
        return Exporter(table, collector_files.read(table), begin.origin)
    except LimpetError as error:
        log.error("OTLP: nothing is exported: %s", error)  # noqa: TRY400 - no bug
        return None

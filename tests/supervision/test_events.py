"""Events: a line in the log and a message on the bus."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from limpet.contracts.messages import EventMessage
from limpet.supervision.events import Events
from support import reports

if TYPE_CHECKING:
    import pytest

    from limpet.contracts.messages import Message


def test_an_event_is_logged_with_fields_and_published(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    published: list[Message] = []
    events = Events(reports.ORIGIN, published.append)
    events.report("degraded", "press", "runs on cpu")
    events.report("recovered", "press", "")
    events.report("clock_set", "", "by an hour", offset_s=3600.0)
    lines = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert lines == [
        ("WARNING", "press: degraded: runs on cpu"),
        ("INFO", "press: recovered"),
        ("INFO", "device: clock_set: by an hour"),
    ]
    assert vars(caplog.records[0])["limpet_pipeline"] == "press"
    assert vars(caplog.records[0])["limpet_event"] == "degraded"
    found = [message for message in published if isinstance(message, EventMessage)]
    assert [(one.event, one.pipeline, one.offset_s, one.clock) for one in found] == [
        ("degraded", "press", None, None),
        ("recovered", "press", None, None),
        ("clock_set", "", 3600.0, None),
    ]
    assert {(one.device, one.boot) for one in found} == {("press-07", "boot1")}


def test_a_clock_that_was_not_set_is_no_event() -> None:
    published: list[Message] = []
    Events(reports.ORIGIN, published.append).watch_clock()
    assert published == []

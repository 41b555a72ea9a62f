"""Brokers that close connections over what they do not take: what is found out, given up, counted and named."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from limpet.reporters import mqtt
from support import reports
from support.broker import wait_until
from support.hostile import Rules, Said, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def reporting(url: str, directory: Path, **options: Any) -> Iterator[mqtt.MqttReporter]:
    config = mqtt.Config(url=url, reconnect_max=0.05, **options)
    with mqtt.open(config, reports.ORIGIN, directory, lambda _command: None) as reporter:
        yield reporter


class OnePoison(Rules):
    """Closes the connection over any message with the result 200, as one of MQTT 3.1.1 does."""

    def takes(self, said: Said) -> bool:
        return "/result/" not in said.topic or all(item["sequence"] != 200 for item in said.items)


def test_one_result_that_ends_the_connection_is_refused_and_all_others_arrive(tmp_path: Path) -> None:
    with serving(OnePoison) as broker, reporting(broker.url, tmp_path, protocol="3.1.1") as reporter:
        for message in reports.results(310):
            reporter.report(message)
        wait_until(lambda: reporter.health()["outbox_depth"] == 0 and len(broker.results()["motion"]) >= 309, 30)
        assert broker.results()["motion"] == set(range(310)) - {200}
        assert reporter.health()["refused"] == {"closes connection": 1}
        assert len(broker.visits) <= 8
        reporter.report(reports.result(310))
        wait_until(lambda: 310 in broker.results()["motion"])

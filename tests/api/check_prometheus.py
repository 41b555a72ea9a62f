"""A real Prometheus reads a real daemon. Its alerts fire and clear, and each panel's query works."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import signal
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from support.api_daemon import ApiDaemon, api_daemon
from support.broker import Mosquitto, free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(__file__).parents[2] / "packaging" / "observability"
PATIENCE = 90.0


class Prometheus:
    """Prometheus with Limpet's rules, which fire after a second in place of minutes."""

    def __init__(self, folder: Path, target: int) -> None:
        self.port = free_port()
        rules = yaml.safe_load((FOLDER / "limpet.rules.yml").read_text())
        for group in rules["groups"]:
            for rule in group["rules"]:
                if "for" in rule:
                    rule["for"] = "1s"
        settings = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
        settings["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        settings["scrape_configs"][0]["static_configs"] = [{"targets": [f"127.0.0.1:{target}"]}]
        (folder / "limpet.rules.yml").write_text(yaml.safe_dump(rules))
        self._config = folder / "prometheus.yml"
        self._config.write_text(yaml.safe_dump(settings))
        self._log = folder / "prometheus.log"
        self._data = folder / "data"

    @contextlib.contextmanager
    def running(self) -> Iterator[Prometheus]:
        """Run it until the end of the block."""
        address = f"127.0.0.1:{self.port}"
        options = [f"--config.file={self._config}", f"--storage.tsdb.path={self._data}"]
        with self._log.open("wb") as log:
            process = subprocess.Popen(
                ["prometheus", *options, f"--web.listen-address={address}"], stdout=log, stderr=log
            )
        try:
            wait_until(self._is_ready, PATIENCE)
            yield self
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)

    def _is_ready(self) -> bool:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready"):
            return True
        return False

    def ask(self, path: str, **query: str) -> Any:
        """Return the data of an answer of Prometheus' API."""
        where = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(where) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{path} {query}: {error.read().decode()}") from error

    def query(self, expression: str) -> list[Any]:
        """Return what an expression gives now."""
        found: list[Any] = self.ask("query", query=expression)["result"]
        return found

    def firing(self) -> set[str]:
        """Return the names of the alerts that fire."""
        alerts = self.ask("alerts")["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    def wait_for(self, alert: str, *, fires: bool) -> None:
        wait_until(lambda: (alert in self.firing()) == fires, PATIENCE)


def _promtool(*arguments: str | Path, stdin: bytes = b"") -> str:
    done = subprocess.run(["promtool", *arguments], input=stdin, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    return done.stdout.decode() + done.stderr.decode()


def test_promtool_accepts_rules_their_tests_and_the_configuration() -> None:
    _promtool("check", "rules", "--lint=all", "--lint-fatal", FOLDER / "limpet.rules.yml")
    _promtool("test", "rules", FOLDER / "limpet.rules.test.yml")
    _promtool("check", "config", "--lint=all", FOLDER / "prometheus.yml")


def test_every_alert_has_a_test() -> None:
    rules = yaml.safe_load((FOLDER / "limpet.rules.yml").read_text())
    tested = yaml.safe_load((FOLDER / "limpet.rules.test.yml").read_text())["tests"]
    cases = {
        case["alertname"]: {bool(one["exp_alerts"]) for one in test["alert_rule_test"]}
        for test in tested
        for case in test.get("alert_rule_test", [])
    }
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"] if "alert" in rule}
    assert cases == {alert: {True, False} for alert in alerts}


@pytest.mark.timeout(400)
def test_alerts_fire_and_clear_and_panels_show_figures(tmp_path: Path) -> None:
    broker = Mosquitto(tmp_path / "broker")
    broker.start()
    try:
        with api_daemon(tmp_path / "device", broker=broker.url) as device:
            page = device.request("/metrics")
            assert _promtool("check", "metrics", stdin=page.body) == ""
            with Prometheus(tmp_path, device.port).running() as prometheus:
                wait_until(lambda: prometheus.query('limpet_pipeline_state{state="running"} == 1'), PATIENCE)
                wait_until(lambda: prometheus.query("rate(limpet_pipeline_results_total[1m]) > 50"), PATIENCE)
                _infer(device)
                wait_until(lambda: prometheus.query("limpet_inference_requests_total > 1"), PATIENCE)
                _infer(device)
                wait_until(lambda: prometheus.query("rate(limpet_inference_requests_total[1m]) > 0"), PATIENCE)
                _check_panels(prometheus)
                assert prometheus.firing().isdisjoint(
                    {"LimpetReporterDisconnected", "LimpetPipelineFailed", "LimpetDown"}
                )
                _lose_broker(prometheus, broker)
                _break_model(prometheus, device)
                _stop(prometheus, device)
    finally:
        broker.stop()


def _infer(device: ApiDaemon) -> None:
    """Use the model as a client."""
    (tensor,) = device.request("/v2/models/dense").json["inputs"]
    request = {"inputs": [{**tensor, "shape": [1, 3], "data": [1, 2, 3]}]}
    for _ in range(5):
        answer = device.request(
            "/v2/models/dense/infer", "POST", json.dumps(request).encode(), {"Content-Type": "application/json"}
        )
        assert answer.status == 200, answer.body


def _check_panels(prometheus: Prometheus) -> None:
    """Have Prometheus answer the query of each panel. Those without a figure need what this daemon lacks."""
    dashboard = json.loads((FOLDER / "limpet-dashboard.json").read_text())
    empty = set()
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            expression = re.sub(r"\$(instance|pipeline)", ".*", target["expr"]).replace("$__rate_interval", "1m")
            if not prometheus.query(expression):
                empty.add(panel["title"])
    assert empty <= {
        "Samples dropped a second, by cause",
        "Windows beyond the model's input",
        "Updates of models",
        "Messages lost, by cause",
        "Temperature",
        "Throttled",
    }
    for one in dashboard["templating"]["list"]:
        if one["type"] == "query":
            _, metric, label = re.fullmatch(r"(label_values)\((\w+).*, (\w+)\)", one["definition"]).groups()
            assert prometheus.ask(f"label/{label}/values", **{"match[]": metric})


def _lose_broker(prometheus: Prometheus, broker: Mosquitto) -> None:
    broker.stop()
    prometheus.wait_for("LimpetReporterDisconnected", fires=True)
    wait_until(lambda: prometheus.query("limpet_outbox_messages > 0"), PATIENCE)
    broker.start()
    prometheus.wait_for("LimpetReporterDisconnected", fires=False)
    wait_until(lambda: prometheus.query("limpet_reporter_reconnects_total > 0"), PATIENCE)


def _break_model(prometheus: Prometheus, device: ApiDaemon) -> None:
    """Add a pipeline whose model is damaged, and then repair the model."""
    (device.folder / "second.tflite").write_bytes(b"no model")
    with device.daemon.path.open("a") as config:
        config.write(
            '[pipelines.second]\nsource = "imu"\nmodel = "second.tflite"\ndecoder = { kind = "regress" }\n'
        )
    device.daemon.signal(signal.SIGHUP)
    prometheus.wait_for("LimpetPipelineFailed", fires=True)
    assert prometheus.query('limpet_pipeline_state{pipeline="motion", state="running"} == 1')
    shutil.copy(device.folder / "dense.tflite", device.folder / "second.tflite")
    device.daemon.signal(signal.SIGHUP)
    prometheus.wait_for("LimpetPipelineFailed", fires=False)
    assert prometheus.query('limpet_pipeline_state{pipeline="second", state="running"} == 1')


def _stop(prometheus: Prometheus, device: ApiDaemon) -> None:
    device.daemon.stop()
    prometheus.wait_for("LimpetDown", fires=True)
    device.daemon.start()
    prometheus.wait_for("LimpetDown", fires=False)
    wait_until(lambda: prometheus.query('limpet_pipeline_state{state="running"} == 1'), PATIENCE)

"""The governor's decisions, and the ladder in the real daemon under a thermal trace."""

from __future__ import annotations

import csv
import itertools
import time
from itertools import groupby
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.config import GovernorTable, PipelineConfig, Rung
from limpet.deployment.desired import on_rung
from limpet.device.host import Host, Readings
from limpet.supervision.governor import Governor
from support import models
from support.broker import mosquitto, wait_until
from support.daemon import Consumer, daemon, missing

TRACE = Path(__file__).parents[1] / "data" / "thermal" / "closed-box.csv"
TABLE = GovernorTable(most_power=5.0)

HOT, COOL = Readings(temperature_c=85.0), Readings(temperature_c=60.0)


def test_down_after_a_while_and_each_step_gets_time_to_show() -> None:
    governor = Governor(TABLE)
    moved = [now for now in range(20) if governor.update(HOT, 2, float(now))]
    assert moved == [5, 10]
    assert governor.level == 2


def test_up_only_after_a_long_calm() -> None:
    governor = Governor(TABLE)
    governor.level = 2
    moved = [now for now in range(200) if governor.update(COOL, 2, float(now))]
    assert moved == [60, 120]


def test_between_the_limits_nothing_moves() -> None:
    governor = Governor(TABLE)
    governor.level = 1
    assert not any(governor.update(Readings(temperature_c=75.0), 2, float(now)) for now in range(1000))


def test_a_short_peak_is_no_reason() -> None:
    governor = Governor(TABLE)
    assert not any(governor.update(HOT if now % 4 else COOL, 2, float(now)) for now in range(1000))


@pytest.mark.parametrize(
    ("readings", "reason"),
    [
        (Readings(temperature_c=80.0), "80 °C"),
        (Readings(throttled=True), "throttled"),
        (Readings(pressure=0.7), "tasks wait for a CPU 70% of the time"),
        (Readings(charge=0.1), "battery at 10%"),
        (Readings(power_w=6.0), "6.0 W drawn"),
        (Readings(temperature_c=90.0, throttled=True), "90 °C, throttled"),
    ],
)
def test_every_kind_of_distress(readings: Readings, reason: str) -> None:
    governor = Governor(TABLE)
    assert governor.update(readings, 1, 0.0) == ""
    assert governor.update(readings, 1, 5.0) == reason


@pytest.mark.parametrize(
    "readings", [Readings(pressure=0.4), Readings(charge=0.3), Readings(power_w=4.5), Readings(throttled=True)]
)
def test_not_calm_enough_to_step_up(readings: Readings) -> None:
    governor = Governor(TABLE)
    governor.level = 1
    for now in range(200):
        governor.update(readings, 1, float(now))
    assert governor.level == 1


def test_a_machine_that_tells_nothing_runs_in_full() -> None:
    governor = Governor(TABLE)
    assert not any(governor.update(Readings(), 2, float(now)) for now in range(200))


@given(st.lists(st.tuples(st.floats(0, 30), st.one_of(st.none(), st.floats(0, 120)), st.integers(0, 3))))
def test_a_level_is_always_a_rung_and_moves_by_one(steps: list[tuple[float, float | None, int]]) -> None:
    governor, now = Governor(TABLE), 0.0
    for wait, temperature, deepest in steps:
        now += wait
        before = min(governor.level, deepest)
        reason = governor.update(Readings(temperature_c=temperature), deepest, now)
        assert 0 <= governor.level <= deepest
        assert abs(governor.level - before) == bool(reason)


def test_rungs() -> None:
    full = PipelineConfig(source="line", model="full", ladder=[Rung(model="light"), Rung(every=4)])
    assert [(p.model, p.every) for p in (on_rung(full, level) for level in range(4))] == [
        ("full", 1),
        ("light", 1),
        ("full", 4),
        ("full", 4),
    ]
    slow = PipelineConfig(source="line", model="full", every=3, ladder=[Rung(model="light"), Rung(every=9)])
    assert [(p.model, p.every) for p in (on_rung(slow, level) for level in (1, 2))] == [("light", 3), ("full", 9)]
    spared = PipelineConfig(source="line", model="full", delegates=["npu"], ladder=[Rung(delegates=["cpu"])])
    assert on_rung(spared, 1).delegates == ["cpu"]
    plain = PipelineConfig(source="line", model="full")
    assert on_rung(plain, 3) is plain


def test_readings_of_a_recorded_machine(tmp_path: Path) -> None:
    def write(path: str, text: str) -> None:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)

    assert Host(tmp_path).readings() == Readings()
    write("proc/pressure/cpu", "some avg10=12.50 avg60=3.00 avg300=1.00 total=1\nfull avg10=0.00 total=0\n")
    write("sys/class/thermal/thermal_zone0/temp", "81000\n")
    write("sys/class/thermal/cooling_device0/type", "pwm-fan\n")
    write("sys/class/thermal/cooling_device0/cur_state", "3\n")
    write("sys/devices/platform/soc/soc:firmware/get_throttled", "50000\n")
    for name, value in {
        "type": "Battery",
        "status": "Discharging",
        "capacity": 34,
        "power_now": 4_200_000,
    }.items():
        write(f"sys/class/power_supply/BAT0/{name}", f"{value}\n")
    assert Host(tmp_path).readings() == Readings(81.0, False, 0.125, 0.34, 4.2)
    write("sys/devices/platform/soc/soc:firmware/get_throttled", "50005\n")
    assert Host(tmp_path).readings().throttled is True
    write("sys/class/power_supply/BAT0/status", "Charging\n")
    assert Host(tmp_path).readings().charge is None


CONFIG = """
[device]
id = "press-07"
state = "state"
health_interval = 0.5
sysroot = "machine"

[mqtt]
url = "{url}"

[governor]
interval = 0.02
down_after = 0.2
up_after = 0.3

[sources.line]
kind = "replay"
path = "recording.csv"
rate = 100
loop = true

[pipelines.motion]
source = "line"
model = "full.tflite"
decoder = {{ kind = "regress" }}
ladder = [{{ model = "light.tflite" }}, {{ model = "light.tflite", every = 5 }}]

[pipelines.beside]
source = "line"
model = "light.tflite"
decoder = {{ kind = "regress" }}
"""


def test_the_ladder_under_a_thermal_trace(tmp_path: Path) -> None:
    zone = tmp_path / "machine/sys/class/thermal/thermal_zone0/temp"
    zone.parent.mkdir(parents=True)
    trace = [int(row["millidegrees"]) for row in csv.DictReader(TRACE.read_text().splitlines())]
    zone.write_text(f"{trace[0]}\n")
    models.dense(tmp_path / "full.tflite", inputs=3, outputs=3, layers=3)
    models.dense(tmp_path / "light.tflite", inputs=3, outputs=3)
    rows = "".join(f"{i % 7},{i % 5 / 2},{-(i % 3)}\n" for i in range(1000))
    (tmp_path / "recording.csv").write_text("ax,ay,az\n" + rows)
    with mosquitto(tmp_path / "broker") as broker:
        path = tmp_path / "limpet.toml"
        path.write_text(CONFIG.format(url=broker.url))
        consumer = Consumer(broker.port)
        with daemon(path) as running:
            consumer.wait_results("motion", 10)
            for millidegrees in trace:
                new = zone.with_name("new")
                new.write_text(f"{millidegrees}\n")
                new.rename(zone)
                time.sleep(0.05)
            wait_until(lambda: len(consumer.events("motion", "stepped_up")) >= 2)
            consumer.wait_results("motion", 20)
            running.stop()
        down, up = consumer.events("motion", "stepped_down"), consumer.events("motion", "stepped_up")
        results, swapped = consumer.results("motion"), consumer.events("motion", "swapped")
        beside = [result["sample"] for result in consumer.results("beside")]
        consumer.close()
    assert [event["reason"].split("; ")[1] for event in down] == [
        "runs light.tflite on cpu",
        "runs light.tflite on cpu, one window in 5",
    ]
    assert all("°C" in event["reason"] for event in down)
    assert [event["reason"].split("; ")[1] for event in up] == [
        "runs light.tflite on cpu",
        "runs full.tflite on cpu",
    ]
    assert [event["reason"] for event in swapped] == [
        "light on cpu took over",
        "light on cpu took over",
        "light on cpu took over",
        "full on cpu took over",
    ]
    assert [model for model, _ in groupby(result["model"] for result in results)] == ["full", "light", "full"]
    samples = [result["sample"] for result in results]
    assert 5 in {b - a for a, b in itertools.pairwise(samples)}
    assert not missing(results)
    assert beside == list(range(len(beside)))

"""The sketch and the Zephyr sample, run on this machine, and what else a sensor node is set up with."""

from __future__ import annotations

import configparser
import subprocess
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml

from limpet.sources.framings import cobs
from support.sensor_nodes import HOST, NODES, compile_for_host

if TYPE_CHECKING:
    from pathlib import Path

    from limpet.contracts.data import Rows

SKETCH = NODES / "examples" / "LimpetSensor" / "LimpetSensor.ino"
ZEPHYR = NODES / "zephyr"


def read(program: Path, channels: int, dropped: Counter[str]) -> Rows:
    sent = subprocess.run([program], capture_output=True, check=True, timeout=20).stdout
    return cobs.open(cobs.Config(), [f"c{i}" for i in range(channels)], dropped).feed(sent)


def test_the_sketch(tmp_path: Path) -> None:
    program = compile_for_host(
        HOST / "sketch.cpp", tmp_path / "sketch", f'-DSKETCH="{SKETCH}"', f"-I{HOST / 'arduino'}"
    )
    dropped: Counter[str] = Counter()
    rows = read(program, 6, dropped)
    assert not dropped
    assert rows.sequence is not None
    assert rows.time_us is not None
    # The sensor did not answer once; what came before it goes out, and its number is left out.
    taken = [n for n in range(56) if n != 25]
    assert rows.sequence.tolist() == taken
    np.testing.assert_array_equal(rows.values, [[n, -n, 2 * n, -2 * n, 3 * n, -3 * n] for n in taken])
    # The clock wraps on the way. How far apart samples are, the reader learns from the second frame on.
    steps = np.diff(rows.time_us) % 2**32
    np.testing.assert_array_equal(steps[10:], np.diff(taken)[10:] * 10_000)


def test_the_zephyr_sample(tmp_path: Path) -> None:
    program = compile_for_host(ZEPHYR / "src" / "main.c", tmp_path / "zephyr", f"-I{HOST}")
    dropped: Counter[str] = Counter()
    rows = read(program, 3, dropped)
    assert not dropped
    assert rows.sequence is not None
    # Reading 10 failed; at tick 33 the thread was late, and two more were never taken.
    ticks = [n for n in range(70) if n not in {10, 33, 34}]
    sent = ticks[: len(rows.sequence)]
    assert len(ticks) - len(sent) < 20
    assert rows.sequence.tolist() == sent
    readings = [tick if tick < 33 else tick - 2 for tick in sent]
    np.testing.assert_allclose(rows.values[:, 0], np.array(readings) + 0.5)
    np.testing.assert_allclose(rows.values[:, 1], -np.array(readings) - 0.5)
    np.testing.assert_allclose(rows.values[:, 2], 9.80665, rtol=1e-6)


def test_zephyr_boards_are_those_of_the_overlays() -> None:
    sample = yaml.safe_load((ZEPHYR / "sample.yaml").read_text())
    platforms = sample["tests"]["limpet.sensor"]["platform_allow"]
    overlays = {path.stem for path in (ZEPHYR / "boards").glob("*.overlay")}
    assert {platform.replace("/", "_") for platform in platforms} == overlays


@pytest.mark.parametrize("path", sorted((ZEPHYR / "boards").glob("*.overlay")), ids=lambda path: path.stem)
def test_zephyr_overlays_compile_and_name_what_the_sample_needs(path: Path) -> None:
    board = "/ { uart0: uart {}; i2c0: i2c { #address-cells = <1>; #size-cells = <0>; }; };"
    source = f"/dts-v1/;\n{board}\n{path.read_text()}"
    done = subprocess.run(["dtc", "-O", "dts", "-"], input=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "accel0" in done.stdout
    assert "limpet,uart" in done.stdout


def test_zephyr_says_nothing_into_its_frames() -> None:
    settings = dict(
        line.split("=") for line in (ZEPHYR / "prj.conf").read_text().splitlines() if not line.startswith("#")
    )
    assert settings["CONFIG_SENSOR"] == "y"
    for talker in ("CONFIG_CONSOLE", "CONFIG_UART_CONSOLE", "CONFIG_LOG", "CONFIG_BOOT_BANNER"):
        assert settings[talker] == "n"


def test_platformio_builds_the_sketch_for_each_board() -> None:
    settings = configparser.ConfigParser(interpolation=None)
    settings.read(NODES / "platformio.ini")
    assert (NODES / settings["platformio"]["src_dir"] / SKETCH.name).exists()
    boards = [name for name in settings.sections() if name.startswith("env:")]
    assert {"env:pico", "env:esp32", "env:uno"} <= set(boards)
    for name in boards:
        assert settings[name]["platform"]
        assert settings[name]["board"]


def test_it_is_an_arduino_library() -> None:
    lines = (NODES / "library.properties").read_text().splitlines()
    properties = dict(line.split("=", 1) for line in lines)
    assert properties["includes"] == "limpet_frame.h"
    assert (NODES / properties["includes"]).exists()
    assert {
        "name",
        "version",
        "author",
        "maintainer",
        "sentence",
        "category",
        "architectures",
    } <= properties.keys()


class _Loader(yaml.SafeLoader):
    """Knows ESPHome's tags."""


_Loader.add_constructor("!secret", lambda loader, node: f"secret {loader.construct_scalar(node)}")


def esphome(name: str) -> Any:
    return yaml.load((NODES / "esphome" / name).read_text(), _Loader)  # noqa: S506 - a SafeLoader with one tag more


@pytest.mark.parametrize("name", ["room-mqtt.yaml", "room-serial.yaml"])
def test_esphome(name: str) -> None:
    node = esphome(name)
    assert node["esphome"]["name"]
    assert node["esp32"]["board"]
    (sensor,) = node["sensor"]
    assert sensor["platform"] == "bme280_i2c"
    assert {sensor[quantity]["id"] for quantity in ("temperature", "humidity", "pressure")} == {
        "temperature",
        "humidity",
        "pressure",
    }
    text = str(node["interval"])
    for key in ("sequence", "time_us", "temperature", "humidity", "pressure"):
        assert f'"{key}' in text.replace("\\", "")


def test_esphome_keeps_secrets_out_of_its_files() -> None:
    node = esphome("room-mqtt.yaml")
    assert node["mqtt"]["broker"].startswith("secret ")
    assert node["mqtt"]["password"].startswith("secret ")
    assert node["wifi"]["password"].startswith("secret ")


def test_esphome_on_a_serial_line_does_not_log_into_it() -> None:
    node = esphome("room-serial.yaml")
    assert node["logger"]["baud_rate"] == 0
    assert node["uart"]["baud_rate"] == 115200

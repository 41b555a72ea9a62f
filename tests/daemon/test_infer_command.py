"""Windows given to a pipeline at work, by hand and by ``limpet-convert``, through a real broker and daemon."""

from __future__ import annotations

import base64
import shutil
import subprocess
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import numpy as np
import pytest

import schemas
from limpet.contracts.commands import MOST_WINDOWS
from limpet_convert.devices import DeviceError, Login, mqtt, open_device
from support import delegate, models
from support.broker import Mosquitto, mosquitto, wait_until
from support.caller import Caller, caller
from support.daemon import Consumer, Daemon, daemon

if TYPE_CHECKING:
    from collections.abc import Iterator

    from limpet.contracts.data import FloatArray

DATA = Path(__file__).parents[1] / "data" / "models"
CONFIGURATION = """
[device]
id = "press-07"
state = "state"
health_interval = 0.5
commands = ["ping", "infer", "explain"]

[mqtt]
url = "{url}"

[sources.ramp]
kind = "replay"
path = "recording.csv"
rate = 200
loop = true

[pipelines.press]
source = "ramp"
model = "dense.tflite"
decoder = {{ kind = "regress" }}

[pipelines.posture]
source = "ramp"
model = "dense.tflite"
window = {{ size = 4 }}
transforms = [{{ kind = "statistics", features = ["mean"] }}]
decoder = {{ kind = "classify", labels = ["left", "flat", "up"] }}

[pipelines.deep]
source = "ramp"
model = "deep.tflite"
decoder = {{ kind = "regress" }}
"""
MORE = """
[delegates.spare]
kind = "external"
library = "{library}"

[pipelines.quick]
source = "ramp"
model = "dense.tflite"
delegates = ["spare", "cpu"]
least_speed = 0.0
decoder = {{ kind = "regress" }}

[pipelines.streaming]
source = "ramp"
model = "streaming.tflite"
decoder = {{ kind = "regress" }}

[pipelines.recurrent]
source = "ramp"
model = "lstm_cell.tflite"
inputs = {{ input = ["ax"] }}
window = {{ size = 4 }}
decoder = {{ kind = "regress" }}
"""


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path_factory.mktemp("broker")) as running:
        yield running


@pytest.fixture(scope="module")
def running(broker: Mosquitto, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("device")
    models.dense(folder / "dense.tflite", inputs=3, outputs=3)
    models.dense(folder / "deep.tflite", inputs=3, outputs=3, layers=300)
    (folder / "recording.csv").write_text("ax,ay,az\n" + "".join(f"{i % 7},{i % 5},1\n" for i in range(100)))
    models.accumulator(folder / "streaming.tflite", 3)
    shutil.copy(DATA / "lstm_cell.tflite", folder)
    path = folder / "limpet.toml"
    path.write_text(CONFIGURATION.format(url=broker.url) + MORE.format(library=delegate.build(folder)))
    consumer = Consumer(broker.port)
    with daemon(path) as started:
        for name in ("press", "quick", "streaming"):
            consumer.wait_results(name, 1)
        yield started
    consumer.close()


@pytest.fixture
def operator(broker: Mosquitto, running: Daemon) -> Iterator[Caller]:
    assert running.process.poll() is None
    with caller(broker.port) as connected:
        yield connected


def encoded(values: FloatArray) -> dict[str, Any]:
    data = base64.b64encode(values.astype("<f4").tobytes()).decode()
    return {"shape": list(values.shape), "data": data}


def decoded(tensor: dict[str, Any]) -> FloatArray:
    values: FloatArray = np.frombuffer(base64.b64decode(tensor["data"]), "<f4").reshape(tensor["shape"])
    return values


def test_windows_come_back_as_what_the_model_makes_of_them(operator: Caller) -> None:
    windows = np.array([[1, 2, 3], [-4, 0.5, 0]], np.float32)
    request = {"pipeline": "press", "windows": encoded(windows)}
    jsonschema.Draft202012Validator(schemas.schema("command-infer")).validate(request)
    answer = operator.call("infer", **request)
    assert answer["ok"], answer
    result = answer["result"]
    assert (result["model"], result["version"], result["delegate"]) == ("dense", 0, "cpu")
    assert len(result["run_us"]) == 2
    (output,) = result["outputs"]
    np.testing.assert_allclose(decoded(output).reshape(2, 3), windows, atol=0.04)


def test_numbers_and_bytes_are_real_values_too(operator: Caller) -> None:
    plain = {"shape": [1, 3], "values": [1, 2.5, -3]}
    answer = operator.call("infer", pipeline="press", windows=plain)
    np.testing.assert_allclose(decoded(answer["result"]["outputs"][0]).ravel(), [1, 2.5, -3], atol=0.04)
    pixels = {"shape": [1, 3], "dtype": "uint8", "data": base64.b64encode(bytes([0, 5, 7])).decode()}
    answer = operator.call("infer", pipeline="press", windows=pixels)
    np.testing.assert_allclose(decoded(answer["result"]["outputs"][0]).ravel(), [0, 5, 7], atol=0.04)


def test_a_delegate_runs_them_where_it_is_in_use(broker: Mosquitto, running: Daemon, operator: Caller) -> None:
    consumer = Consumer(broker.port)
    wait_until(lambda: any(result["delegate"] == "spare" for result in consumer.results("quick")))
    answer = operator.call("infer", pipeline="quick", windows={"shape": [1, 3], "values": [1, 2, 3]})
    result = answer["result"]
    assert (result["delegate"], result["placement"]["op_share"]) == ("spare", 1.0)
    np.testing.assert_allclose(decoded(result["outputs"][0]).ravel(), [1, 2, 3], atol=0.04)
    # What fits no input is refused before the accelerator sees it, and is not taken for its failure.
    assert (
        "has shape"
        in operator.call("infer", pipeline="quick", windows={"shape": [1, 9], "values": [0] * 9})["error"]
    )
    consumer.wait_results("quick", 5)
    assert consumer.results("quick")[-1]["delegate"] == "spare"
    assert "crashed" not in running.log
    consumer.close()


def test_windows_from_outside_do_not_touch_the_state_of_a_model(
    broker: Mosquitto, running: Daemon, operator: Caller
) -> None:
    """The model adds up its windows, whose third value is 1; it begins anew where the recording does."""
    consumer = Consumer(broker.port)
    consumer.wait_results("streaming", 5)
    for _ in range(2):
        answer = operator.call("infer", pipeline="streaming", windows={"shape": [2, 3], "values": [1, 2, 3] * 2})
        (output,) = answer["result"]["outputs"]
        np.testing.assert_array_equal(decoded(output).reshape(2, 3), [[1, 2, 3], [2, 4, 6]])
        assert answer["result"]["delegate"] == "cpu"
    count = len(consumer.results("streaming"))
    consumer.wait_results("streaming", count + 5)
    sums = [result["output"]["values"].popitem()[1] for result in consumer.results("streaming")]
    assert all(after in {1, before + 1} for before, after in pairwise(sums))
    assert sum(value == 1 for value in sums) <= len(sums) / 50 + 1
    assert running.log.count("crashed") == 0
    consumer.close()


def test_windows_from_outside_are_as_independent_as_the_pipeline_s_own(operator: Caller) -> None:
    windows = np.repeat(np.array([1, -0.5, 1, -0.5], np.float32), 4).reshape(4, 4, 1)
    answer = operator.call("infer", pipeline="recurrent", windows=encoded(windows))
    (output,) = answer["result"]["outputs"]
    np.testing.assert_allclose(decoded(output).reshape(4, 4)[:, -1], [0.995, -0.952, 0.995, -0.952], atol=1e-3)


def test_guests_leave_results_and_figures_as_they_are(
    broker: Mosquitto, running: Daemon, operator: Caller
) -> None:
    consumer = Consumer(broker.port)
    consumer.wait_results("press", 5)
    windows = np.full((MOST_WINDOWS, 3), 7, np.float32)
    answer = operator.call("infer", pipeline="deep", windows=encoded(windows))
    assert len(answer["result"]["run_us"]) == MOST_WINDOWS
    consumer.wait_results("press", 20)
    results = consumer.results("press")
    for key in ("sequence", "sample"):
        counts = [result[key] for result in results]
        assert counts == list(range(counts[0], counts[0] + len(counts)))
    assert all(max(abs(v) for v in result["output"]["values"].values()) < 6.5 for result in results)
    wait_until(lambda: consumer.last("health/press"))
    health = consumer.last("health/press")
    assert (health["errors"], health["restarts"], health["dropped"]) == (0, 0, {})
    assert running.log.count("crashed") == 0
    consumer.close()


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        (b'{"pipeline": "press"}', "infer.windows is missing; use "),
        (b'{"pipeline": "boiler", "windows": {"shape": [1, 3], "values": [1, 2, 3]}}', "no pipeline 'boiler'"),
        (b'{"pipeline": "press", "windows": {"shape": [1, 3], "values": [1, 2]}}', "2 numbers were sent"),
        (b'{"pipeline": "press", "windows": {"shape": [1, 3], "data": "AAAA"}}', "3 bytes of float32 were sent"),
        (b'{"pipeline": "press", "windows": {"shape": [1, 4], "values": [1, 2, 3, 4]}}', "has shape [1, 3]"),
        (
            b'{"pipeline": "press", "windows": {"shape": [0, 3], "values": []}}',
            "shape[0] is 0; use a whole ",
        ),
        (
            b'{"pipeline": "press", "windows": {"shape": [1, %d], "values": [1]}}' % 2**70,
            "from 1 to 2147483647",
        ),
        (b'{"pipeline": "press", "windows": {"shape": [1, 3], "data": "?"}}', "base64"),
        (b'{"pipeline": "press", "windows": {"shape": [300, 3], "values": []}}', "at most 256"),
        (b'{"pipeline": "press", "windows": {"shape": [1, 3], "data": "' + b"A" * (1 << 21) + b'"}}', "the limit"),
    ],
)
def test_what_is_no_window_is_answered_so(operator: Caller, payload: bytes, says: str) -> None:
    answer = operator.call("infer", payload)
    while "too many commands" in answer["error"]:
        time.sleep(0.5)
        answer = operator.call("infer", payload)
    assert not answer["ok"]
    assert says in answer["error"]


def test_the_converter_verifies_what_runs(broker: Mosquitto, running: Daemon) -> None:
    windows = np.random.default_rng(0).uniform(-6, 6, (600, 3)).astype(np.float32)
    device = open_device(f"{broker.url}/press-07/press", Login())
    ran = device.run(running.path.parent / "dense.tflite", windows)
    np.testing.assert_allclose(ran.values[0], windows, atol=0.04)
    assert (ran.answer.delegate, len(ran.run_us)) == ("cpu", 600)


def test_another_model_is_named(broker: Mosquitto, running: Daemon, tmp_path: Path) -> None:
    assert running.process.poll() is None
    other = models.dense(tmp_path / "other.tflite", inputs=3, outputs=3, int8=False)
    device = open_device(f"{broker.url}/limpet/press-07/press", Login())
    with pytest.raises(
        DeviceError, match=r"press-07/press runs dense 0 \(SHA-256 .*deploy what is verified first"
    ):
        device.run(other, np.zeros((1, 3), np.float32))


def test_a_device_that_is_away_or_does_not_allow_it(broker: Mosquitto, running: Daemon, tmp_path: Path) -> None:
    model, window = running.path.parent / "dense.tflite", np.zeros((1, 3), np.float32)
    with pytest.raises(DeviceError, match="no device says that it is there"):
        open_device(f"{broker.url}/press-99/press", Login()).run(model, window)
    with pytest.raises(DeviceError, match="no pipeline 'boiler'"):
        open_device(f"{broker.url}/press-07/boiler", Login()).run(model, window)
    with pytest.raises(DeviceError, match="nothing listens on port 1"):
        open_device("mqtt://127.0.0.1:1/press-07/press", Login()).run(model, window)
    models.dense(tmp_path / "dense.tflite", inputs=3, outputs=3)
    models.dense(tmp_path / "deep.tflite", inputs=3, outputs=3)
    (tmp_path / "recording.csv").write_text("ax,ay,az\n1,2,3\n")
    shy = CONFIGURATION.format(url=broker.url).replace("press-07", "press-08").replace(', "infer"', "")
    (tmp_path / "limpet.toml").write_text(shy)
    consumer = Consumer(broker.port, "limpet/press-08/#")
    with daemon(tmp_path / "limpet.toml"):
        consumer.wait_results("press", 1)
        with pytest.raises(DeviceError, match=r'not allowed here.*add "infer" to commands'):
            open_device(f"{broker.url}/press-08/press", Login()).run(model, window)
    consumer.close()


def test_brokers_that_want_a_password_and_refuse_a_topic(running: Daemon, tmp_path: Path) -> None:
    model, window = running.path.parent / "dense.tflite", np.zeros((1, 3), np.float32)
    passwords, secret, access = (tmp_path / name for name in ("passwords", "secret", "access"))
    subprocess.run(["mosquitto_passwd", "-b", "-c", passwords, "anna", "hush"], check=True, timeout=20)
    access.write_text("user anna\ntopic read limpet/#\n")
    settings = f"allow_anonymous false\npassword_file {passwords}\nacl_file {access}"
    with mosquitto(tmp_path / "broker", "", settings) as strict:
        url = f"mqtt://anna@127.0.0.1:{strict.port}/press-07/press"
        secret.write_text("wrong\n")
        with pytest.raises(DeviceError, match=r"check username.*password_file"):
            open_device(url, Login(password_file=secret)).run(model, window)
        secret.write_text("hush\n")
        with pytest.raises(DeviceError, match="may not write to command/infer"):
            open_device(url, Login(password_file=secret)).run(model, window)
        with pytest.raises(DeviceError, match="cannot be read"):
            open_device(url, Login(password_file=tmp_path / "gone")).run(model, window)


@pytest.mark.parametrize(
    "url",
    [
        "mqtt://broker.example/press",
        "mqtt://broker.example/a/b?x=1",
        "mqtt://anna:secret@broker.example/press-07/motion",
        "mqtt://broker.example/press-07/+",
        "http://broker.example/press-07/motion",
        "mqtt://broker.example:x/press-07/motion",
    ],
)
def test_urls_that_name_no_pipeline(url: str) -> None:
    with pytest.raises(DeviceError):
        open_device(url, Login())


def test_batches_are_bounded_by_time_count_and_bytes() -> None:
    small, large = np.zeros((600, 3), np.float32), np.zeros((5, 100_000), np.float32)
    assert [len(b) for b in mqtt.batches(small, 1e-5, 12)] == [256, 256, 88]
    assert [len(b) for b in mqtt.batches(small[:25], 0.2, 12)] == [10, 10, 5]
    assert [len(b) for b in mqtt.batches(large, 1e-5, 12)] == [2, 2, 1]
    assert [len(b) for b in mqtt.batches(small[:2], 60, 12)] == [1, 1]
    assert [len(b) for b in mqtt.batches(small[:5], 1e-5, 400_000)] == [2, 2, 1]


def test_an_answer_is_explained_while_the_pipeline_runs_on(broker: Mosquitto, operator: Caller) -> None:
    """The model gives its three channels back. Their means in the window are the scores."""
    consumer = Consumer(broker.port)
    request = {"pipeline": "posture", "invokes": 200}
    jsonschema.Draft202012Validator(schemas.schema("command-explain")).validate(request)
    answer = operator.call("explain", **request)
    assert answer["ok"], answer
    jsonschema.Draft202012Validator(schemas.schema("explained")).validate(answer["result"])
    found = answer["result"]["explanation"]
    own = {"left": "ax", "flat": "ay", "up": "az"}[found["label"]]
    values = {part["name"]: part["value"] for part in found["parts"]}
    assert set(values) == {"ax", "ay", "az"}
    # A score hangs on its own channel alone. It may be below what is typical: its value is negative then.
    assert {name for name, value in values.items() if abs(value) > 1e-6} <= {own}
    assert sum(values.values()) == pytest.approx(found["value"] - found["hidden"], abs=1e-6)
    assert found["exact"]
    assert found["invokes"] <= 200
    wait_until(
        lambda: any(result["sample"] >= answer["result"]["sample"] for result in consumer.results("posture"))
    )
    consumer.close()


def test_what_cannot_be_explained_is_refused_with_a_reason(operator: Caller) -> None:
    answer = operator.call("explain", pipeline="posture", by="pixels")
    assert answer["error"].startswith("the window cannot be explained: its samples are no pictures")
    answer = operator.call("explain", pipeline="posture", label="lefft")
    assert "did you mean 'left'?" in answer["error"]
    answer = operator.call("explain", pipeline="posture", invokes=1)
    assert "invokes" in answer["error"]
    assert "no pipeline 'pump' is running" in operator.call("explain", pipeline="pump")["error"]

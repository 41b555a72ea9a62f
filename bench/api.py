"""The local API beside MLServer and bare LiteRT: throughput, latency, memory, and what guests cost pipelines.

``make bench-api`` writes docs/explanation/benchmarks-api.md. The last line is one JSON object. One client loads
both servers: wrk, with prebuilt bodies. All run in turn, several rounds, on the same machine.
"""

from __future__ import annotations

import http.client
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from ai_edge_litert.interpreter import Interpreter

from stand import KEYWORD, ROOT, Counting, Processes, Stand
from support.broker import free_port, wait_until
from support.bundles import bundle

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = ROOT / "docs/explanation/benchmarks-api.md"
BUILD = ROOT / "build/bench"
PEER = ROOT / ".venv-mlserver/bin/mlserver"
PEER_FOLDER = ROOT / "bench/api_peer"
LUA = ROOT / "bench/api_load.lua"
CONVERTERS = ROOT / ".venv-convert/bin/python"
SECONDS, ROUNDS, CLIENTS = 4.0, 3, 8
WORKERS = (0, 1, 2)
"""Settings of MLServer's ``parallel_workers`` that are tried."""
REST = 20.0
"""Seconds over which the gateway rests."""
OWN_SECONDS = 10.0
USUAL_INTERVAL = 10.0
"""Seconds between two health messages, as without the key."""
DECODER = 'decoder = { kind = "classify" }\n'


@dataclass
class Load:
    """What wrk measured: answers a second, and latencies in ms. ``failed``: answers that were no success."""

    rate: float
    p50: float
    p99: float
    failed: int


@dataclass
class Body:
    """A prebuilt request. ``header``: bytes of its JSON part, if tensors follow in binary."""

    path: Path
    header: int | None = None


def wrk(url: str, clients: int, seconds: float) -> list[str]:
    """Return the command that sends a body again and again from so many connections."""
    return ["wrk", "-t1", f"-c{clients}", f"-d{seconds:g}s", "--timeout", "10s", "-s", str(LUA), url]


def environment(body: Body) -> dict[str, str]:
    """Return the environment in which wrk sends a body."""
    header = {} if body.header is None else {"HEADER_LENGTH": str(body.header)}
    return os.environ | {"BODY": str(body.path)} | header


def answered(output: str) -> Load:
    """Return what wrk printed."""
    found = json.loads(output.strip().splitlines()[-1])
    return Load(found["requests"] / found["seconds"], found["p50_ms"], found["p99_ms"], found["failed"])


def load(url: str, body: Body, clients: int, seconds: float = SECONDS) -> Load:
    """Send a body again and again, and return what came."""
    done = subprocess.run(
        wrk(url, clients, seconds), env=environment(body), capture_output=True, text=True, check=True
    )
    return answered(done.stdout)


class Model:
    """A model file, bodies of requests for it, and the same model bare."""

    def __init__(self, name: str, path: Path, folder: Path) -> None:
        self.name, self.path, self.folder = name, path, folder
        self._interpreter = Interpreter(str(path), num_threads=1)
        self._interpreter.allocate_tensors()
        (self._input,), (self._output,) = (
            self._interpreter.get_input_details(),
            self._interpreter.get_output_details(),
        )
        shape = tuple(int(size) for size in self._input["shape"])
        self.windows = np.random.default_rng(0).integers(-128, 128, (64, *shape)).astype(np.int8)
        tensor = {"name": self._input["name"], "shape": shape, "datatype": "INT8"}
        self.json = self._json(tensor)
        self.binary = self._binary(tensor)

    def _json(self, tensor: dict[str, Any]) -> Body:
        path = self.folder / f"{self.name}.json"
        path.write_text(json.dumps({"inputs": [{**tensor, "data": self.windows[0].ravel().tolist()}]}))
        return Body(path)

    def _binary(self, tensor: dict[str, Any]) -> Body:
        data = self.windows[0].tobytes()
        parameters = {"binary_data_size": len(data)}
        request = {
            "inputs": [{**tensor, "parameters": parameters}],
            "parameters": {"binary_data_output": True},
        }
        header = json.dumps(request).encode()
        path = self.folder / f"{self.name}.bin"
        path.write_bytes(header + data)
        return Body(path, len(header))

    def bare(self, seconds: float = SECONDS) -> Load:
        """Feed one interpreter with new data, on one thread."""
        times = []
        begin = now = time.perf_counter()
        while now - begin < seconds:
            window = self.windows[len(times) % len(self.windows)]
            self._interpreter.set_tensor(self._input["index"], window)
            self._interpreter.invoke()
            self._interpreter.get_tensor(self._output["index"])
            before, now = now, time.perf_counter()
            times.append(now - before)
        p50, p99 = (float(value) * 1e3 for value in np.percentile(times, [50, 99]))
        return Load(len(times) / (now - begin), p50, p99, 0)


def mobilenet() -> Path:
    """Return MobileNetV2 in int8, made once."""
    path = BUILD / "mobilenet-v2-int8.tflite"
    if not path.exists():
        BUILD.mkdir(parents=True, exist_ok=True)
        subprocess.run([CONVERTERS, ROOT / "bench/api_model.py", path], check=True, capture_output=True)
    return path


def wait_ready(url: str, process: subprocess.Popen[bytes] | None = None) -> None:
    """Wait until a server answers that a model is ready."""

    def ready() -> bool:
        assert process is None or process.poll() is None, "the server has ended"
        connection = http.client.HTTPConnection(host, timeout=5)
        with suppress(OSError), closing(connection):
            connection.request("GET", f"/{path}")
            return connection.getresponse().status == 200
        return False

    host, _, path = url.removeprefix("http://").partition("/")

    wait_until(ready, 120)


@contextmanager
def mlserver(folder: Path, models: list[Model], workers: int) -> Iterator[str]:
    """Run MLServer with these models; yield its URL."""
    folder.mkdir()
    ports = [free_port() for _ in range(3)]
    settings = {
        **dict(zip(("http_port", "grpc_port", "metrics_port"), ports, strict=True)),
        "host": "127.0.0.1",
        "parallel_workers": workers,
        "debug": False,
        "access_log": False,
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    for model in models:
        (folder / model.name).mkdir()
        described = {"name": model.name, "implementation": "lite.LiteRT", "parameters": {"uri": str(model.path)}}
        (folder / model.name / "model-settings.json").write_text(json.dumps(described))
    environment = os.environ | {"PYTHONPATH": str(PEER_FOLDER), "PYTHONDONTWRITEBYTECODE": "1"}
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            [PEER, "start", "."], cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    url = f"http://127.0.0.1:{ports[0]}"
    try:
        for model in models:
            wait_ready(f"{url}/v2/models/{model.name}/ready", process)
        yield url
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):  # it may wait for its workers forever
            process.wait(10)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def store(folder: Path, models: list[Model]) -> None:
    """Write the models as bundles into the store of a daemon in this folder."""
    target = folder / "state/models"
    target.mkdir(parents=True, exist_ok=True)
    for model in models:
        members = {"model.tflite": model.path.read_bytes()}
        bundle(target / f"{model.name}-1.limpet", members, name=model.name, version=1)


def api_table(port: int, more: str = "") -> str:
    """Return the table of a configuration for the local API."""
    return f'\n[api]\nlisten = ["127.0.0.1:{port}"]\nrequests_per_second = 100000\n{more}'


@contextmanager
def limpet(stand: Stand, models: list[Model], *parts: str) -> Iterator[tuple[str, Processes]]:
    """Run a daemon that serves these models; yield its URL and its processes."""
    store(stand.folder, models)
    port = free_port()
    names = json.dumps([model.name for model in models])
    with stand.daemon(*parts, api_table(port, f"models = {names}\n")) as running:
        url = f"http://127.0.0.1:{port}"
        for model in models:
            wait_ready(f"{url}/v2/models/{model.name}/ready", running.process)
        yield url, Processes(running.process.pid)


Rounds = dict[str, list[Load]]


def compare(stand: Stand, models: list[Model], folder: Path) -> dict[str, Rounds]:
    """Measure each way to each model, in turn, ``ROUNDS`` times."""
    found: dict[str, Rounds] = {model.name: {} for model in models}
    for number in range(ROUNDS):
        for model in models:
            found[model.name].setdefault("bare", []).append(model.bare())
        for workers in WORKERS:
            with mlserver(folder / f"peer-{number}-{workers}", models, workers) as url:
                for model in models:
                    at = f"{url}/v2/models/{model.name}/infer"
                    load(at, model.json, CLIENTS, 1.0)
                    key = f"MLServer, {workers} workers, JSON"
                    found[model.name].setdefault(key, []).append(load(at, model.json, CLIENTS))
        parts = stand.replay("own", 1), stand.pipeline("own", stand.unpacked_model(), DECODER)
        with limpet(stand, models, *parts) as (url, _):
            for model in models:
                at, rounds = f"{url}/v2/models/{model.name}/infer", found[model.name]
                load(at, model.json, CLIENTS, 1.0)
                rounds.setdefault("Limpet, JSON", []).append(load(at, model.json, CLIENTS))
                rounds.setdefault("Limpet, binary", []).append(load(at, model.binary, CLIENTS))
                rounds.setdefault("Limpet, binary, one client", []).append(load(at, model.binary, 1))
        for model in models:
            print(model.name, {key: f"{one[-1].rate:.0f}/s" for key, one in found[model.name].items()}, flush=True)
    return found


@dataclass
class Kept:
    """Results a second of the device's own pipeline, alone and while guests saturate the API."""

    guests: str
    alone: float
    beside: float
    answers: float

    @property
    def share(self) -> float:
        """Share of its rate that the pipeline kept."""
        return self.beside / self.alone


def own_rate(counting: Counting, seconds: float = OWN_SECONDS) -> float:
    """Return how many results a second arrive at the broker."""
    before, begin = counting.results, time.perf_counter()
    time.sleep(seconds)
    return (counting.results - before) / (time.perf_counter() - begin)


def own_pipeline(stand: Stand, models: list[Model]) -> list[Kept]:
    """Measure what guests cost a pipeline that takes half a core."""
    rows = np.random.default_rng(0).normal(0, 3, (4096, 10)).astype(np.float32)
    np.save(stand.folder / "recording.npy", rows)
    keyword = stand.pipeline("own", KEYWORD, "rate_tolerance = 1000\n")  # it is made for 50 samples a second
    with stand.consumer() as counting, stand.daemon(stand.replay("own"), keyword):
        wait_until(lambda: counting.results > 1000, 60)
        flat_out = own_rate(counting, 5)
    kept = []
    parts = (stand.replay("own", round(flat_out / 2)), keyword)
    with stand.consumer() as counting, limpet(stand, models, *parts) as (url, _):
        wait_until(lambda: counting.results > 1000, 60)
        for name, model, body in (
            ("the pipeline's own model, JSON", models[1], models[1].json),
            ("MobileNetV2, JSON", models[0], models[0].json),
            ("MobileNetV2, binary", models[0], models[0].binary),
        ):
            alone = own_rate(counting)
            at = f"{url}/v2/models/{model.name}/infer"
            guests = subprocess.Popen(
                wrk(at, CLIENTS, OWN_SECONDS + 2), env=environment(body), stdout=subprocess.PIPE, text=True
            )
            time.sleep(1)
            beside = own_rate(counting)
            out, _ = guests.communicate(timeout=60)
            kept.append(Kept(name, alone, beside, answered(out).rate))
            print(kept[-1], flush=True)
    return kept


@dataclass
class Rest:
    """The gateway at rest: PSS in MB, and CPU time in ms in ``REST`` seconds."""

    pss_mb: float
    cpu_ms: float


def at_rest(stand: Stand, *, grpc: bool) -> Rest:
    """Measure the gateway of a daemon whose API no client uses."""
    port = free_port()
    more = f'grpc = ["127.0.0.1:{free_port()}"]\n' if grpc else ""
    parts = stand.replay("own", 10), stand.pipeline("own", stand.unpacked_model(), DECODER), api_table(port, more)
    np.save(stand.folder / "recording.npy", np.zeros((4096, 9), np.float32))
    with stand.daemon(*parts) as running:
        wait_ready(f"http://127.0.0.1:{port}/v2/health/ready", running.process)
        (gateway,) = (pid for pid, name in Processes(running.process.pid).names().items() if name == "limpet-api")
        time.sleep(5)
        processes = Processes(gateway)
        before = processes.cpu_s()
        time.sleep(REST)
        return Rest(processes.pss_mb()[gateway], (processes.cpu_s() - before) * 1e3)


# --- the page


def rates(rounds: Rounds) -> dict[str, float]:
    """Return the median rate of each way."""
    return {key: median(one.rate for one in loads) for key, loads in rounds.items()}


def best_peer(rounds: Rounds) -> float:
    """Return the rate of MLServer with its best setting."""
    return max(rate for key, rate in rates(rounds).items() if key.startswith("MLServer"))


def figures(found: dict[str, Rounds], kept: list[Kept], rests: dict[str, Rest]) -> dict[str, float]:
    """Return the figures of the last line."""
    vision, keyword = found["mobilenet"], found["keyword"]
    p99 = median(
        one.p99 / bare.p99 for one, bare in zip(vision["Limpet, binary, one client"], vision["bare"], strict=True)
    )
    keyword_best = max(rates(keyword)["Limpet, JSON"], rates(keyword)["Limpet, binary"])
    return {
        "json_ratio_mlserver": round(rates(vision)["Limpet, JSON"] / best_peer(vision), 2),
        "binary_ratio_bare": round(rates(vision)["Limpet, binary"] / rates(vision)["bare"], 2),
        "p99_ratio": round(p99, 2),
        "keyword_ratio_mlserver": round(keyword_best / best_peer(keyword), 2),
        "gateway_rest_pss_mb": round(rests["REST"].pss_mb, 1),
        "gateway_pss_mb": round(rests["REST and gRPC"].pss_mb, 1),
        "own_rate_kept": round(min(one.share for one in kept), 3),
    }


def rows(rounds: Rounds) -> str:
    """Return the rows of a model's table."""
    lines = []
    for key, loads in rounds.items():
        p50, p99 = median(one.p50 for one in loads), median(one.p99 for one in loads)
        failed = sum(one.failed for one in loads)
        lines.append(f"| {key} | {median(one.rate for one in loads):,.0f} | {p50:.2f} | {p99:.2f} | {failed} |")
    return "\n".join(lines)


GOALS = {
    "json_ratio_mlserver": "at least 3",
    "binary_ratio_bare": "at least 0.9",
    "p99_ratio": "at most 1.5",
    "keyword_ratio_mlserver": "at least 5",
    "gateway_rest_pss_mb": "at most 30",
    "gateway_pss_mb": "at most 45",
    "own_rate_kept": "at least 0.9",
}


def page(found: dict[str, Rounds], kept: list[Kept], rests: dict[str, Rest], last: dict[str, float]) -> str:
    """Return the page."""
    head = "| | requests/s | p50, ms | p99, ms | failed |\n| --- | --- | --- | --- | --- |"
    tables = "\n\n".join(
        f"### {title}\n\n{head}\n{rows(found[name])}"
        for name, title in (("mobilenet", "MobileNetV2, int8"), ("keyword", "Keyword model, int8"))
    )
    goals = "\n".join(f"| `{key}` | {last[key]} | {goal} |" for key, goal in GOALS.items())
    own = "\n".join(
        f"| {one.guests} | {one.alone:,.0f} | {one.beside:,.0f} | {one.share:.3f} | {one.answers:,.0f} |"
        for one in kept
    )
    resting = "\n".join(f"| {name} | {one.pss_mb:.1f} | {one.cpu_ms:.0f} |" for name, one in rests.items())
    now = datetime.now(timezone.utc)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    return f"""# Benchmarks: the local API

Written by `make bench-api` on {now:%Y-%m-%d}: {machine}.

| figure | measured | goal |
| --- | --- | --- |
{goals}

All ways run in turn, {ROUNDS} times, on the same machine. The tables have medians. The client is wrk with
prebuilt bodies and {CLIENTS} connections, unless a row says otherwise. It takes CPU time of the
same cores.

- **bare**: one LiteRT interpreter in one process, on one thread, which is fed new data. No server and no client.
- **MLServer**: 1.7.1, the same model file by the model class in `bench/api_peer/lite.py`.
- **Limpet**: the daemon with `[api]`. The model is in the store, and no pipeline runs it.

{tables}

## What guests cost the device's own pipeline

The pipeline runs the keyword model on each sample, at half the rate that it reaches alone. Its results are counted
at the broker. {CLIENTS} clients saturate the API meanwhile.

| guests use | results/s alone | results/s beside | share | answers/s |
| --- | --- | --- | --- | --- |
{own}

## The gateway at rest

PSS with no other Python on the machine that shares its pages, and CPU time in {REST:g} s.

| | PSS, MB | CPU, ms |
| --- | --- | --- |
{resting}
"""


def main() -> None:
    """Measure, write the page, and print the last line."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        unpacked = folder / "keyword.tflite"
        with zipfile.ZipFile(KEYWORD) as archive:
            unpacked.write_bytes(archive.read("model.tflite"))
        models = [Model("mobilenet", mobilenet(), folder), Model("keyword", unpacked, folder)]
        with Stand(
            folder / "stand", extras=("api", "api-grpc"), health_interval=USUAL_INTERVAL
        ).running() as stand:
            found = compare(stand, models, folder)
            kept = own_pipeline(stand, models)
            rests = {"REST": at_rest(stand, grpc=False), "REST and gRPC": at_rest(stand, grpc=True)}
    last = figures(found, kept, rests)
    PAGE.write_text(page(found, kept, rests, last))
    print(json.dumps(last))


if __name__ == "__main__":
    main()

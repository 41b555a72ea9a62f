"""The fault-injecting delegate does what the tests of failover take for granted, in whichever runtime is there."""

from __future__ import annotations

import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from support import models
from support.delegate import Control, build, ops

if TYPE_CHECKING:
    from collections.abc import Callable

if find_spec("ai_edge_litert"):
    from ai_edge_litert.interpreter import Interpreter, load_delegate
else:
    from tflite_runtime.interpreter import Interpreter, load_delegate

MODELS: dict[str, Callable[[Path], Path]] = {
    "dense int8": lambda path: models.dense(path, 9, 5, layers=3),
    "dense float": lambda path: models.dense(path, 9, 5, int8=False, layers=2),
    "dense batch": lambda path: models.dense(path, 4, 4, batch=3),
    "conv per channel": lambda path: models.conv(path, layers=2),
}
PARTIAL = "partial=1"


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(build(tmp_path_factory.mktemp("delegate")))


@pytest.fixture
def control(tmp_path: Path) -> Control:
    return Control(tmp_path / "faults")


class Run:
    """An interpreter, with the delegate where options are given, and what it makes of some input."""

    def __init__(self, model: Path, library: str = "", options: dict[str, str] | None = None) -> None:
        delegates = [] if options is None else [load_delegate(library, options)]
        self._interpreter = Interpreter(str(model), experimental_delegates=delegates)
        self.claimed = [op for op in ops(self._interpreter) if op["op_name"] == "DELEGATE"]
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]
        self._output = self._interpreter.get_output_details()[0]["index"]

    def __call__(self, seed: int = 0) -> Any:
        random = np.random.default_rng(seed)
        shape, dtype = self._input["shape"], self._input["dtype"]
        values = random.integers(-128, 128, shape) if dtype == np.int8 else random.normal(size=shape)
        self._interpreter.set_tensor(self._input["index"], values.astype(dtype))
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self._output).astype(np.float64)


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_computes_what_the_cpu_computes(
    make: Callable[[Path], Path], library: str, control: Control, tmp_path: Path
) -> None:
    model = make(tmp_path / "model.tflite")
    cpu, delegate = Run(model), Run(model, library, control.options())
    assert delegate.claimed
    for seed in range(5):
        expected = cpu(seed)
        assert np.ptp(expected) > 0
        assert np.abs(delegate(seed) - expected).max() <= 1


def test_claims_some_ops_and_leaves_the_others_to_the_cpu(library: str, control: Control, tmp_path: Path) -> None:
    model = models.dense(tmp_path / "model.tflite", 9, 5, layers=3)
    (whole,) = Run(model, library, control.options()).claimed
    partial = Run(model, library, control.options(PARTIAL))
    assert len(whole["inputs"]) > len(partial.claimed[0]["inputs"])
    assert np.abs(partial() - Run(model)()).max() <= 1


def test_leaves_alone_what_it_does_not_know(library: str, control: Control, tmp_path: Path) -> None:
    interpreter = Interpreter(
        str(models.two(tmp_path / "model.tflite")),
        experimental_delegates=[load_delegate(library, control.options())],
    )
    assert [op["op_name"] for op in ops(interpreter)] == ["ADD", "MUL"]


@pytest.mark.parametrize("fault", ["create", "unplugged"])
def test_cannot_be_made(fault: str, library: str, control: Control) -> None:
    with pytest.raises(ValueError, match="no device"):
        load_delegate(library, control.options(fault))


def test_probes_what_a_sandbox_should_refuse(library: str, tmp_path: Path) -> None:
    for name in ("mqtt-password", "dense.tflite"):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match="probe; network done") as outside:
        load_delegate(library, {"fault": f"probe={tmp_path}"})
    assert str(outside.value).count(" done") == 8
    assert (tmp_path / "written").exists()


@pytest.mark.parametrize(("fault", "reason"), [("prepare", "refuses the model"), ("init", "init failed")])
def test_refuses_a_model_until_lifted(
    fault: str, reason: str, library: str, control: Control, tmp_path: Path
) -> None:
    model = models.dense(tmp_path / "model.tflite")
    control.raise_(fault)
    with pytest.raises(RuntimeError, match=reason):
        Run(model, library, control.options())
    control.lift()
    assert np.array_equal(Run(model, library, control.options())(), Run(model)())


def test_invoke_fails_until_lifted(library: str, control: Control, tmp_path: Path) -> None:
    model = models.dense(tmp_path / "model.tflite")
    run = Run(model, library, control.options())
    control.raise_("invoke")
    with pytest.raises(RuntimeError, match="does not answer"):
        run()
    control.lift()
    assert np.array_equal(run(), Run(model)())


def test_unplugged_works_again_only_when_made_anew(library: str, control: Control, tmp_path: Path) -> None:
    model = models.dense(tmp_path / "model.tflite")
    run = Run(model, library, control.options())
    control.raise_("unplugged")
    with pytest.raises(RuntimeError, match="does not answer"):
        run()
    control.lift()
    with pytest.raises(RuntimeError, match="does not answer"):
        run()
    assert np.array_equal(Run(model, library, control.options())(), Run(model)())


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_computes_wrongly_until_lifted(
    make: Callable[[Path], Path], library: str, control: Control, tmp_path: Path
) -> None:
    model = make(tmp_path / "model.tflite")
    run, expected = Run(model, library, control.options()), Run(model)()
    control.raise_("wrong")
    assert np.abs(run() - expected).max() > 0.1
    control.lift()
    assert np.abs(run() - expected).max() <= 1


PROGRAM = """
import sys
from pathlib import Path
sys.path[:0] = {path!r}
from test_fault_delegate import Run
print("made", flush=True)
run = Run(Path({model!r}), {library!r}, {options!r})
print("ready", flush=True)
run()
print("ran", flush=True)
"""


@pytest.mark.parametrize(
    ("fault", "said"),
    [("=create", ["made"]), ("=prepare", ["made"]), ("=init", ["made"]), ("", ["made", "ready"])],
)
def test_crashes_and_hangs(fault: str, said: list[str], library: str, control: Control, tmp_path: Path) -> None:
    model = models.dense(tmp_path / "model.tflite")
    here = Path(__file__).parent

    def start(words: str) -> subprocess.Popen[str]:
        program = PROGRAM.format(
            path=[str(here), str(here.parent)], model=str(model), library=library, options=control.options(words)
        )
        return subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    with start(f"crash{fault}") as crashes, start(f"hang{fault}") as hangs:
        assert crashes.stdout
        assert hangs.stdout
        assert crashes.stdout.read().split() == said
        assert crashes.wait() == -signal.SIGSEGV
        assert [hangs.stdout.readline().strip() for _ in said] == said
        with pytest.raises(subprocess.TimeoutExpired):
            hangs.wait(0.3)
        hangs.kill()


def test_takes_no_other_option(library: str) -> None:
    with pytest.raises(ValueError, match="options are fault and control"):
        load_delegate(library, {"speed": "fast"})

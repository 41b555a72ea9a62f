from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from limpet import cli
from support import bundles, models, trusting

if TYPE_CHECKING:
    from pathlib import Path


def shown(capsys: pytest.CaptureFixture[str], path: Path) -> tuple[int, dict[str, Any], str]:
    """Return the status, what --json prints and what a person reads."""
    status = cli.main(["inspect", str(path), "--json"])
    facts = json.loads(capsys.readouterr().out)
    assert cli.main(["inspect", str(path)]) == status
    return status, facts, capsys.readouterr().out


def test_a_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = models.dense(tmp_path / "m.tflite", 3, 3).read_bytes()
    labels = "\n".join(f"class {i}" for i in range(10)).encode()
    taken = {"name": "input", "shape": [1, 3], "dtype": "int8", "scale": [0.0625], "zero_point": [3]}
    path = bundles.bundle(
        tmp_path / "motion-3.limpet",
        {"model.tflite": model, "labels.txt": labels},
        labels="labels.txt",
        inputs=[{**taken, "channels": ["ax", "ay", "az"], "unit": "g"}],
    )
    status, facts, text = shown(capsys, path)
    assert status == 0
    assert (facts["size"], facts["sha256"]) == (len(model), bundles.member(model)["sha256"])
    assert (facts["manifest"]["version"], facts["golden"], facts["signed"]) == (3, False, False)
    assert facts["ops"] == {"FULLY_CONNECTED": 1}
    assert "input [1, 3] int8, scale 0.0625, zero point 3, channels ax, ay, az, in g" in text
    assert "10: class 0, class 1" in text
    assert "and 2 more" in text
    assert "motion 3: " in text
    assert "signed" not in text


def test_the_reference_of_a_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = models.dense(tmp_path / "m.tflite", 3, 3).read_bytes()
    feature = {"mean": 0, "std": 1, "quantiles": [0, 1], "effective": 100}
    reference = {
        "windows": 1200,
        "rate": 10,
        "features": [{**feature, "name": f"a{n}.mean"} for n in range(10)],
        "thresholds": {"univariate": {}, "adwin": {}},
        "slices": {"north": {"windows": 50, "right": 44}},
    }
    for content, status in ((json.dumps(reference).encode(), 0), (b'{"windows": 1, "rate": -1}', 1)):
        members = {"model.tflite": model, "reference.json": content}
        path = bundles.bundle(tmp_path / "motion-3.limpet", members, reference="reference.json")
        found, facts, text = shown(capsys, path)
        assert found == status
        if status:
            assert "rate" in facts["reference"]["refused"]
            assert "reference   REFUSED     the reference of motion" in text
        else:
            assert facts["reference"]["monitors"] == ["adwin", "univariate"]
            assert "1,200 windows, 10 a second; 10 features: a0.mean, a1.mean" in text
            assert "and 2 more" in text
            assert "adwin, univariate; at most 1 false alarms in 26 million windows like these" in text
            assert "north: 44 of 50 windows right, 95 % interval 76.9% to 94.8%" in text


def test_a_signed_bundle_names_its_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = models.dense(tmp_path / "m.tflite", 3, 3).read_bytes()
    maker = trusting.key()
    _, facts, text = shown(capsys, trusting.bundle(tmp_path / "motion-3.limpet", [maker]))
    assert facts["signed"]
    assert facts["signed_by"] == [maker.public_key.keyid]
    assert f"signed      by {maker.public_key.keyid[:16]}, which is not verified" in text
    head = bundles.manifest({"model.tflite": model})
    members = [("manifest.json", head), ("model.tflite", model), ("signature", bytes(64))]
    assert "by a key that cannot be read" in shown(capsys, bundles.zipped(tmp_path / "m-3.limpet", members))[2]


def test_a_bare_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, facts, text = shown(capsys, models.described(tmp_path / "pets.tflite"))
    assert status == 0
    assert (facts["labels"], facts["metadata"]["version"]) == (["cat", "dog", "café"], "v7")
    assert facts["min_runtime_version"] == "1.5.0"
    assert 'transforms  [{"kind": "normalise", "mean": 127.0, "std": 128.0}]' in text
    assert "cat, dog, café" in text


def test_what_the_delegate_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, facts, text = shown(capsys, models.two(tmp_path / "two.tflite"))
    assert facts["delegates"] == {"cpu": {"share": 1.0, "covered": {"ADD": 1, "MUL": 1}, "left": {}}}
    assert "signature   serving: a, b -> product, sum" in text
    _, facts, text = shown(capsys, models.nonzero(tmp_path / "nonzero.tflite"))
    assert facts["delegates"]["cpu"]["left"] == {"WHERE": 1}
    assert "left to plain kernels: 1 WHERE" in text


def test_a_model_that_is_refused_here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, facts, text = shown(capsys, models.unknown(tmp_path / "edge.tflite"))
    assert status == 1
    assert facts["ops"] == {"edgetpu-custom-op": 1}
    assert "REFUSED" in text
    assert "needs the delegate 'edgetpu'" in facts["refused"]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (
            models.accumulator,
            "state       variables (handle): kept from window to window, cleared after a gap, by default",
        ),
        (models.svdf, "state       recurrent ops (SVDF); its file does not show for how long"),
        (models.pair, "state       input total_in is perhaps output total_out of the run before"),
    ],
)
def test_state_is_shown(make: Any, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, facts, text = shown(capsys, make(tmp_path / "model.tflite"))
    assert status == 0
    assert says in text
    assert facts["state"] or facts["state_pairs"]


def test_inputs_that_a_manifest_names_are_not_guessed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    members = {"model.tflite": models.pair(tmp_path / "pair.tflite", 1).read_bytes()}
    inputs = [
        {"name": "total_in", "shape": [1, 1], "dtype": "float32", "state": "total_out"},
        {"name": "step", "shape": [1, 1], "dtype": "float32", "channels": ["x"]},
    ]
    _, _, text = shown(capsys, bundles.bundle(tmp_path / "pair-1.limpet", members, name="pair", inputs=inputs))
    assert "input total_in is output total_out of the run before, as its manifest says" in text
    assert "perhaps" not in text


def test_a_model_that_brings_the_runtime_down_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, facts, text = shown(capsys, models.crashing(tmp_path / "model.tflite"))
    assert status == 1
    assert "did not survive the model: killed by SIGSEGV" in facts["refused"]
    assert "inputs      image [1, 4] float32" in text


def test_a_model_without_state_says_nothing_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, facts, text = shown(capsys, models.offset(tmp_path / "model.tflite"))
    assert (facts["state"], facts["state_pairs"]) == ("", {})
    assert "state  " not in text


@pytest.mark.parametrize(("name", "reason"), [("nowhere", "no model 'nowhere'"), ("./x.limpet", "no file")])
def test_what_is_not_there(name: str, reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["inspect", name]) == 1
    assert reason in capsys.readouterr().err


def test_a_hostile_text_gives_no_orders_to_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    orders = "\x1b]0;title\x07\x1b[2J\x9b31m\u202egpj.exe"
    model = models.dense(tmp_path / "m.tflite", 3, 3).read_bytes()
    members = {"model.tflite": model, "labels.txt": "\n".join([orders] * 10).encode()}
    path = bundles.bundle(
        tmp_path / "m-3.limpet", members, labels="labels.txt", description=orders, licence=orders
    )
    assert cli.main(["inspect", str(path)]) == 0
    refused = bundles.bundle(tmp_path / "n-3.limpet", members, labels="labels.txt", model=orders)
    assert cli.main(["inspect", str(refused)]) == 1
    said = capsys.readouterr()
    assert "title" in said.out
    assert "title" in said.err
    for text in (said.out, said.err):
        assert all(c.isprintable() or c in "\n\t" for c in text), text

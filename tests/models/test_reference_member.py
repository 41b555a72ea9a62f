"""The member ``reference`` of a bundle: read, bounded, and refused where its parts do not fit together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.contracts.reference import LARGEST_REFERENCE, Reference
from limpet.errors import DeployError
from limpet.models import bundle as bundles
from limpet.models import reference as references
from support.bundles import bundle

if TYPE_CHECKING:
    from pathlib import Path

FEATURE: dict[str, Any] = {
    "name": "x.mean",
    "channel": "x",
    "unit": "g",
    "mean": 1.0,
    "std": 2.0,
    "quantiles": [0, 1, 4],
    "effective": 50,
}
GOOD: dict[str, Any] = {
    "windows": 900,
    "rate": 10.0,
    "features": [FEATURE],
    "score": FEATURE,
    "embedding": {"seed": 1, "of": 2, "mean": [0, 1], "precision": [[1, 0], [0, 1]]},
    "classes": {"labels": ["a", "b"], "confusion": [[5, 1], [0, 4]], "priors": [0.6, 0.4]},
    "thresholds": {"univariate": {"any": [1, 2]}},
}


def test_a_bundles_reference_is_read_as_it_was_written(tmp_path: Path) -> None:
    members = {"model.tflite": b"m", "reference.json": msgspec.json.encode(GOOD)}
    path = bundle(tmp_path / "motion-3.limpet", members, model="model.tflite", reference="reference.json")
    loaded = bundles.load(path, tmp_path / "cache")
    assert loaded.reference is not None
    assert loaded.reference in loaded.files
    read = references.read(loaded.reference, "motion")
    assert read == msgspec.convert(GOOD, Reference)


@pytest.mark.parametrize("content", [b"", b"[", b"\xff", b"[" * 100_000, b'{"windows": 1e400}', b" " * (1 << 21)])
def test_a_bundle_whose_reference_no_pipeline_could_use_is_not_installed(tmp_path: Path, content: bytes) -> None:
    members = {"model.tflite": b"m", "reference.json": content}
    path = bundle(tmp_path / "motion-3.limpet", members, model="model.tflite", reference="reference.json")
    with pytest.raises(DeployError, match=r"motion-3\.limpet: member 'reference\.json'"):
        bundles.examine(path)


def test_the_same_reference_has_the_same_bytes() -> None:
    reference = msgspec.convert(GOOD, Reference)
    assert references.parse(references.dump(reference)) == reference
    assert references.dump(references.parse(references.dump(reference))) == references.dump(reference)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"format": 2}, "its format is 2; this version of Limpet reads up to 1"),
        ({"features": [FEATURE, FEATURE]}, "two of its features have the same name"),
        ({"features": [{**FEATURE, "quantiles": [0, 2, 1]}]}, "the quantiles of x.mean do not rise"),
        ({"features": [{**FEATURE, "name": "x\u001b"}]}, "a feature is called"),
        ({"embedding": {**GOOD["embedding"], "mean": [0]}}, "needs a mean of 2 and a precision of 2 rows"),
        ({"classes": {**GOOD["classes"], "priors": [1]}}, "it has 2 classes; priors and confusion"),
        ({"slices": {"north": {"windows": 1, "right": 2}}}, "in the slice 'north', 2 of 1 windows"),
        ({"unknown": 1}, "unknown field"),
    ],
)
def test_a_reference_whose_parts_do_not_fit_is_refused_by_name(
    tmp_path: Path, change: dict[str, Any], why: str
) -> None:
    path = tmp_path / "reference.json"
    path.write_bytes(msgspec.json.encode({**GOOD, **change}))
    with pytest.raises(DeployError, match=f"the reference of motion: .*{why}"):
        references.read(path, "motion")


def test_a_reference_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "reference.json"
    path.write_bytes(b" " * LARGEST_REFERENCE + msgspec.json.encode(GOOD))
    with pytest.raises(DeployError, match="is larger than"):
        references.read(path, "motion")


@given(st.data())
def test_any_bytes_are_a_reference_or_a_deploy_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    whole = msgspec.json.encode(GOOD)
    place = data.draw(st.integers(0, len(whole) - 1))
    path = tmp_path_factory.getbasetemp() / "damaged-reference.json"
    path.write_bytes(
        whole[:place] + data.draw(st.binary(max_size=20)) + whole[place + data.draw(st.integers(0, 9)) :]
    )
    try:
        read = references.read(path, "motion")
    except DeployError:
        return
    assert len(read.features) <= 2

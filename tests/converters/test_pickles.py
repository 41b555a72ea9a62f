"""Pickles that would run code are refused without being opened."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import tempfile
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet_convert.converters import _pickles
from limpet_convert.errors import ConvertError


class Evil:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_code_is_found_in_every_protocol(tmp_path: Path, protocol: int) -> None:
    (tmp_path / "m.pt").write_bytes(pickle.dumps({"weights": [Evil(tmp_path / "ran")]}, protocol))
    with pytest.raises(ConvertError, match=r"posix\.mkdir.*not opened"):
        _pickles.refuse_code(tmp_path / "m.pt")
    assert not (tmp_path / "ran").exists()


def test_code_is_found_in_an_archive_and_in_an_archive_in_it(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "inner.pt", "w") as inner:
        inner.writestr("archive/data.pkl", pickle.dumps(Evil(tmp_path / "ran")))
    for name, content in (
        ("m/data.pkl", pickle.dumps(Evil(tmp_path))),
        ("m/in.pt", (tmp_path / "inner.pt").read_bytes()),
    ):
        with zipfile.ZipFile(tmp_path / "m.pt2", "w") as outer:
            outer.writestr("m/code.py", b"print()")
            outer.writestr(name, content)
        with pytest.raises(ConvertError, match=r"posix\.mkdir"):
            _pickles.refuse_code(tmp_path / "m.pt2")


def test_plain_values_pass_and_half_a_pickle_does_not(tmp_path: Path) -> None:
    whole = pickle.dumps(OrderedDict(weights=[1.0, 2.0]))
    (tmp_path / "m.pt").write_bytes(whole)
    _pickles.refuse_code(tmp_path / "m.pt")
    (tmp_path / "m.pt").write_bytes(whole[:-4])
    with pytest.raises(ConvertError, match="not a whole pickle"):
        _pickles.refuse_code(tmp_path / "m.pt")


def test_a_pickle_too_large_to_look_through_is_not_waved_through(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/data.pkl", bytes(64 << 20))
    with pytest.raises(ConvertError, match="too large to look through"):
        _pickles.refuse_code(tmp_path / "m.pt")


def pickled(*opcodes: bytes) -> bytes:
    return b"\x80\x04" + b"".join(opcodes) + b"."


def text(value: str) -> bytes:
    return b"\x8c" + bytes([len(value)]) + value.encode()


MEMOIZE, POP, STACK_GLOBAL = b"\x94", b"0", b"\x93"


def test_a_name_cannot_be_hidden_behind_others() -> None:
    """Strings out of the memo, or below others that were popped, are what is imported."""
    recalled = pickled(
        text("posix"), MEMOIZE, POP, text("system"), MEMOIZE, POP, text("torch"), POP, text("Size"), POP,
        b"h\x00", b"h\x01", STACK_GLOBAL,
    )  # fmt: skip
    assert list(_pickles.names(recalled)) == ["posix.system"]
    popped = pickled(text("posix"), text("system"), text("torch"), text("Size"), POP, POP, STACK_GLOBAL)
    assert list(_pickles.names(popped)) == ["?"]


@pytest.mark.parametrize(
    ("name", "harmless"),
    [
        ("torch._utils._rebuild_tensor_v2", True),
        ("torch.FloatStorage", True),
        ("torch.float32", True),
        ("__torch__.torch.nn.modules.conv.___torch_mangle_0.Conv1d", True),
        ("torch.storage._load_from_bytes", False),
        ("torch.load", False),
        ("torch.hub.load", False),
        ("torch.fx.graph_module._exec_with_source", False),
        ("torch.nn.modules.container.Sequential", False),
        ("builtins.eval", False),
        ("?", False),
    ],
)
def test_only_what_tensors_are_made_of_is_harmless(name: str, *, harmless: bool) -> None:
    assert _pickles.is_harmless(name) == harmless


def test_a_tensor_that_an_exported_program_keeps_as_a_pickle_and_compiled_code(tmp_path: Path) -> None:
    """PyTorch reads such a member as any pickle, whatever it is called."""
    entry = {"path_name": "weight_0", "use_pickle": True}
    for name, content, said in (
        (
            "m/data/weights/model_weights_config.json",
            json.dumps({"config": {"w": entry}}),
            "w is kept as a pickle",
        ),
        (
            "m/data/constants/model_constants_config.json",
            json.dumps({"config": {"o": {"path_name": "opaque_obj_0", "use_pickle": False}}}),
            "o is kept as a pickle",
        ),
        ("m/data/sample_inputs/model.pt", pickle.dumps(1) + pickle.dumps(Evil(tmp_path / "ran")), "no archive"),
        ("serialized_constants.json", pickle.dumps(Evil(tmp_path / "ran")), "PyTorch 2.7 and before"),
        ("m/DATA.PKL", pickle.dumps(Evil(tmp_path / "ran")), r"posix\.mkdir"),
        ("m/data/weights/model_weights_config.json", "[]", "not as torch.export.save writes it"),
        ("m/data/aotinductor/model/model.so", "code", "compiled code"),
    ):
        with zipfile.ZipFile(tmp_path / "m.pt2", "w") as archive:
            archive.writestr(name, content)
            archive.writestr("m/data/weights/weight_0", pickle.dumps(Evil(tmp_path / "ran")))
        with pytest.raises(ConvertError, match=said):
            _pickles.refuse_code(tmp_path / "m.pt2")


def test_an_archive_that_two_readers_read_in_two_ways(tmp_path: Path) -> None:
    model = tmp_path / "m.pt2"

    def write(*names: str, comment: bytes = b"") -> None:
        with zipfile.ZipFile(model, "w") as archive:
            archive.comment = comment
            for name in names:
                archive.writestr(name, pickle.dumps(1))

    write("m/data.pkl", "m/other.pkl")
    _pickles.refuse_code(model)
    plain = model.read_bytes()
    write("m/data.pkl", "m/Data.pkl")
    same = model.read_bytes()
    write("m/data.pkl", comment=b"PK")
    for content in (same, pickle.dumps(Evil(tmp_path / "ran")) + plain, model.read_bytes()):
        model.write_bytes(content)
        with pytest.raises(ConvertError, match="read in two ways"):
            _pickles.refuse_code(model)
    assert not (tmp_path / "ran").exists()


@given(st.binary(max_size=200))
def test_bytes_of_any_kind_are_looked_through_or_refused(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.pt"
        path.write_bytes(data)
        with contextlib.suppress(ConvertError):
            _pickles.refuse_code(path)
            assert all(_pickles.is_harmless(name) for name in _pickles.names(data))

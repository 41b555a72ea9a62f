"""What a user reads when onnx2tf fails: the node of their file, and the last reason in a long log."""

from __future__ import annotations

import pytest

from limpet_convert.converters._onnx2tf import WAYS, refusal

NODES = {"node_3_Conv": "stem/conv (Conv)", "node_41_Softmax": "Softmax@0 (Softmax)"}
LOG = """\x1b[31mERROR:\x1b[0m The trace log is below.
Traceback (most recent call last):
  File "onnx2tf/utils/common_functions.py", line 312, in print_wrapper_func
    result = func(*args, **kwargs)
  File "onnx2tf/ops/Softmax.py", line 91, in make_node
ValueError: 'node_41_Softmax' is not a valid scope name.

\x1b[31mERROR:\x1b[0m input_onnx_file_path: model.onnx
\x1b[31mERROR:\x1b[0m onnx_op_name: node_41_Softmax
\x1b[31mERROR:\x1b[0m Read this and deal with it. https://example.org
"""


def test_the_node_and_the_last_exception_are_named_and_colours_are_not() -> None:
    assert refusal(LOG, NODES) == (
        "cannot convert node Softmax@0 (Softmax): 'Softmax@0 (Softmax)' is not a valid scope name"
    )


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("", "cannot convert the model: it said nothing"),
        ("Killed", "cannot convert the model: Killed"),
        ("onnx_op_name: node_3_Conv\nnode_9_Foo", "cannot convert node stem/conv (Conv): node_9_Foo"),
        ("NotImplementedError: axis is out of range.\n", "cannot convert the model: axis is out of range"),
        ("KeyError: \x1b[1m'a\x07b'", "cannot convert the model: 'a\N{REPLACEMENT CHARACTER}b'"),
    ],
)
def test_whatever_it_printed_there_is_one_line(said: str, wanted: str) -> None:
    assert refusal(said, NODES) == wanted


def test_each_way_has_a_lock_with_hashes_and_a_python() -> None:
    for way in WAYS:
        lines = way.lock.read_text(encoding="utf-8").splitlines()
        assert any(line.startswith("onnx2tf==") for line in lines)
        assert any("--hash=sha256:" in line for line in lines)
        assert way.pythons

"""The runtime's first contact with a model, in a sandboxed child.

A damaged file, or an op used wrongly, may end the process that runs it. So no model is run in this process, and no
variant is written, before a child has loaded it and run it once.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from limpet_convert.errors import ConvertError
from limpet_convert.jail import CrashedError, Jail, LateError
from limpet_convert.packed import pack

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from limpet.contracts.data import Array


LONGEST = 300
"""Seconds that loading a model and running it once, on two kinds of kernels, may take."""
_proven = set[str]()
"""Digests of the models that have passed."""
_children = list[Jail]()
"""The child, as long as it lives."""


def prove(model: bytes, name: str, inputs: Sequence[Array] = ()) -> None:
    """Load a ``.tflite`` model and run it once, on the kernels of the agent and on the plain ones.

    ``name``: of its file, for messages. ``inputs``: a window of real values for each input. Default: zeros. A
    model that leaves sizes open is then only loaded. ``ConvertError`` if the runtime refuses the model, or does
    not survive it. Each model is proven once.
    """
    digest = hashlib.sha256(model).hexdigest()
    if digest in _proven:
        return
    if not _children:
        _children.append(Jail([]))
    try:
        _children[0].call("prove", model, name, [pack(one) for one in inputs], within=LONGEST)
    except LateError as error:
        _children.clear()
        raise ConvertError(f"{name}: {error}", error.details) from error
    except CrashedError as error:
        _children.clear()
        raise ConvertError(
            f"{name}: the runtime crashed ({error.how}) when it ran this model once. The file is damaged, or uses "
            "an op in a way that the runtime does not support. Export the model again",
            error.details,
        ) from error
    _proven.add(digest)


def prove_file(path: Path) -> None:
    """Prove the model in a file. See ``prove``."""
    prove(path.read_bytes(), path.name)

"""What a training leaves for the steps after it: samples, and a ``convert.toml`` that repeats the steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import tomli_w

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from limpet.contracts.data import Array
    from limpet_convert.training.pieces import Piece

NAME = "convert.toml"
MOST, MOST_TESTED = 1000, 10_000
"""Windows that are kept to calibrate with, and to test with."""
LARGEST = 64 << 20
"""Bytes of those windows."""


def excerpt(pieces: Sequence[Piece], size: int, hop: int, most: int = MOST) -> list[Piece]:
    """Return about ``most`` windows of the pieces: of each piece the same share, from its begin, never none."""
    counts = [(len(piece.values) - size) // hop + 1 if len(piece.values) >= size else 0 for piece in pieces]
    most = min(most, LARGEST // (4 * size * pieces[0].values.shape[1]) + 1)
    share = min(1.0, most / max(1, sum(counts)))
    found = []
    for piece, count in zip(pieces, counts, strict=True):
        if count:
            wanted = max(1, round(count * share))
            found.append(piece.part(0, size + (wanted - 1) * hop, piece.group))
    return found


def write_pieces(pieces: Sequence[Piece], folder: Path) -> None:
    """Write each piece as a recording, float32 ``(n, channels)``, in an order that its name keeps."""
    folder.mkdir(parents=True)
    for number, piece in enumerate(pieces):
        np.save(folder / f"{number:05d}.npy", np.ascontiguousarray(piece.values, np.float32))


def write_targets(targets: Array, path: Path) -> None:
    """Write the class or number of each window."""
    np.save(path, targets if targets.ndim == 1 or targets.shape[1] > 1 else targets[:, 0])


def write_occasions(recordings: Array, path: Path) -> None:
    """Write which recording each window is of, ``(n,)``. Windows of one were taken shortly after each other."""
    np.save(path, recordings)


def write(path: Path, tables: dict[str, dict[str, Any]]) -> None:
    """Write the project file."""
    head = "# Written by `limpet-convert train`. Repeat the steps after training with: limpet-convert run\n"
    path.write_text(head + tomli_w.dumps(tables), encoding="utf-8")

"""Pictures to the size of a model's picture, where neither its manifest nor the configuration does that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.contracts.data import SampleSpec
    from limpet.models.manifest import Manifest

_SIZING = {"resize", "letterbox"}
_BEFORE = {"crop", "colour"}
"""Transforms of pictures that come before the size."""


def picture_transforms(manifest: Manifest, decoder: str, spec: SampleSpec) -> Sequence[dict[str, Any]]:
    """Return the manifest's transforms, with one that gives pictures the size of the model's if none does.

    Pictures are frames, and arrays of bytes of another size.

    Models that find points, and those that find boxes without TFLite's post-processing, see the whole picture in
    its own proportions, with a border. So they are trained. Others get it stretched.
    """
    given = manifest.transforms
    size = _picture(manifest)
    if size is None or any(table.get("kind") in _SIZING for table in given):
        return given
    height, width, channels = size
    if not spec.frames and (spec.dtype != np.uint8 or not _is_of_another_size(spec.shape, size)):
        return given
    boxed = decoder == "keypoints" or (decoder == "detect" and len(manifest.outputs) < 3)
    added: list[dict[str, Any]] = [
        {"kind": "letterbox" if boxed else "resize", "height": height, "width": width},
    ]
    if boxed and len(manifest.outputs) > 1:
        added[0]["fill"] = 0  # as MediaPipe has it; a YOLO, with one output, has the default
    if channels == 1 and not any(table.get("kind") == "colour" for table in given):
        added.append({"kind": "colour", "to": "grey"})
    place = next((n for n, table in enumerate(given) if table.get("kind") not in _BEFORE), len(given))
    return [*given[:place], *added, *given[place:]]


def _is_of_another_size(shape: Sequence[int], size: tuple[int, int, int]) -> bool:
    return len(shape) == 3 and shape[2] == size[2] and tuple(shape[:2]) != size[:2]


def _picture(manifest: Manifest) -> tuple[int, int, int] | None:
    """Return height, width and channels of the only input, ``None`` if that is no picture."""
    windows = [one for one in manifest.inputs if not one.state and one.constant is None]
    if len(windows) != 1 or len(windows[0].shape) != 4:
        return None
    batch, height, width, channels = windows[0].shape
    return (height, width, channels) if batch in {1, -1} and height > 1 < width and channels in {1, 3} else None

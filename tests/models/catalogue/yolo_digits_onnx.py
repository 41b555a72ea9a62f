"""The YOLO of ``yolo_digits``, exported to ONNX and converted from there. The reference is PyTorch."""

from __future__ import annotations

from models.catalogue.yolo_digits import MODEL as PLAIN
from models.catalogue.yolo_digits import answers, cases, difference, prepare, right

__all__ = ["MODEL", "answers", "cases", "difference", "prepare", "right"]

MODEL = PLAIN._replace(
    name="yolo_digits_onnx",
    scripts=("export_onnx.py",),
    settings="convert-onnx.toml",
    output="build/onnx",
)

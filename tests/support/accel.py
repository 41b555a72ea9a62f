"""SwiftShader, where ``make accel-setup`` put it: a Vulkan driver on the CPU for LiteRT's GPU accelerator."""

from __future__ import annotations

import ctypes
import os
from importlib.util import find_spec
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "build" / "accel"
NO_GPU = "" if (FOLDER / ".installed").exists() else "SwiftShader is absent: make accel-setup"
NO_NPU = "" if find_spec("ai_edge_litert_sdk_intel") else "ai-edge-litert-sdk-intel is absent: it is in .venv-npu"


def swiftshader() -> dict[str, str]:
    """Return the environment in which another process finds SwiftShader as its only Vulkan driver."""
    icd = str(FOLDER / "vk_swiftshader_icd.json")
    return {"LD_LIBRARY_PATH": str(FOLDER), "VK_ICD_FILENAMES": icd, "VK_DRIVER_FILES": icd}


def use_swiftshader() -> None:
    """Have this process, and those that it starts, find SwiftShader as its only Vulkan driver."""
    os.environ["VK_ICD_FILENAMES"] = os.environ["VK_DRIVER_FILES"] = str(FOLDER / "vk_swiftshader_icd.json")
    # The library that LiteRT asks for by this name is then already there, whatever the system has.
    ctypes.CDLL(str(FOLDER / "libvulkan.so.1"), ctypes.RTLD_GLOBAL)

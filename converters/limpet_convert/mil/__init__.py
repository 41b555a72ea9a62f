"""Execute an ML program (the MIL of a ``.mlpackage``) with numpy, where there is no Core ML.

It proves that a conversion computes what the original model computes. It says nothing of Apple's runtime: not of
its speed, its placement on GPU or Neural Engine, nor of the last bits of its results.
"""

from limpet_convert.mil.program import OPS, Program, Step, open_model

__all__ = ["OPS", "Program", "Step", "open_model"]

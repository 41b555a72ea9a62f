"""Makes a bundle from an older one and a patch: a Zstandard frame whose dictionary is the older file.

The frame's window, the memory and the output are bounded, whatever the patch says. ``limpet-convert patch`` makes
such files.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import zstandard

from limpet.contracts.updates import LARGEST_PATCHED
from limpet.deployer.failures import SourceFailedError

if TYPE_CHECKING:
    from limpet.deployer.part import Part

_BLOCK = 1 << 18


def read_base(descriptor: int, sha256: str) -> bytes:
    """Return the older file. ``SourceFailedError`` if it is damaged or too large."""
    if os.fstat(descriptor).st_size > LARGEST_PATCHED:
        raise SourceFailedError(
            f"the bundle that the patch is for has more than {LARGEST_PATCHED} bytes", final=True
        )
    base = os.pread(descriptor, LARGEST_PATCHED, 0)
    if hashlib.sha256(base).hexdigest() != sha256:
        raise SourceFailedError("the bundle that the patch is for is damaged", final=True)
    return base


def apply(base: bytes, patch: Part, into: Part) -> None:
    """Write the new file. ``SourceFailedError`` if the patch does not lead to a file of the right length."""
    if into.length > LARGEST_PATCHED:
        raise SourceFailedError(f"a patch leads to at most {LARGEST_PATCHED} bytes", final=True)
    into.forget()
    dictionary = zstandard.ZstdCompressionDict(base, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    decompressor = zstandard.ZstdDecompressor(dict_data=dictionary, max_window_size=LARGEST_PATCHED)
    at = 0
    try:
        with decompressor.stream_reader(patch.read(0, patch.length)) as stream:
            while block := stream.read(min(_BLOCK, into.length - at + 1)):
                if at + len(block) > into.length:
                    raise SourceFailedError(f"the patch leads to more than {into.length} bytes", final=True)
                into.write(at, block)
                at += len(block)
    except (zstandard.ZstdError, MemoryError) as error:
        raise SourceFailedError(f"the patch cannot be applied: {error}", final=True) from error
    if at != into.length:
        raise SourceFailedError(f"the patch leads to {at} bytes, not {into.length}", final=True)

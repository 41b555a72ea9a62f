"""Patches: what turns one version of a bundle into the next. ``limpet.deployer.patching`` applies them.

A patch is a Zstandard frame whose dictionary is the older file. Bundles keep their members uncompressed. So what
did not change in a model costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from limpet.contracts.updates import LARGEST_PATCHED
from limpet_convert.errors import ConvertError
from limpet_convert.libraries import need

if TYPE_CHECKING:
    from pathlib import Path

LEVEL = 19
WORTH_IT = 0.7
"""Share of the bundle's bytes above which a patch is not worth a second source."""
_SMALL = 8 << 20
_LARGEST_TABLE = 27


def read(path: Path) -> bytes:
    """Return a bundle. ``ConvertError`` if it is larger than what a device takes."""
    content = path.read_bytes()
    if not 0 < len(content) <= LARGEST_PATCHED:
        raise ConvertError(f"{path} has {len(content):,} bytes; devices take patches for 1 to {LARGEST_PATCHED:,}")
    return content


def make(old: bytes, new: bytes) -> bytes:
    """Return the patch that makes ``new`` of ``old``."""
    zstandard = need("zstandard")
    dictionary = zstandard.ZstdCompressionDict(old, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    # Tables that are as large as both files: smaller ones forget where the older file has the same bytes. The best
    # strategies would take minutes for large files.
    table = min(max((len(old) + len(new)).bit_length(), 10), _LARGEST_TABLE)
    small = len(new) <= _SMALL
    options = zstandard.ZstdCompressionParameters.from_level(
        LEVEL if small else 12,
        source_size=len(new),
        dict_size=len(old),
        window_log=_LARGEST_TABLE,
        hash_log=min(table, 26),
        chain_log=table,
    )
    compressed: bytes = zstandard.ZstdCompressor(dict_data=dictionary, compression_params=options).compress(new)
    return compressed


def apply(old: bytes, patch: bytes, length: int) -> bytes:
    """Return what a patch makes of ``old``."""
    zstandard = need("zstandard")
    dictionary = zstandard.ZstdCompressionDict(old, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    decompressor = zstandard.ZstdDecompressor(dict_data=dictionary, max_window_size=LARGEST_PATCHED)
    result: bytes = decompressor.decompress(patch, max_output_size=length)
    return result

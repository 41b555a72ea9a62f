"""Which files count as memory that cannot be taken away."""

from __future__ import annotations

import os

from limpet.wire.memory_file import anonymous_file, seal, sealed


def test_memory_counts_as_sealed_once_its_size_is_fixed() -> None:
    with anonymous_file() as file:
        file.truncate(4096)
        assert not sealed(file.fileno())
        seal(file)
        assert sealed(file.fileno())


def test_memory_of_huge_pages_does_not_count() -> None:
    flags = os.MFD_ALLOW_SEALING | os.MFD_HUGETLB
    with os.fdopen(os.memfd_create("huge", flags), "r+b") as file:
        file.truncate(1 << 30)
        seal(file)
        assert not sealed(file.fileno())


def test_another_sort_of_file_does_not_count() -> None:
    reader, writer = os.pipe()
    assert not sealed(reader)
    os.close(reader)
    os.close(writer)

"""The hooks of the documentation site: links out of docs/, and the order of pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import site_pages

if TYPE_CHECKING:
    import re
    from pathlib import Path


def test_links_are_replaced_and_code_stays() -> None:
    page = "See [`a`](a.md#b).\n\n```text\n[c](d.md)\n```\n\n![e](f.png)\n"
    seen: list[str] = []

    def link(match: re.Match[str]) -> str:
        seen.append(match[3])
        return match[2]

    assert site_pages.replaced(page, link) == "See `a`.\n\n```text\n[c](d.md)\n```\n\ne\n"
    assert seen == ["a.md#b", "f.png"]


def test_pages_link_to_files_and_folders_and_not_to_the_web(tmp_path: Path) -> None:
    (tmp_path / "board").mkdir()
    (tmp_path / "board" / "README.md").write_text("# Board\n")
    page = tmp_path / "page.md"
    page.write_text("# Page\n\n[b](board/) [w](https://example.org) [h](#here) [c](board/limpet.toml#x)\n")
    wanted = [tmp_path / "board" / "README.md", tmp_path / "board" / "limpet.toml"]
    assert list(site_pages.targets(page)) == wanted


def test_files_that_pages_of_the_repository_link_to_come_with_the_site() -> None:
    found = site_pages.outside([site_pages.DOCS / "reference" / "boards.md"])
    uris = {site_pages.uri(path) for path in found}
    assert "repository/firmware-configs/raspberry-pi-5/README.md" in uris
    assert "repository/firmware-configs/raspberry-pi-5/config.txt" in uris


def test_pages_follow_the_index_and_then_their_titles(tmp_path: Path) -> None:
    for name, text in {
        "index.md": "# Home\n\n[z](how-to/z.md)\n",
        "how-to/z.md": "# Last in the alphabet\n",
        "how-to/b.md": "# A title\n",
        "how-to/a.md": "# Zebra\n",
        "how-to/brokers/c.md": "# C\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    for folder in site_pages.SECTIONS:
        (tmp_path / folder).mkdir(exist_ok=True)
    home, *sections = site_pages.navigation(tmp_path)
    assert home == {"Home": "index.md"}
    assert {
        "How-to guides": ["how-to/z.md", "how-to/b.md", "how-to/a.md", {"Brokers": ["how-to/brokers/c.md"]}]
    } in sections

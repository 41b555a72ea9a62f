"""Hooks of MkDocs (mkdocs.yml): the order of the pages, and links that leave docs/.

Pages link to files of the repository, as a forge shows them. The site gets these files too, below ``repository/``.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
SECTIONS = {
    "tutorials": "Tutorials",
    "how-to": "How-to guides",
    "reference": "Reference",
    "explanation": "Explanation",
    "decisions": "Decisions",
}
FENCE = re.compile(r"^(```.*?^```$)", re.DOTALL | re.MULTILINE)
CELL = re.compile(r"(?<=\| )[^\n`|]*`[^`\n]*\\\|[^`\n]*`")
"""Code with ``\\|`` in a table: a forge needs the backslash, MkDocs shows it."""
LINK = re.compile(r"(!?)\[((?:`[^`]*`|[^\[\]])*)\]\(([^)\s]+)\)")


def replaced(markdown: str, link: Callable[[re.Match[str]], str]) -> str:
    """Return a page with each link replaced. Fenced code stays as it is."""
    parts = FENCE.split(markdown)
    return "".join(part if n % 2 else LINK.sub(link, part) for n, part in enumerate(parts))


def targets(page: Path) -> Iterator[Path]:
    """Yield the files that a page links to. A link to a folder is one to its README."""
    for part in FENCE.split(page.read_text(encoding="utf-8"))[::2]:
        for _, _, link in LINK.findall(part):
            if not re.match(r"[a-z]+:|#", link):
                yield _readme(Path(os.path.normpath(page.parent / link.partition("#")[0])))


def outside(pages: list[Path]) -> list[Path]:
    """Return the files outside docs/ that pages link to, and those that these link to, and so on."""
    found: dict[Path, None] = {}
    waiting = list(pages)
    while waiting:
        for target in targets(waiting.pop()):
            if target.is_file() and not target.is_relative_to(DOCS) and target not in found:
                found[target] = None
                waiting += [target] if target.suffix == ".md" else []
    return list(found)


def uri(path: Path) -> str:
    """Return where a file of the repository is in the site."""
    return str(path.relative_to(DOCS)) if path.is_relative_to(DOCS) else f"repository/{path.relative_to(ROOT)}"


def title(page: Path) -> str:
    """Return a page's title, its first line."""
    return page.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")


def navigation(docs: Path) -> list[Any]:
    """Return all pages by folder: in the order in which index.md links to them, then by title."""
    first = [target for target in targets(docs / "index.md") if target.suffix == ".md"]

    def key(page: Path) -> tuple[int, str]:
        return (first.index(page) if page in first else len(first), title(page).lower())

    def pages(folder: Path) -> list[Any]:
        here = [str(page.relative_to(docs)) for page in sorted(folder.glob("*.md"), key=key)]
        below = [path for path in sorted(folder.iterdir()) if path.is_dir() and any(path.rglob("*.md"))]
        return here + [{path.name.capitalize(): pages(path)} for path in below]

    return [{"Home": "index.md"}, *({name: pages(docs / folder)} for folder, name in SECTIONS.items())]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files outside docs/, and set the navigation."""
    from mkdocs.structure.files import File, InclusionLevel

    for path in outside(sorted(DOCS.rglob("*.md"))):
        files.append(
            File.generated(config, uri(path), abs_src_path=str(path), inclusion=InclusionLevel.NOT_IN_NAV)
        )
    config.nav = navigation(DOCS)
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Point links to where the site has their files. A link to a folder without a README becomes plain text."""
    assert page.file.abs_src_path is not None
    source = Path(page.file.abs_src_path)

    def link(match: re.Match[str]) -> str:
        mark, label, target = match.groups()
        path, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:|#", target):
            return match[0]
        wanted = _readme(Path(os.path.normpath(source.parent / path)))
        if wanted.is_dir():
            return label
        relative = os.path.relpath(uri(wanted), Path(page.file.src_uri).parent)
        return f"{mark}[{label}]({relative}{'#' + anchor if anchor else ''})"

    return CELL.sub(lambda cell: cell[0].replace(r"\|", "|"), replaced(markdown, link))


def _readme(path: Path) -> Path:
    return path / "README.md" if (path / "README.md").is_file() else path

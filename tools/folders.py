"""Print which folder of the agent imports which, as a Mermaid diagram: ``tools/folders.py [CHECKOUT]``.

A node is a folder of ``agent/limpet``, or a file beside the folders. Files there that use no folder are one node.
An arrow goes from the one that imports to the one that is imported. Imports for type checking alone do not count.
An arrow is left out where a longer path says the same. Nodes that import each other are in one red box.
A folder is yellow if one of its modules loads numpy, itself or through other modules.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import grimp

PACKAGE = "limpet"
LAZY = ("limpet", "limpet.inference.pipeline")
"""``from limpet import Pipeline`` imports it when it is first used."""

Graph = dict[str, set[str]]


def main() -> None:
    """Print the diagram of a checkout, by default of this one."""
    checkout = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1]
    root = checkout.resolve() / "agent" / PACKAGE
    print(mermaid(read(root), root))


def read(root: Path) -> grimp.ImportGraph:
    """Return the imports of all modules of a package, those of other packages too."""
    sys.path.insert(0, str(root.parent))
    graph = grimp.build_graph(
        PACKAGE, include_external_packages=True, exclude_type_checking_imports=True, cache_dir=None
    )
    graph.remove_import(importer=LAZY[0], imported=LAZY[1])
    return graph


def mermaid(graph: grimp.ImportGraph, root: Path) -> str:
    """Return the diagram, from the folders that import most to those that import nothing."""
    names = _nodes(graph, root)
    imports = _between(graph, names)
    circles = _circles(imports)
    circle_of = {node: number for number, circle in enumerate(circles) for node in circle}
    lines = ["graph TD"]
    for number, circle in enumerate(circles):
        if len(circle) > 1:
            inside = [f"    {_id(a)} --> {_id(b)}" for a in circle for b in sorted(imports[a] & set(circle))]
            lines += [f'  subgraph circle{number}["a circle of {len(circle)}"]', *inside, "  end"]
    lines += [f'  {_id(node)}["{node}"]' for node in sorted(imports)]
    lines += [f"  {_id(a)} --> {_id(b)}" for a, b in _needed(imports, circle_of)]
    loaded = sorted({names[module] for module in _with_numpy(graph) if module in names})
    lines += ["  classDef numpy fill:#fd6", f"  class {','.join(map(_id, loaded))} numpy"]
    lines += [f"  style circle{n} fill:#fee,stroke:#c00" for n, circle in enumerate(circles) if len(circle) > 1]
    return "\n".join(lines)


def _nodes(graph: grimp.ImportGraph, root: Path) -> dict[str, str]:
    """Return the node of each module: its folder, its file, or the node of all files that use no folder."""
    tops = {
        module: module.split(".")[1]
        for module in graph.modules
        if module.startswith(f"{PACKAGE}.") and not module.endswith("__main__")
    }
    folders = {top for top in tops.values() if (root / top).is_dir()}
    names = {module: f"{top}/" if top in folders else f"{top}.py" for module, top in tops.items()}
    imports = _between(graph, names)
    plain = {name for name in imports if name.endswith(".py")}
    while users := {name for name in plain if not imports[name] <= plain}:
        plain -= users
    shared = ", ".join(sorted(name.removesuffix(".py") for name in plain))
    return {module: shared if name in plain else name for module, name in names.items()}


def _between(graph: grimp.ImportGraph, names: dict[str, str]) -> Graph:
    imports: Graph = {name: set() for name in names.values()}
    for module, name in names.items():
        found = graph.find_modules_directly_imported_by(module)
        imports[name] |= {names[other] for other in found if other in names} - {name}
    return imports


def _reached(imports: Graph, start: str) -> set[str]:
    """Return all nodes that are imported from ``start``, directly or not."""
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        fresh = imports[waiting.pop()] - seen
        seen |= fresh
        waiting += fresh
    return seen


def _circles(imports: Graph) -> list[list[str]]:
    """Return the nodes in groups: those that reach each other are together."""
    reached = {node: _reached(imports, node) for node in imports}
    groups = {frozenset({node} | {other for other in reached[node] if node in reached[other]}) for node in imports}
    return sorted(sorted(group) for group in groups)


def _needed(imports: Graph, circle_of: dict[str, int]) -> list[tuple[str, str]]:
    """Return the arrows between groups, one a pair of groups, without those that a longer path replaces."""
    pairs: dict[tuple[int, int], tuple[str, str]] = {}
    between: dict[int, set[int]] = defaultdict(set)
    for a, b in sorted((a, b) for a, others in imports.items() for b in others):
        if circle_of[a] != circle_of[b]:
            pairs.setdefault((circle_of[a], circle_of[b]), (a, b))
            between[circle_of[a]].add(circle_of[b])
    groups: Graph = {str(n): {str(other) for other in between[n]} for n in circle_of.values()}
    return [
        arrow
        for (a, b), arrow in pairs.items()
        if not any(str(b) in _reached(groups, other) for other in groups[str(a)] - {str(b)})
    ]


def _with_numpy(graph: grimp.ImportGraph) -> set[str]:
    return set(graph.find_downstream_modules("numpy"))


def _id(node: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in node.split(",", maxsplit=1)[0])


if __name__ == "__main__":
    main()

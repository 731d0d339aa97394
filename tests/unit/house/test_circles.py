"""No import leads back to where it started: neither between files nor between the parts of a package."""

from tests.unit.house.imports import Import, circles, imports, modules


def listing(groups: list[list[str]], arrows: dict[tuple[str, str], list[Import]]) -> str:
    lines = []
    for group in groups:
        lines.append(f"circle of {', '.join(group)}:")
        for (source, target), found in sorted(arrows.items()):
            if source in group and target in group:
                lines.append(f"  {source} -> {target}, by " + "; ".join(map(str, found)))
    return "\n".join(lines)


def siblings(package: str) -> dict[tuple[str, str], list[Import]]:
    """Arrows between the direct children of a package, each child with all that is below it as one node.

    The package's own ``__init__`` is a node of its name: what is inside may not import it, as it imports them.
    """
    prefix = package + "."

    def node(module: str) -> str | None:
        if module == package:
            return package
        return prefix + module[len(prefix) :].partition(".")[0] if module.startswith(prefix) else None

    arrows: dict[tuple[str, str], list[Import]] = {}
    for one in imports():
        source, target = node(one.source), node(one.target)
        if source and target and source != target:
            arrows.setdefault((source, target), []).append(one)
    return arrows


def test_no_circle_between_files():
    arrows: dict[tuple[str, str], list[Import]] = {}
    for one in imports():
        arrows.setdefault((one.source, one.target), []).append(one)
    assert len(arrows) > 500
    found = circles(arrows)
    assert not found, "\n" + listing(found, arrows)


def test_no_circle_between_the_parts_of_a_package():
    packages = sorted(name for name, path in modules().items() if path.name == "__init__.py")
    complaints = []
    for package in packages:
        arrows = siblings(package)
        complaints.append(listing(circles(arrows), arrows))
    assert not any(complaints), "\n" + "\n".join(filter(None, complaints))


def test_a_circle_would_be_found():
    assert circles([("a", "b"), ("b", "c"), ("c", "a"), ("c", "d")]) == [["a", "b", "c"]]
    assert circles([("a", "b"), ("b", "c"), ("a", "c")]) == []

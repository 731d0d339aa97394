"""The contract of removal requests names every reason that the code of a request gives."""

import ast
import re

from tests.unit.house.imports import ROOT, modules

PARTS = ("service", "reach", "attesting", "tasks", "workspace", "removal", "requests")
"""Of the unlearning room: what answers a call or carries a request out. The rest is code that is used without them."""
NOT_TOLD = {
    "BUG",  # of what nobody foresaw; every call may answer it
}


def given(path) -> set[str]:
    """Reasons in a module, but for those that it only compares with others'."""
    tree = ast.parse(path.read_text())
    compared = {
        id(inner) for node in ast.walk(tree) if isinstance(node, ast.Compare) for inner in ast.walk(node)
    }
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "Reason"
        and id(node) not in compared
    }


def test_every_reason_of_a_request_is_in_its_contract():
    contract = ROOT / "protos" / "palimpsest" / "api" / "unlearning" / "v1" / "unlearning.proto"
    comments = "\n".join(re.findall(r"//(.*)", contract.read_text()))
    named = set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", comments))
    found: dict[str, set[str]] = {}
    for module, path in modules().items():
        room, _, part = module.removeprefix("services.").partition(".")
        if room == "unlearning" and part.split(".")[0] in PARTS:
            for reason in given(path):
                found.setdefault(reason, set()).add(module)
    assert len(found) > 15
    missing = {reason: where for reason, where in found.items() if reason not in named | NOT_TOLD}
    assert not missing

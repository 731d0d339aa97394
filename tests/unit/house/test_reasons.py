"""The catalogue of reasons and the code say the same."""

import re

from palimpsest import Reason, errors, reasons
from tests.unit.house.imports import ROOT, modules


def test_every_reason_is_raised_somewhere_and_none_is_made_up():
    code = [path.read_text() for module, path in modules().items() if module != "palimpsest.reasons"]
    code.append((ROOT / "shared" / "palimpsest" / "jobs" / "transitions.lua").read_text())
    raised = set(re.findall(r"\bReason\.([A-Z_]+)|failure\(\d+, '([A-Z_]+)'", "\n".join(code)))
    assert {python or lua for python, lua in raised} == {reason.name for reason in Reason}


def test_a_reason_is_its_name():
    assert Reason is errors.Reason is reasons.Reason
    assert {reason.name: reason.value for reason in Reason} == {name: name for name in Reason.__members__}
    assert str(Reason.MODEL_NOT_FOUND) == "MODEL_NOT_FOUND"

"""How the suite is shared out among processes by ``pytest -n 2``: whole files, the longest first.

A file stays together because its module's fixtures are servers and workers. The client's and the command's files stay
together because they all use one stack, which takes seconds to start.
"""

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

LONG = (
    "tests/integration/cli/",
    "tests/integration/client/",
    "tests/unit/test_house.py",
    "tests/chaos/",
    "tests/integration/",
)
"""What begins first, by the beginning of its path, so that nothing long is left over at the end."""
_STACK = ("tests/integration/cli/", "tests/integration/client/")


def longest_first(items: list[pytest.Item]) -> None:
    """Order the tests of a process in place; every process comes to the same order."""
    items.sort(key=lambda item: [item.nodeid.startswith(path) for path in LONG], reverse=True)


class Scheduling(LoadScopeScheduling):
    """Hands out files in the order of the tests."""

    def __init__(self, config: pytest.Config, log: Producer) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return "stack" if path.startswith(_STACK) else path

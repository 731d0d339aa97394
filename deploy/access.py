"""Write the table of every call into SECURITY.md, from the protos; ``--check`` fails where it has drifted."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

from google.longrunning import operations_pb2

from palimpsest.api.options.v1 import options_pb2
from palimpsest.rpc.auth import access_of

PAGE = Path(__file__).resolve().parent.parent / "SECURITY.md"
BEGIN, END = "<!-- table of calls: begin -->\n", "<!-- table of calls: end -->\n"
PROTOS = PAGE.parent / "protos"
WHOSE = {
    options_pb2.OWNERSHIP_CALLER: "the caller's",
    options_pb2.OWNERSHIP_INSTALLATION: "shared by all callers",
    options_pb2.OWNERSHIP_EVERYBODY: "everybody's",
}


def methods() -> Iterator[str]:
    """Full names of all methods that a server has beside health and reflection."""
    paths = sorted(PROTOS.glob("palimpsest/api/**/*.proto"))
    names = [".".join(path.relative_to(PROTOS).with_suffix("").parts) + "_pb2" for path in paths]
    files = [importlib.import_module(name).DESCRIPTOR for name in names]
    for file in [*files, operations_pb2.DESCRIPTOR]:
        for service in file.services_by_name.values():
            for method in service.methods:
                yield f"/{service.full_name}/{method.name}"


def table() -> str:
    """The table, a row for each call.

    Raises
    ------
    SystemExit
        A method says nothing of its scope or of whose it is what it reaches.
    """
    rows = ["| call | scope | reaches | every caller's with |", "|---|---|---|---|"]
    for name in methods():
        access = access_of(name)
        if access.ownership not in WHOSE or not access.scope:
            raise SystemExit(f"{name} has no scope or no ownership in its access option")
        service, _, method = name.rpartition("/")
        beyond = f"`{access.admin_scope}`" if access.admin_scope else ""
        rows.append(
            f"| `{service.rpartition('.')[2]}.{method}` | `{access.scope}` | {WHOSE[access.ownership]} | {beyond} |"
        )
    return "\n".join(rows) + "\n"


def page(text: str) -> str:
    """The page with the table as it should be."""
    before, _, rest = text.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise SystemExit(f"{PAGE.name} lacks the lines {BEGIN.strip()} and {END.strip()}")
    return f"{before}{BEGIN}{table()}{END}{after}"


def main() -> None:
    text = PAGE.read_text()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(page(text))
    elif page(text) != text:
        raise SystemExit(f"the table of calls in {PAGE.name} is out of date; run python deploy/access.py")


if __name__ == "__main__":
    main()

"""The public names, listed: adding or removing one is a decision, with a line in CHANGELOG.md."""

import inspect

import palimpsest
from palimpsest import client, errors

ERRORS = [
    "Aborted",
    "AlreadyExists",
    "Cancelled",
    "DataLoss",
    "DeadlineExceeded",
    "FailedPrecondition",
    "Internal",
    "InvalidArgument",
    "NotFound",
    "OutOfRange",
    "PalimpsestError",
    "PermissionDenied",
    "ResourceExhausted",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
]
CLIENTS = ["AsyncClient", "AsyncJob", "AsyncStream", "Client", "Job", "Stream", "Tls"]


def test_exported_members():
    assert palimpsest.__all__ == sorted([*ERRORS, *CLIENTS, "Reason", "Settings"])
    for name in palimpsest.__all__:
        assert getattr(palimpsest, name).__name__ == name
    assert {*palimpsest.__all__, "__version__"} <= set(dir(palimpsest))


def test_exported_members_of_the_client():
    assert client.__all__ == [
        "Abandoned",
        "AsyncClient",
        "AsyncDrafting",
        "AsyncJob",
        "AsyncListing",
        "AsyncReceiving",
        "AsyncStream",
        "ChunkLoaded",
        "Client",
        "Draft",
        "DraftUpdate",
        "Drafting",
        "Drafts",
        "Ended",
        "Job",
        "Listing",
        "LoadedContext",
        "Opened",
        "PartialResult",
        "Receiving",
        "RecomputeChunk",
        "Stream",
        "Tls",
    ]
    assert all(hasattr(client, name) for name in client.__all__)


def test_exported_members_of_errors():
    own = [
        name
        for name, value in vars(errors).items()
        if not name.startswith("_")
        and getattr(value, "__module__", "") == errors.__name__
        and (inspect.isclass(value) or inspect.isfunction(value))
    ]
    assert sorted(own) == sorted([*ERRORS, "Code", "Violation", "from_code"])
    assert set(ERRORS) == {cls.__name__ for cls in (errors.PalimpsestError, *errors.BY_CODE.values())}


def test_the_clients_rooms_are_public_attributes():
    with client.Client("127.0.0.1:1") as connected:
        rooms = {
            name for name, value in vars(connected).items() if not name.startswith("_") and name != "target"
        }
    assert rooms == {
        "artifacts",
        "codec",
        "datastore",
        "decoding",
        "grafting",
        "jobs",
        "models",
        "unlearning",
    }

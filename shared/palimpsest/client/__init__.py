"""The client: rooms as attributes, jobs as objects, errors as exceptions; blocking and asyncio twins."""

from palimpsest.client.aio.client import AsyncClient
from palimpsest.client.aio.drafts import AsyncDrafting
from palimpsest.client.aio.jobs import AsyncJob
from palimpsest.client.aio.listing import AsyncListing
from palimpsest.client.aio.loads import AsyncReceiving
from palimpsest.client.aio.streams import AsyncStream
from palimpsest.client.blocking.client import Client
from palimpsest.client.blocking.drafts import Drafting
from palimpsest.client.blocking.jobs import Job
from palimpsest.client.blocking.listing import Listing
from palimpsest.client.blocking.loads import Receiving
from palimpsest.client.blocking.streams import Stream
from palimpsest.client.drafts import Draft, Drafts, DraftUpdate
from palimpsest.client.loading import (
    Abandoned,
    ChunkLoaded,
    Ended,
    LoadedContext,
    Opened,
    RecomputeChunk,
)
from palimpsest.client.partials import PartialResult
from palimpsest.rpc.channel import Tls

__all__ = [
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

"""The client: rooms as attributes, jobs as objects, errors as exceptions; blocking and asyncio twins."""

from palimpsest.client.aio.client import AsyncClient
from palimpsest.client.aio.jobs import AsyncJob
from palimpsest.client.aio.streams import AsyncStream
from palimpsest.client.blocking.client import Client
from palimpsest.client.blocking.jobs import Job
from palimpsest.client.blocking.streams import Stream
from palimpsest.rpc.channel import Tls

__all__ = ["AsyncClient", "AsyncJob", "AsyncStream", "Client", "Job", "Stream", "Tls"]

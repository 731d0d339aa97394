"""The engine: continuous batching of many requests over one model, and the host that keeps engines by model id.

Names are loaded on first use: the host costs no torch before its first model.
"""

from typing import TYPE_CHECKING

from palimpsest.lazy import names_from

if TYPE_CHECKING:
    from palimpsest.engine.engine import Engine
    from palimpsest.engine.events import Delta, Event, Failed, Finish, Finished, PrefixReady, Started
    from palimpsest.engine.external_prefix import ChunkOrigin, ExternalPrefix
    from palimpsest.engine.host import EngineHost, Hosted, worker_host
    from palimpsest.engine.request_state import RequestState
    from palimpsest.engine.requests import Request
    from palimpsest.engine.scoring import Scores, score

__all__ = [
    "ChunkOrigin",
    "Delta",
    "Engine",
    "EngineHost",
    "Event",
    "ExternalPrefix",
    "Failed",
    "Finish",
    "Finished",
    "Hosted",
    "PrefixReady",
    "Request",
    "RequestState",
    "Scores",
    "Started",
    "score",
    "worker_host",
]

_HOMES = {
    "Delta": "events",
    "Engine": "engine",
    "EngineHost": "host",
    "Event": "events",
    "Failed": "events",
    "Finish": "events",
    "Finished": "events",
    "RequestState": "request_state",
    "Hosted": "host",
    "ChunkOrigin": "external_prefix",
    "ExternalPrefix": "external_prefix",
    "PrefixReady": "events",
    "Request": "requests",
    "Scores": "scoring",
    "Started": "events",
    "score": "scoring",
    "worker_host": "host",
}

__getattr__ = names_from(__name__, _HOMES)

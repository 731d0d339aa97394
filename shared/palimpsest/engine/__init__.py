"""The engine: continuous batching of many requests over one model, and the host that keeps engines by model id.

Names are loaded on first use: the host costs no torch before its first model.
"""

from typing import TYPE_CHECKING

from palimpsest.lazy import names_from

if TYPE_CHECKING:
    from palimpsest.engine.engine import Engine
    from palimpsest.engine.events import Delta, Event, Failed, Finish, Finished, PastReady, Started
    from palimpsest.engine.external_prefix import How, Past
    from palimpsest.engine.host import EngineHost, Hosted, worker_host
    from palimpsest.engine.request_state import Handle
    from palimpsest.engine.requests import Request
    from palimpsest.engine.scoring import Scores, score

__all__ = [
    "Delta",
    "Engine",
    "EngineHost",
    "Event",
    "Failed",
    "Finish",
    "Finished",
    "Handle",
    "Hosted",
    "How",
    "Past",
    "PastReady",
    "Request",
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
    "Handle": "request_state",
    "Hosted": "host",
    "How": "external_prefix",
    "Past": "external_prefix",
    "PastReady": "events",
    "Request": "requests",
    "Scores": "scoring",
    "Started": "events",
    "score": "scoring",
    "worker_host": "host",
}

__getattr__ = names_from(__name__, _HOMES)

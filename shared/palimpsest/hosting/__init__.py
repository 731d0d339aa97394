"""Models in use: engines by model id, and the way from text to token ids. Importing it costs no torch."""

from palimpsest.hosting.host import EngineHost, Hosted, worker_host
from palimpsest.hosting.prompts import encode_chat, encode_text

__all__ = ["EngineHost", "Hosted", "encode_chat", "encode_text", "worker_host"]

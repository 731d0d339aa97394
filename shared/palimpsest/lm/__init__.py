"""Language models: weights, forward passes, caches, sampling and text. The one place that runs a model.

Names are loaded on first use: prompts and tokens cost no torch.
"""

from typing import TYPE_CHECKING

from palimpsest.lazy import names_from

if TYPE_CHECKING:
    from palimpsest.lm.chat_templates import CallForm, render_chat
    from palimpsest.lm.forward import Cache, Output, SequenceInput
    from palimpsest.lm.loading import load
    from palimpsest.lm.model import LanguageModel
    from palimpsest.lm.prompts import encode_chat, encode_text
    from palimpsest.lm.sampling import Choice, Sampling
    from palimpsest.lm.token_bytes import TokenBytes

__all__ = [
    "Cache",
    "CallForm",
    "Choice",
    "LanguageModel",
    "Output",
    "Sampling",
    "SequenceInput",
    "TokenBytes",
    "encode_chat",
    "encode_text",
    "load",
    "render_chat",
]

_HOMES = {
    "CallForm": "chat_templates",
    "Cache": "forward",
    "Choice": "sampling",
    "LanguageModel": "model",
    "Output": "forward",
    "SequenceInput": "forward",
    "Sampling": "sampling",
    "TokenBytes": "token_bytes",
    "encode_chat": "prompts",
    "encode_text": "prompts",
    "load": "loading",
    "render_chat": "chat_templates",
}

__getattr__ = names_from(__name__, _HOMES)

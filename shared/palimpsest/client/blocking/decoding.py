"""Text from models: the decoding RPCs, and the one-liner for when only the text is wanted."""

# Made from client/aio/decoding.py by deploy/client.py; edit that.

from collections.abc import Mapping, Sequence
from typing import Any

from palimpsest.api.decoding.v1 import decoding_pb2
from palimpsest.client.blocking.rooms import DecodingRoom
from palimpsest.client.quotes import CitedText


class Decoding(DecodingRoom):
    """Generation and scoring."""

    def text(
        self,
        *,
        model: str,
        prompt: str | None = None,
        chat: Sequence[Mapping[str, object]] | decoding_pb2.ChatMessages | None = None,
        max_tokens: int | None = None,
        **fields: Any,
    ) -> str:
        """Return the whole text of one generated sequence; takes every field of ``generate``.

        Examples
        --------
        ``client.decoding.text(model="smollm2-135m", chat=[{"role": "user", "content": "Hello!"}])``
        """
        if fields.get("n") not in (None, 0, 1):
            raise TypeError("text() returns one sequence; use generate() for n > 1.")
        text = ""
        with self.generate(model=model, prompt=prompt, chat=chat, max_tokens=max_tokens, **fields) as events:
            for event in events:
                if event.HasField("finished"):
                    text = event.finished.text
        return text

    def cited(
        self,
        *,
        model: str,
        corpora: Sequence[str],
        prompt: str | None = None,
        chat: Sequence[Mapping[str, object]] | decoding_pb2.ChatMessages | None = None,
        max_tokens: int | None = None,
        nest: Mapping[str, object] | None = None,
        **fields: Any,
    ) -> CitedText:
        """Generate one sequence that may quote corpora; return its text with its quotes and their sources.

        ``nest`` takes the further fields of ``NestSettings``; everything else is as in ``generate``.

        Examples
        --------
        ``print(client.decoding.cited(model="m", corpora=["corpora/manual"], prompt="A list is").numbered())``
        """
        if fields.get("n") not in (None, 0, 1):
            raise TypeError("cited() returns one sequence; use generate() for n > 1.")
        cited = CitedText()
        with self.generate(
            model=model,
            prompt=prompt,
            chat=chat,
            max_tokens=max_tokens,
            nest={**(nest or {}), "corpora": list(corpora)},
            **fields,
        ) as events:
            for event in events:
                cited.take(event)
        return cited

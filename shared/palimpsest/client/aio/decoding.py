"""Text from models: the decoding RPCs, and shortcuts that return assembled results."""

from collections.abc import Mapping, Sequence
from typing import Any, overload

from palimpsest.api.decoding.v1 import decoding_pb2
from palimpsest.client.aio.concurrency import abandon, background, join
from palimpsest.client.aio.drafts import AsyncDrafting
from palimpsest.client.aio.rooms import AsyncDecodingRoom
from palimpsest.client.drafts import drafts_request
from palimpsest.client.quotes import CitedText

TEXTS_AT_ONCE = 16
"""Prompts of a list that are with the server together."""


class AsyncDecoding(AsyncDecodingRoom):
    """Generation and scoring."""

    @overload
    async def text(self, *, model: str, prompt: str | None = None, **fields: Any) -> str: ...

    @overload
    async def text(self, *, model: str, prompt: list[str] | tuple[str, ...], **fields: Any) -> list[str]: ...

    async def text(self, *, model: str, prompt: str | Sequence[str] | None = None, **fields: Any) -> Any:
        """Return the whole text of one generated sequence; takes every field of ``generate``.

        For a list of prompts it is a list of texts, in that order; they are generated together.

        Examples
        --------
        ``client.decoding.text(model="m", messages=[{"role": "user", "content": "Hello!"}], temperature=0.7, seed=1)``
        """
        if fields.get("n") not in (None, 0, 1):
            raise TypeError("text() returns one sequence; use generate() for n > 1.")
        if prompt is None or isinstance(prompt, str):
            return await self._text(model=model, prompt=prompt, **fields)
        prompts = list(prompt)
        texts, failures = [""] * len(prompts), list[Exception]()
        left = iter(enumerate(prompts))

        async def work() -> None:
            for at, one in left:
                if failures:
                    return
                try:
                    texts[at] = await self._text(model=model, prompt=one, **fields)
                except Exception as error:
                    failures.append(error)

        tasks = [background(work) for _ in range(min(TEXTS_AT_ONCE, len(prompts)))]
        try:
            for task in tasks:
                await join(task)
        finally:
            for task in tasks:
                abandon(task)
        if failures:
            raise failures[0]
        return texts

    async def _text(
        self,
        *,
        model: str,
        prompt: str | None = None,
        chat: Sequence[Mapping[str, object]] | decoding_pb2.ChatMessages | None = None,
        max_tokens: int | None = None,
        **fields: Any,
    ) -> str:
        text = ""
        async with self.generate(
            model=model, prompt=prompt, chat=chat, max_tokens=max_tokens, **fields
        ) as events:
            async for event in events:
                if event.HasField("finished"):
                    text = event.finished.text
        return text

    async def cited(
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
        async with self.generate(
            model=model,
            prompt=prompt,
            chat=chat,
            max_tokens=max_tokens,
            nest={**(nest or {}), "corpora": list(corpora)},
            **fields,
        ) as events:
            async for event in events:
                cited.take(event)
        return cited

    def drafts(
        self,
        *,
        model: str,
        prompt: str | None = None,
        k: int = 3,
        strategy: str = "auto",
        ngrams: str | None = None,
        heal: bool = False,
        stop_at: str | None = None,
        streaming: str | None = None,
        chat: Sequence[Mapping[str, object]] | decoding_pb2.ChatMessages | None = None,
        max_tokens: int | None = None,
        corpora: Sequence[str] = (),
        nest: Mapping[str, object] | decoding_pb2.NestSettings | None = None,
        **fields: Any,
    ) -> AsyncDrafting:
        """Make several drafts of how a text continues: iterate for updates; the finished drafts come best first.

        This is ``draft`` with the fields of ``DraftSettings`` as keywords, and with the events assembled.

        Parameters
        ----------
        model, prompt, chat
            As in ``generate``.
        max_tokens
            Maximum number of tokens in a draft, up to 256; 10 by default.
        k
            Number of drafts.
        strategy
            "auto", "superposed", "verified" (superposed, then scored exactly), "beam", "diverse" or "nucleus".
        ngrams
            ``ngramStores/{id}``, for superposed drafts.
        heal
            Whether the prompt may end within a word.
        stop_at
            "word", "sentence" or "line".
        streaming
            "with_rewrites" (the default), "committed_only" or "final_only".
        corpora, nest
            Corpora whose passages compete with the model's drafts, and the other fields of ``NestSettings``.
        **fields
            The other fields of ``DraftSettings``, such as ``alpha`` and ``reset_every``, and of ``draft``, such as
            ``sampling`` and ``stop``.

        Examples
        --------
        ``for draft in client.decoding.drafts(model="m", prompt="The page was").result(): print(draft.text)``
        """
        given = {"k": k, "ngrams": ngrams, "heal": heal, "stop_at": stop_at, "streaming": streaming}
        asked = drafts_request(strategy=strategy, corpora=corpora, nest=nest, fields={**fields, **given})
        return AsyncDrafting(
            self.draft(model=model, prompt=prompt, chat=chat, max_tokens=max_tokens, **asked)
        )

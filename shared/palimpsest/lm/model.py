"""A language model in memory: tokenizer, weights, and the fastest forward pass that agrees with transformers'."""

import logging
from collections.abc import Sequence
from typing import Any, cast

import torch
from transformers import PreTrainedModel

from palimpsest.lm.agreement import agrees, probe_ids, seconds_of_prompt
from palimpsest.lm.anatomy import last_mlp
from palimpsest.lm.blocks import BLOCK, BlockPool
from palimpsest.lm.detokenizer import Detokenizer
from palimpsest.lm.forward import Cache, Copies, Output, Paged, SequenceInput
from palimpsest.lm.fused import FusedForward
from palimpsest.lm.generic import ModuleForward, whole_inputs
from palimpsest.lm.paged_cache import PagedCache
from palimpsest.lm.protocols import Limits
from palimpsest.lm.weights import LlamaWeights, fuse, is_llama_shaped

try:
    from palimpsest.lm.cpu.forward import CompiledForward
except (ImportError, RuntimeError):  # numba is optional, and it may find nowhere to keep compiled code
    CompiledForward = None

log = logging.getLogger(__name__)

CHUNK = 256
"""Prompt tokens of one step when nothing else runs."""

CHUNK_BESIDE = 64
"""Prompt tokens of one step beside running streams, where the compiled pass reads them."""

SHORT = 16
"""A sequence with at most this many new rows always uses the compiled pass, if there is one."""

_TORCH_SPEED_UP = 2.0
"""Torch reads prompts only if it is this many times as fast as the compiled pass, which gives the same bits for a row
whatever the rest of the batch is. Torch does not guarantee that."""


class LanguageModel:
    """One loaded causal LM. Made by :func:`palimpsest.lm.load`; calls must come from one thread at a time.

    Parameters
    ----------
    module, tokenizer
        transformers' own objects, the module on its device.
    threads
        CPU threads of one pass.
    cache_bytes
        Memory for keys and values.
    trainable
        Leave the module's weights alone and run transformers' pass.

    Attributes
    ----------
    tokenizer, config, module
        transformers' own objects. The module's weights are those of every pass (the same memory).
    forward_kind, prefill_kind
        The pass of single tokens and of prompts: "compiled", "fused" or "transformers".
    context_length, vocab_size, eos_ids
        From config and generation config. ``vocab_size`` is the number of logits.
    """

    def __init__(
        self,
        module: PreTrainedModel,
        tokenizer: object,
        threads: int,
        cache_bytes: int,
        *,
        trainable: bool = False,
    ) -> None:
        self.module, self.tokenizer, self.config = module, tokenizer, module.config
        self.device, self.dtype = module.device, module.dtype
        text = self.config.get_text_config()
        self.context_length = int(getattr(text, "max_position_embeddings", None) or 1 << 20)
        self.vocab_size = int(cast(Any, module.get_output_embeddings()).weight.shape[0])
        self.hidden_size = int(cast(Any, module.get_input_embeddings()).weight.shape[1])
        self.num_layers = int(text.num_hidden_layers)
        self.eos_ids = eos_ids_of(module)
        self.weights: LlamaWeights | None = None
        if not trainable and is_llama_shaped(module):
            self.weights = fuse(module)
        self.pool: BlockPool | None = None
        self.compiled: CompiledForward | None = None  # type: ignore[valid-type]
        self._fused: Paged | None = None
        self.forward_kind = "transformers"
        self.prefill_kind = "transformers"
        self._choose(threads, cache_bytes)

    @property
    def limits(self) -> Limits:
        """What the model can take."""
        beside = CHUNK_BESIDE if self.prefill_kind == "compiled" else CHUNK
        return Limits(self.vocab_size, self.context_length, self._blocks, self._block_bytes, CHUNK, beside)

    def _choose(self, threads: int, cache_bytes: int) -> None:
        w = self.weights
        text = self.config.get_text_config()
        heads = (
            w.kv_heads if w else int(getattr(text, "num_key_value_heads", None) or text.num_attention_heads)
        )
        head_dim = w.head_dim if w else int(
            getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        )  # fmt: skip
        kv_shape = (self.num_layers, heads, head_dim)
        self.generic = ModuleForward(self.module, kv_shape)
        self._block_bytes = 2 * self.num_layers * heads * head_dim * BLOCK * self.dtype.itemsize
        self._blocks = max(1, min(cache_bytes // self._block_bytes, 64 * -(-self.context_length // BLOCK)))
        probe = probe_ids(self)
        with torch.inference_mode():
            expected = self.module(input_ids=probe[None]).logits[0].float()
        if w is not None:
            self.pool = BlockPool(self.num_layers, heads, head_dim, self._blocks, self.dtype, self.device)
            self._fused = FusedForward(w)
            self.forward_kind = self.prefill_kind = "fused"
            if not self._agrees(probe, expected):
                log.warning("the fused forward pass differs from transformers': using transformers' own")
                self.weights = self.pool = self._fused = None
            elif _can_compile(w):
                self._choose_compiled(w, threads, probe, expected)
        if self.weights is None:
            self.forward_kind = self.prefill_kind = "transformers"
            if not self._agrees(probe, expected):
                log.warning(
                    "this model is wrong with transformers' cache: every step runs the whole sequence"
                )
                self.generic = ModuleForward(self.module, kv_shape, recompute=True)

    def _choose_compiled(
        self, w: LlamaWeights, threads: int, probe: torch.Tensor, expected: torch.Tensor
    ) -> None:
        assert self.pool is not None
        assert CompiledForward is not None
        try:
            self.compiled = CompiledForward(w, self.pool, threads)
            self.forward_kind = self.prefill_kind = "compiled"
            agrees = self._agrees(probe, expected)
        except Exception:
            log.exception("the compiled forward pass failed")
            agrees = False
        if not agrees:
            log.warning("the compiled forward pass differs from transformers': using torch")
            self.compiled, self.forward_kind, self.prefill_kind = None, "fused", "fused"
        elif seconds_of_prompt(self, "compiled") > _TORCH_SPEED_UP * seconds_of_prompt(self, "fused"):
            self.prefill_kind = "fused"

    def _agrees(self, probe: torch.Tensor, expected: torch.Tensor) -> bool:
        return agrees(self, probe, expected)

    def new_cache(self) -> Cache:
        """Return the cache of an empty sequence."""
        return self.generic.new_cache() if self.pool is None else PagedCache(self.pool)

    def embed(self, ids: Sequence[int]) -> torch.Tensor:
        """Input embeddings of token ids: [tokens, hidden]."""
        index = torch.tensor(list(ids), device=self.device)
        if self.weights is not None:
            return self.weights.embedding[index]
        with torch.inference_mode():
            return self.module.get_input_embeddings()(index)

    def forward(self, inputs: Sequence[SequenceInput], hidden: Sequence[int] = ()) -> list[Output]:
        """Run new tokens of several sequences, each with one or more, and let their caches grow by them.

        Parameters
        ----------
        inputs
            One entry per sequence; see :class:`SequenceInput`. One that follows another comes after it.
        hidden
            Layers whose hidden states are wanted; 0 the embedding, ``num_layers`` after the final norm.

        Returns
        -------
        list of Output
            In the order of ``inputs``.

        Raises
        ------
        ResourceExhausted
            The cache memory is full; no sequence has grown.
        FailedPrecondition
            Retrieval queries are wanted of a model whose last MLP was not found.
        """
        embedded = [self.embed(r.ids or ()) if r.embeddings is None else r.embeddings for r in inputs]
        if self.pool is None:
            return self.generic.run(inputs, whole_inputs(inputs, embedded), hidden)
        outputs: list[Output | None] = [None] * len(inputs)
        grown = []
        try:
            for row in inputs:
                row.cache.extend(row.grows)  # type: ignore[attr-defined]
                grown.append(row)
        except Exception:
            for row in grown:
                row.cache.crop(row.cache.length - row.grows)
            raise
        by_torch = [n for n, row in enumerate(inputs) if self._by_torch(row)]
        compiled = [n for n in range(len(inputs)) if n not in by_torch]
        for forward, numbers in ((self.compiled, compiled), (self._fused, by_torch)):
            if numbers:
                assert forward is not None
                some = self._run(
                    forward, [inputs[n] for n in numbers], [embedded[n] for n in numbers], hidden
                )
                for n, output in zip(numbers, some, strict=True):
                    outputs[n] = output
        return [output for output in outputs if output is not None]

    def _by_torch(self, row: SequenceInput) -> bool:
        while row.after is not None:  # rows that share tokens go one way
            row = row.after
        return self.compiled is None or (self.prefill_kind == "fused" and row.count > SHORT)

    def _run(
        self,
        forward: Paged,
        rows: Sequence[SequenceInput],
        embedded: Sequence[torch.Tensor],
        hidden: Sequence[int],
    ) -> list[Output]:
        """Run one kind of pass over entries one after another, and cut its results into one output for each entry.

        Below, R counts the new tokens of all entries, C is the hidden size, V the vocabulary.
        """
        wanted, sites, first = [], [], 0  # row numbers of which logits, and retrieval queries, are wanted
        for row in rows:
            first += row.count
            wanted.extend(range(first - row.outputs, first))
            sites.extend(range(first - row.query_outputs, first))
        caches = [row.cache for row in rows]
        counts = [row.count for row in rows]
        joined = torch.cat(list(embedded))  # (R, C)
        logits, states, found = forward.run(caches, counts, joined, wanted, hidden, sites, Copies.of(rows))  # type: ignore[arg-type]
        # logits (wanted, V); states {layer: (R, C)}; found (sites, C)
        outputs, first, out, site = [], 0, 0, 0
        for row in rows:
            own = {layer: state[first : first + row.count] for layer, state in states.items()}
            queries = found[site : site + row.query_outputs] if row.query_outputs else None
            outputs.append(Output(logits[out : out + row.outputs], own, queries))
            first, out, site = first + row.count, out + row.outputs, site + row.query_outputs
        return outputs

    def check_retrieval_queries(self) -> None:
        """Check that passes can give retrieval queries.

        Raises
        ------
        FailedPrecondition
            KEY_SITE_UNKNOWN: the MLP of the last block was not found.
        """
        if self.pool is None:
            last_mlp(self.module)

    def text_decoder(self) -> Detokenizer:
        """Return a decoder for one sequence's tokens."""
        return Detokenizer(self.tokenizer)

    def prepare(self) -> None:
        """Stop torch's own threads from competing with the compiled pass, where that does all the work."""
        if self.prefill_kind == "compiled":
            torch.set_num_threads(1)

    def wait(self) -> None:
        """Wait for passes that are only queued on a CUDA device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def close(self) -> None:
        """Stop the compiled pass's threads; memory goes with the last reference."""
        if self.compiled is not None:
            self.compiled.close()


def _can_compile(w: LlamaWeights) -> bool:
    sizes = (w.hidden, w.inner, w.head_dim, w.heads * w.head_dim)
    on_cpu = w.embedding.device.type == "cpu" and w.embedding.dtype in (torch.float32, torch.bfloat16)
    return CompiledForward is not None and on_cpu and all(size % 16 == 0 for size in sizes)


def eos_ids_of(module: PreTrainedModel) -> frozenset[int]:
    """Return the tokens that end a text, of the generation config or else the config."""
    found = set()
    for source in (getattr(module, "generation_config", None), module.config):
        value = getattr(source, "eos_token_id", None)
        if value is not None:
            found.update([value] if isinstance(value, int) else value)
            break
    return frozenset(found)

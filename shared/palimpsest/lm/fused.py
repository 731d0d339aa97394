"""The forward pass of llama-shaped models in torch: fused matrices, paged caches, any device.

Shapes: R rows (new tokens of all sequences), n of them in one sequence of T tokens; C hidden, H heads, K key-value
heads, D head size, F inner size, V vocabulary.
"""

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from palimpsest.lm.forward import Copies
from palimpsest.lm.paged_cache import PagedCache
from palimpsest.lm.weights import LayerWeights, LlamaWeights


class FusedForward:
    """torch operators over fused matrices; attention sequence by sequence.

    The low bits of a row may depend on how many rows go through a product together: this is the library's
    choice of kernel by shape.
    """

    def __init__(self, weights: LlamaWeights) -> None:
        self.weights = weights
        self._cos, self._sin = weights.rope_tables(1024)

    @torch.inference_mode()
    def run(
        self,
        caches: Sequence[PagedCache],
        counts: Sequence[int],
        x: torch.Tensor,
        outputs: Sequence[int],
        hidden: Sequence[int],
        queries: Sequence[int],
        copies: Copies | None = None,
    ) -> tuple[torch.Tensor, dict[int, torch.Tensor], torch.Tensor]:
        """Run all layers; see :class:`palimpsest.lm.forward.Paged`."""
        w, device = self.weights, x.device
        longest = max(cache.length for cache in caches)
        if longest > self._cos.shape[0]:
            self._cos, self._sin = w.rope_tables(1 << (longest - 1).bit_length())
        starts = [cache.length - count for cache, count in zip(caches, counts, strict=True)]
        positions = torch.cat(
            [torch.arange(s, s + n, device=device) for s, n in zip(starts, counts, strict=True)]
        )
        cos, sin = self._cos[positions][:, None], self._sin[positions][:, None]  # (R, 1, D)
        x = read = x.to(w.embedding.dtype)  # (R, C)
        kept = {}
        for index, layer in enumerate(w.layers):
            if index in hidden:
                kept[index] = x.float()
            mixed = self._attention(
                layer, index, self._norm(x, layer.norm_1), cos, sin, caches, counts, starts, copies
            )
            x = x + F.linear(mixed, layer.o)  # (R, H D) -> (R, C)
            read = self._norm(x, layer.norm_2)  # (R, C)
            gate, up = F.linear(read, layer.gate_up).chunk(2, dim=-1)  # (R, F) each
            x = x + F.linear(F.silu(gate) * up, layer.down)  # (R, C)
        if len(w.layers) in hidden:
            kept[len(w.layers)] = self._norm(x, w.final_norm).float()
        chosen = x[torch.tensor(list(outputs), dtype=torch.long, device=device)]  # (outputs, C)
        found = read[torch.tensor(list(queries), dtype=torch.long, device=device)].float()
        return F.linear(self._norm(chosen, w.final_norm), w.head).float(), kept, found

    def _norm(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        wide = x.float()
        scaled = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.weights.eps)
        return (weight * scaled).to(x.dtype)

    def _attention(
        self, layer: LayerWeights, index: int, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor,
        caches: Sequence[PagedCache], counts: Sequence[int], starts: Sequence[int],
        copies: Copies | None,
    ) -> torch.Tensor:  # fmt: skip
        """Attention output before the o matrix: (R, H D)."""
        w = self.weights
        qkv = F.linear(x, layer.qkv)  # (R, (H + 2 K) D)
        if layer.qkv_bias is not None:
            qkv = (qkv.float() + layer.qkv_bias).to(qkv.dtype)
        q, k, v = qkv.unflatten(-1, (-1, w.head_dim)).split([w.heads, w.kv_heads, w.kv_heads], dim=1)
        # q (R, H, D); k, v (R, K, D)
        if layer.norm_q is not None and layer.norm_k is not None:
            q, k = self._norm(q, layer.norm_q), self._norm(k, layer.norm_k)
        q, k = _rotate(q, cos, sin), _rotate(k, cos, sin)
        mixed, first = [], 0
        for cache, count, start in zip(caches, counts, starts, strict=True):
            rows = slice(first, first + count)
            first += count
            cache.write(index, start, k[rows], v[rows])
            if copies is not None:
                for row in range(rows.start, rows.stop):
                    position, one = start + row - rows.start, slice(row, row + 1)
                    for other in copies.caches[row]:
                        caches[other].write(index, position, k[one], v[one])
            keys, values = cache.gather(index)  # (K, T, D) each
            mask = None
            if count > 1:
                mask = torch.ones(count, cache.length, dtype=torch.bool, device=x.device).tril(
                    start
                )  # (n, T)
            out = F.scaled_dot_product_attention(
                q[rows].transpose(0, 1)[None],
                keys[None],
                values[None],
                attn_mask=mask,
                scale=w.scale,
                enable_gqa=True,
            )
            mixed.append(out[0].transpose(0, 1).flatten(1))  # (1, H, n, D) -> (n, H D)
        return torch.cat(mixed)


def _rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary embedding of [rows, heads, head_dim], two halves."""
    a, b = x.float().chunk(2, dim=-1)
    return (x.float() * cos + torch.cat([-b, a], dim=-1) * sin).to(x.dtype)

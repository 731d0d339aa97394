"""Slopes at the base itself, from a pass that was kept whole: one more product for each matrix, and no other.

The numbers are those of ``slopes``, whose mixtures compute every layer again for its gradient. Here a layer's gradient
goes back through its parts one by one: products with the base's matrices transposed, attention in closed form, norms
and activations by autograd. Of weights there are no gradients. A slope is then ``<d log p / dy, y_B - y_A>`` of rows
that are all there.
"""

from collections.abc import Callable

import torch

from services.grafting.attribution.slopes import Slopes
from services.grafting.attribution.traces import OUTSIDE, Place, Trace
from services.grafting.engine import LAYER_COMPONENTS, Architecture, ModelWeights
from services.grafting.engine.attention import rotate
from services.grafting.engine.configurations import OUTER_COMPONENTS
from services.grafting.engine.products import linear
from services.grafting.engine.quantised import is_quantised, matrix_of, part_of
from services.grafting.runs import PromptRun


def slopes_at_base(
    base: ModelWeights,
    architecture: Architecture,
    run: PromptRun,
    trace: Trace,
    drops: int,
    check: Callable[[], None],
) -> Slopes:
    """Find the slope of the target's log-probability along every share, at shares of 0.

    Parameters
    ----------
    base, architecture
        Of the run.
    run, trace
        Both models' own passes, and what was kept of the base's.
    drops
        How many groups of neighbouring layers are left out, each in one more repetition.
    check
        Called before each layer; may raise to stop.
    """
    with torch.inference_mode(False), torch.no_grad():
        return _Backward(base, architecture, run, trace, 1 + drops).slopes(check)


class _Backward:
    """Gradients of one target's log-probability, [repetitions, rows, ...], from the last layer to the first."""

    def __init__(
        self, base: ModelWeights, architecture: Architecture, run: PromptRun, trace: Trace, many: int
    ) -> None:
        self._base, self._architecture, self._run, self._many = base, architecture, run, many
        self._trace = trace
        states = run.base.states[0]
        self._tables = architecture.rotary_tables(run.base.tokens, states)
        sizes = (many, run.base.tokens)
        self._body = states.new_zeros(*sizes, architecture.layers, len(LAYER_COMPONENTS), dtype=torch.float32)
        self._outer = states.new_zeros(*sizes, len(OUTER_COMPONENTS), dtype=torch.float32)

    def slopes(self, check: Callable[[], None]) -> Slopes:
        layers, tokens, drops = self._architecture.layers, self._run.base.tokens, self._many - 1
        last = self._of_last()
        gradient = last.new_zeros(self._many, tokens, last.shape[-1])
        gradient[:, -last.shape[1] :] = last
        residual = []
        for layer in reversed(range(layers)):
            check()
            residual.append(gradient)
            into = gradient.clone()
            for drop in range(drops):
                if layer * drops // layers == drop:
                    into[1 + drop] = 0
            gradient = gradient + self._through(layer, into)
        self._score((OUTSIDE, "embedding"), gradient)
        rows = tokens * layers * self._many
        return Slopes(self._body, self._outer, torch.stack(residual[::-1], 1), rows)

    def _of_last(self) -> torch.Tensor:
        """Gradients by the states before the last norm, [repetitions, outputs, hidden]."""
        target = torch.tensor(self._run.case.target, device=self._outer.device)
        logits = self._trace.made[OUTSIDE, "head"]
        by_logits = -torch.softmax(logits.double(), -1)
        by_logits[torch.arange(len(target)), target] += 1
        by_logits = by_logits.to(logits.dtype)[None]
        self._score((OUTSIDE, "head"), by_logits)
        head = self._base.model.get_output_embeddings()
        weight = matrix_of(head, by_logits.dtype) if is_quantised(head) else head.weight
        by_norm = _product(by_logits, weight)
        self._score((OUTSIDE, "final_norm"), by_norm)
        found = _pulled_back(self._base.final_norm, by_norm, self._trace.read[OUTSIDE, "final_norm"])
        return found[0].expand(self._many, -1, -1)

    def _through(self, layer: int, into: torch.Tensor) -> torch.Tensor:
        """Pull gradients by what a layer adds back to its input, and score its components."""
        count = self._trace.made[layer, "o"].shape[0]  # of the last layer's, rows that are read alone
        asked = into[:, -count:]
        by_read = self._through_mlp(layer, asked)
        by_after = asked if self._architecture.parallel else asked + by_read
        by_mixed = self._pulled(layer, "o", by_after)
        by_heads = self._through_attention(layer, by_mixed)
        by_h = into.new_zeros(into.shape)
        for name, each in zip(("q", "k", "v"), by_heads, strict=True):
            by_h[:, -each.shape[1] :] += self._pulled(layer, name, each)
        by_x = self._through_norm(layer, "attention_norm", by_h)
        by_x[:, -count:] += by_read
        return by_x

    def _through_mlp(self, layer: int, by_out: torch.Tensor) -> torch.Tensor:
        act = self._architecture.activations[layer]
        by_inner = self._pulled(layer, "down", by_out)
        names = ("gate", "up") if self._architecture.has_gate else ("up",)
        inputs = [self._trace.made[layer, name] for name in names]

        def inner(first: torch.Tensor, *second: torch.Tensor) -> torch.Tensor:
            return act(first) * second[0] if second else act(first)

        by_h = [
            self._pulled(layer, name, each)
            for name, each in zip(names, _pulled_back(inner, by_inner, *inputs), strict=True)
        ]
        return self._through_norm(layer, "mlp_norm", sum(by_h[1:], by_h[0]))

    def _through_norm(self, layer: int, name: str, gradient: torch.Tensor) -> torch.Tensor:
        self._score((layer, name), gradient)
        rows = self._trace.read[layer, name]
        return _pulled_back(lambda x: self._base.apply(layer, name, x), gradient, rows)[0]

    def _through_attention(
        self, layer: int, by_mixed: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Gradients by queries, keys and values as their components make them, [repetitions, rows, heads * dim]."""
        own = self._architecture
        queries = self._trace.made[layer, "q"].unflatten(-1, (-1, own.head_dim))
        if self._tables is not None:
            queries = rotate(queries, *(table[-len(queries) :] for table in self._tables))
        keys, values = self._run.base.keys[layer], self._run.base.values[layer]
        by_q, by_k, by_v = _attended_back(by_mixed, queries, keys, values, own, layer)
        if self._tables is not None:
            cos, sin = self._tables
            by_q = rotate(by_q, cos[-by_q.shape[1] :], -sin[-by_q.shape[1] :])  # turned back
            by_k = rotate(by_k, cos, -sin)
        return by_q.flatten(2), by_k.flatten(2), by_v.flatten(2)

    def _pulled(self, layer: int, component: str, gradient: torch.Tensor) -> torch.Tensor:
        """Pull gradients by what a matrix makes back to what it reads, and score it."""
        self._score((layer, component), gradient)
        projected = self._trace.projected.get((layer, component))
        if projected is not None:
            (gradient,) = _pulled_back(lambda z: self._base.normed(layer, component, z), gradient, projected)
        part = self._base.anatomy.layers[layer][component]
        return _product(gradient, part_of(self._base.model, part, gradient.dtype))

    def _score(self, place: Place, gradient: torch.Tensor) -> None:
        layer, name = place
        found = (gradient * self._trace.change[place]).sum(-1)
        if layer == OUTSIDE:
            self._outer[:, -found.shape[1] :, OUTER_COMPONENTS.index(name)] = found
        else:
            self._body[:, -found.shape[1] :, layer, LAYER_COMPONENTS.index(name)] = found


def _product(gradient: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Multiply [..., outputs] with a weight of [outputs, inputs]."""
    return linear(gradient.flatten(0, -2), weight.detach().t()).unflatten(0, gradient.shape[:-1])


def _pulled_back(
    function: Callable[..., torch.Tensor], gradients: torch.Tensor, *inputs: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    """Products of gradients by a function's result with its derivative by each input."""
    with torch.enable_grad():
        leaves = [each.clone().requires_grad_() for each in inputs]
        out = function(*leaves)
        if len(gradients) == 1:
            return tuple(each[None] for each in torch.autograd.grad(out, leaves, gradients[0]))
        return torch.autograd.grad(out, leaves, gradients, is_grads_batched=True)


def _attended_back(
    by_mixed: torch.Tensor,
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    architecture: Architecture,
    layer: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients by the rotated queries and keys, and by the values, of attention from the last rows to all.

    Parameters
    ----------
    by_mixed
        [repetitions, last rows, heads * head_dim].
    queries
        [last rows, heads, head_dim].
    keys, values
        [rows, kv_heads, head_dim].
    architecture, layer
        What scores are multiplied with, and how far a token sees.

    Returns
    -------
    tuple
        [repetitions, last rows, heads, head_dim], and twice [repetitions, rows, kv_heads, head_dim].
    """
    (asked, heads, dim), (rows, groups, _) = queries.shape, keys.shape
    split = (groups, heads // groups)
    q = queries.unflatten(1, split).permute(1, 2, 0, 3).flatten(1, 2)  # [groups, rep * asked, dim]
    k, v = keys.transpose(0, 1), values.transpose(0, 1)  # [groups, rows, dim]
    g = (
        by_mixed.unflatten(-1, (*split, dim)).permute(0, 2, 3, 1, 4).flatten(2, 3)
    )  # [many, groups, rep * asked, dim]
    scale = architecture.scales[layer]
    at = torch.arange(rows - asked, rows, device=q.device)[:, None]
    seen = torch.arange(rows, device=q.device)[None]
    hidden = seen > at
    if (window := architecture.windows[layer]) is not None:
        hidden |= seen <= at - window
    scores = (q @ k.mT * scale).unflatten(1, (-1, asked))
    scores = scores.masked_fill(hidden, torch.finfo(scores.dtype).min)
    weights = (
        torch.softmax(scores, -1, dtype=torch.float32).to(q.dtype).flatten(1, 2)
    )  # [groups, rep * asked, rows]
    by_weights = g @ v.mT
    by_scores = weights * (by_weights - (by_weights * weights).sum(-1, keepdim=True)) * scale
    by_q = (by_scores @ k).unflatten(2, (-1, asked)).permute(0, 3, 1, 2, 4).flatten(2, 3)
    by_k, by_v = by_scores.mT @ q, weights.mT @ g
    return by_q, by_k.transpose(1, 2), by_v.transpose(1, 2)

"""How the log-probability of a target changes with every weight's share of the donor, from one backward pass.

In each token t, layer l and component c the output is ``y = y_A + a[t, l, c] (y_B - y_A)``, both of the row that the
component reads: 0 is the base, 1 the graft. The slope of the log-probability along each share is

    s[t, l, c] = < d log p / d y[t, l, c] , y_B - y_A >

and one backward pass gives them all: attribution patching (Nanda, 2023) with weights in place of activations. At shares
of 0 a graft's effect is its slope to first order. The mean of the slopes along the way from 0 to 1, all shares
together, is the integrated gradient (Sundararajan et al., 2017): over everything it adds up to what the donor adds to
the log-probability, but for the rule of midpoints.

Paths through later layers may cancel, so that a first order hides a large effect. ``drops`` repeats the backward pass
with the contribution of some layers to the gradient left out: GradDrop of AtP* (Kramár et al., 2024, section 3.1.2),
by groups of neighbouring layers instead of single ones. All repetitions go through a layer together.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from services.grafting.attribution.layers import added
from services.grafting.engine import LAYER_COMPONENTS, Architecture, Reference, Weights
from services.grafting.engine.attention import attend, rotate
from services.grafting.runs import ROWS, Case


@dataclass(frozen=True)
class Slopes:
    """Slopes of the log-probability of one target, in nats; the first of each has no layer left out.

    Parameters
    ----------
    body
        [1 + drops, tokens, layers, components], of ``LAYER_COMPONENTS``.
    outer
        [1 + drops, tokens, 3], of ``OUTER_COMPONENTS``.
    residual
        Gradients by the states after each layer, [1 + drops, layers, tokens, hidden].
    rows
        Rows that went through a layer: those of the base's weights, of the donor's (twice, but at the base itself),
        and of every backward pass.
    """

    body: torch.Tensor
    outer: torch.Tensor
    residual: torch.Tensor
    rows: int


class _Mixture:
    """The base and the donor at some shares, several at once."""

    def __init__(
        self,
        sources: Sequence[Weights],
        architecture: Architecture,
        reference: Reference,
        case: Case,
        shares: Sequence[float],
    ) -> None:
        self._base, self._donor = sources
        self._architecture, self._reference, self._case = architecture, reference, case
        device = reference.ids.device
        self._shares = torch.tensor(shares, device=device)
        self.still = not any(shares)
        self._at = torch.arange(reference.tokens, device=device)
        with torch.no_grad():
            like = self._base.embed(reference.ids, self._at)
            self._tables = architecture.rotary_tables(reference.tokens, like)

    def states(self, check: Callable[[], None]) -> list[torch.Tensor]:
        """Inputs of the layers, [shares, tokens, hidden], and last the output of the last one at the last positions."""
        if self.still:
            return [state.clone()[None] for state in self._reference.states]
        states = []
        with torch.no_grad():
            x = self.embedded()[0]
            for layer in range(self._architecture.layers):
                check()
                states.append(x)
                x = x + self.added(layer, x)[0]
        return [*states, x[:, -len(self._case.target) :]]

    def embedded(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The input of the first layer, and its shares."""
        ids, share = self._reference.ids.clone(), self._leaf()
        with torch.no_grad():
            mine, other = self._base.embed(ids, self._at), self._donor.embed(ids, self._at)
        return mine + share.to(mine.dtype) * (other - mine), share

    def added(self, layer: int, x: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """What a layer adds to its input, and the shares of its components."""
        shares: dict[str, torch.Tensor] = {}

        def apply(name: str, rows: torch.Tensor) -> torch.Tensor:
            shares[name] = self._leaf()
            return self._mixed(
                rows,
                shares[name],
                lambda z: self._base.apply(layer, name, z),
                lambda z: self._donor.apply(layer, name, z),
            )

        def mix(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            if self._tables is not None:
                cos, sin = (table.repeat(q.shape[0], 1) for table in self._tables)
                q, k = (rotate(z.flatten(0, 1), cos, sin).view_as(z) for z in (q, k))
            return attend(q, k, v, None, self._architecture, layer)

        return added(self._architecture, layer, apply, mix, x), shares

    def ends(self, last: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Gradients of the log-probability by the last state, and by the shares of the last norm and of the head."""
        last = last.requires_grad_()
        count = last.shape[1]
        norm, head = self._leaf(), self._leaf()
        h = self._mixed(last, norm[:, -count:], self._base.final_norm, self._donor.final_norm)
        logits = self._mixed(h, head[:, -count:], self._base.head, self._donor.head)
        target = torch.tensor(self._case.target, device=last.device)
        logprobs = torch.log_softmax(logits.double(), -1)
        total = logprobs[:, torch.arange(count), target].sum()
        return torch.autograd.grad(total, (last, norm, head))

    def _leaf(self) -> torch.Tensor:
        return self._shares[:, None, None].expand(-1, len(self._at), 1).clone().requires_grad_()

    def _mixed(
        self,
        x: torch.Tensor,
        share: torch.Tensor,
        base: Callable[[torch.Tensor], torch.Tensor],
        donor: Callable[[torch.Tensor], torch.Tensor],
    ) -> torch.Tensor:
        y = base(x)
        if self.still:  # no gradient passes through the donor's product, which has a share of 0
            with torch.no_grad():
                change = donor(x) - y
            return y + share.to(y.dtype) * change
        return y + share.to(y.dtype) * (donor(x) - y)


def _go_on() -> None:
    """Check nothing."""


def slopes_of(
    sources: Sequence[Weights],
    architecture: Architecture,
    reference: Reference,
    case: Case,
    shares: Sequence[float] = (0.0,),
    drops: int = 0,
    check: Callable[[], None] = _go_on,
) -> Slopes:
    """Find the slope of the target's log-probability along every share.

    Each layer is computed again when its gradient is, so that no more than one is in memory.

    Parameters
    ----------
    sources
        Base and donor, differentiable by their rows.
    architecture
        Of both.
    reference
        The base's pass over the case.
    case
        Prompt and target.
    shares
        Where along the way the slopes are taken; their mean is returned.
    drops
        How many groups of neighbouring layers are left out, each in one more backward pass.
    check
        Called before each layer; may raise to stop.
    """
    per = max(1, ROWS // reference.tokens)
    total: Slopes | None = None
    with torch.inference_mode(False), torch.enable_grad():
        for first in range(0, len(shares), per):
            some = shares[first : first + per]
            own = _slopes(
                _Mixture(sources, architecture, reference, case, some), architecture.layers, drops, check
            )
            weight = len(some) / len(shares)
            scaled = Slopes(own.body * weight, own.outer * weight, own.residual * weight, own.rows)
            total = scaled if total is None else Slopes(
                total.body + scaled.body,
                total.outer + scaled.outer,
                total.residual + scaled.residual,
                total.rows + scaled.rows,
            )  # fmt: skip
    assert total is not None
    return total


def _slopes(mixture: _Mixture, layers: int, drops: int, check: Callable[[], None]) -> Slopes:
    many, states = 1 + drops, mixture.states(check)
    of_last, of_norm, of_head = mixture.ends(states.pop())
    shares, tokens, hidden = states[0].shape
    gradient = of_last.new_zeros(many, shares, tokens, hidden)
    gradient[:, :, -of_last.shape[1] :] = of_last
    body = gradient.new_zeros(many, tokens, layers, len(LAYER_COMPONENTS), dtype=torch.float32)
    residual = []
    for layer in reversed(range(layers)):
        check()
        residual.append(gradient.mean(1))
        start = states.pop().requires_grad_()
        out, named = mixture.added(layer, start)
        into = gradient.clone()
        for drop in range(drops):
            if layer * drops // layers == drop:
                into[1 + drop] = 0
        found = _pulled_back(out, (start, *named.values()), into)
        for name, each in zip(named, found[1:], strict=True):
            body[:, :, layer, LAYER_COMPONENTS.index(name)] = each[..., 0].mean(1)
        gradient = gradient + found[0]
    first, share = mixture.embedded()
    (of_embedding,) = _pulled_back(first, (share,), gradient)
    of_ends = (each.expand(many, *each.shape) for each in (of_norm, of_head))
    outer = torch.stack([each[..., 0].mean(1) for each in (of_embedding, *of_ends)], -1)
    rows = tokens * layers * shares * (2 + many + (0 if mixture.still else 2))
    return Slopes(body, outer, torch.stack(residual[::-1], 1), rows)


def _pulled_back(
    out: torch.Tensor, inputs: Sequence[torch.Tensor], gradients: torch.Tensor
) -> list[torch.Tensor]:
    """Products of several gradients by ``out`` with its derivative by each input, a few at once."""
    per = max(1, ROWS // (out.shape[0] * out.shape[1]))
    parts = gradients.split(per)
    found = []
    for at, part in enumerate(parts):
        single = len(part) == 1
        each = torch.autograd.grad(
            out,
            tuple(inputs),
            part[0] if single else part,
            retain_graph=at + 1 < len(parts),
            is_grads_batched=not single,
        )
        found.append([one[None] for one in each] if single else each)
    return [torch.cat(own) for own in zip(*found, strict=True)]


def midpoints(steps: int) -> tuple[float, ...]:
    """Return shares for an integrated gradient; of no step, the base alone."""
    return tuple((step + 0.5) / steps for step in range(steps)) or (0.0,)

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
from services.grafting.engine import LAYER_COMPONENTS, Architecture, Weights
from services.grafting.engine.attention import attend, rotate
from services.grafting.runs import Case


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
        Rows that went through a layer: those of the base's weights, of the donor's, and of every backward pass.
    """

    body: torch.Tensor
    outer: torch.Tensor
    residual: torch.Tensor
    rows: int


class _Tape:
    """One pass with shares, kept layer by layer."""

    def __init__(
        self, sources: Sequence[Weights], architecture: Architecture, case: Case, shares: Sequence[float]
    ) -> None:
        self._base, self._donor = sources
        self._architecture, self._case = architecture, case
        self._shares = torch.tensor(shares)
        self._still = not self._shares.any()
        self.tokens = len(case.ids)
        self.leaves: list[tuple[torch.Tensor, dict[str, torch.Tensor]]] = []
        self.outputs: list[torch.Tensor] = []

    def forward(self, device: torch.device, check: Callable[[], None]) -> tuple[torch.Tensor, ...]:
        """Run; returns the embedding's shares, the last state, the other outer shares and the log-probability."""
        ids = torch.tensor(self._case.ids, device=device)
        at = torch.arange(self.tokens, device=device)
        embedding = self._leaf(device)
        with torch.no_grad():
            mine, other = self._base.embed(ids, at), self._donor.embed(ids, at)
            tables = self._architecture.rotary_tables(self.tokens, mine)
        first = mine + embedding * (other - mine)
        x = first
        for layer in range(self._architecture.layers):
            check()
            x = self._layer(layer, x, tables, device)
        last = x.detach().requires_grad_()
        count = len(self._case.target)
        norm, head = self._leaf(device), self._leaf(device)
        h = self._mixed(last[:, -count:], norm[:, -count:], self._base.final_norm, self._donor.final_norm)
        logits = self._mixed(h, head[:, -count:], self._base.head, self._donor.head)
        target = torch.tensor(self._case.target, device=device)
        logprobs = torch.log_softmax(logits.double(), -1)
        return first, embedding, last, norm, head, logprobs[:, torch.arange(count), target].sum()

    def _leaf(self, device: torch.device) -> torch.Tensor:
        shares = self._shares.to(device)[:, None, None]
        return shares.expand(-1, self.tokens, 1).clone().requires_grad_()

    def _mixed(
        self,
        x: torch.Tensor,
        share: torch.Tensor,
        base: Callable[[torch.Tensor], torch.Tensor],
        donor: Callable[[torch.Tensor], torch.Tensor],
    ) -> torch.Tensor:
        y = base(x)
        if self._still:  # no gradient passes through the donor's product, which has a share of 0
            with torch.no_grad():
                change = donor(x) - y
            return y + share.to(y.dtype) * change
        return y + share.to(y.dtype) * (donor(x) - y)

    def _layer(
        self,
        layer: int,
        x: torch.Tensor,
        tables: tuple[torch.Tensor, torch.Tensor] | None,
        device: torch.device,
    ) -> torch.Tensor:
        shares: dict[str, torch.Tensor] = {}

        def apply(name: str, rows: torch.Tensor) -> torch.Tensor:
            shares[name] = self._leaf(device)
            return self._mixed(
                rows,
                shares[name],
                lambda z: self._base.apply(layer, name, z),
                lambda z: self._donor.apply(layer, name, z),
            )

        def mix(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            if tables is not None:
                cos, sin = (table.repeat(q.shape[0], 1) for table in tables)
                q, k = (rotate(z.flatten(0, 1), cos, sin).view_as(z) for z in (q, k))
            return attend(q, k, v, None, self._architecture, layer)

        start = x.detach().requires_grad_()
        out = added(self._architecture, layer, apply, mix, start)
        self.leaves.append((start, shares))
        self.outputs.append(out)
        return start.detach() + out.detach()


def _go_on() -> None:
    """Check nothing."""


def slopes_of(
    sources: Sequence[Weights],
    architecture: Architecture,
    case: Case,
    shares: Sequence[float] = (0.0,),
    drops: int = 0,
    device: torch.device | str = "cpu",
    check: Callable[[], None] = _go_on,
) -> Slopes:
    """Find the slope of the target's log-probability along every share.

    Parameters
    ----------
    sources
        Base and donor, differentiable by their rows.
    architecture
        Of both.
    case
        Prompt and target.
    shares
        Where along the way the slopes are taken; their mean is returned.
    drops
        How many groups of neighbouring layers are left out, each in one more backward pass.
    device
        Where the weights are.
    check
        Called before each layer; may raise to stop.
    """
    device, layers, many = torch.device(device), architecture.layers, 1 + drops
    with torch.inference_mode(False), torch.enable_grad():
        tape = _Tape(sources, architecture, case, shares)
        first, embedding, last, norm, head, total = tape.forward(device, check)
        gradient, of_norm, of_head = torch.autograd.grad(total, (last, norm, head))
        gradient = gradient.expand(many, *gradient.shape)  # [1 + drops, shares, tokens, hidden]
        body = torch.zeros(many, tape.tokens, layers, len(LAYER_COMPONENTS), device=device)
        residual = []
        for layer in reversed(range(layers)):
            check()
            residual.append(gradient.mean(1))
            leaf, named = tape.leaves.pop()
            into = gradient.clone()
            for drop in range(drops):
                if layer * drops // layers == drop:
                    into[1 + drop] = 0
            found = torch.autograd.grad(
                tape.outputs.pop(),
                (leaf, *named.values()),
                into if drops else into[0],
                is_grads_batched=drops > 0,
            )
            found = found if drops else tuple(each[None] for each in found)
            for name, each in zip(named, found[1:], strict=True):
                body[:, :, layer, LAYER_COMPONENTS.index(name)] = each[..., 0].mean(1)
            gradient = gradient + found[0]
        of_embedding = torch.stack(
            [torch.autograd.grad(first, embedding, each, retain_graph=True)[0] for each in gradient]
        )
        outer = torch.stack(
            [each[..., 0].mean(-2).expand(many, -1) for each in (of_embedding, of_norm, of_head)], -1
        )
    rows = tape.tokens * layers * len(shares) * (2 + many)
    return Slopes(body, outer, torch.stack(residual[::-1], 1), rows)


def midpoints(steps: int) -> tuple[float, ...]:
    """Return shares for an integrated gradient; of no step, the base alone."""
    return tuple((step + 0.5) / steps for step in range(steps)) or (0.0,)

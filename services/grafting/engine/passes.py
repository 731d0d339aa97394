"""Forward passes whose rows take their weights from several models, for many configurations at once.

All configurations go through the layers together, so that each weight is read once for all of them. One whose state
does not differ yet from the reference's is not among them: it joins in the layer, and with the rows, where its plan
starts.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from services.grafting.engine.architecture import Architecture
from services.grafting.engine.blocks import Block, Group, Reference, Tables
from services.grafting.engine.configurations import Configuration, Plan, plan
from services.grafting.engine.weights import Weights

_HEAD_ROWS = 256
"""Rows that go through the head at once: a row of logits is much longer than one of states."""


class Item(NamedTuple):
    """One configuration of a run: a pass that it shares with, and what it computes itself."""

    reference: Reference
    plan: Plan


def _go_on() -> None:
    """Check nothing."""


class Grafter:
    """Runs configurations of models of one architecture.

    It only reads the weights. Use one from one thread; several may share their sources.

    Parameters
    ----------
    sources
        The models, by the numbers that configurations use.
    architecture
        Of all of them.
    device
        Where the weights are.

    Attributes
    ----------
    row_layers
        Rows that have gone through a layer since the start, those of references included.
    """

    def __init__(
        self, sources: Sequence[Weights], architecture: Architecture, device: torch.device | str = "cpu"
    ) -> None:
        self._sources, self.architecture = list(sources), architecture
        self.device = torch.device(device)
        self.row_layers = 0

    @torch.inference_mode()
    def forward(self, ids: Sequence[int], configuration: Configuration, outputs: int = 0) -> torch.Tensor:
        """Run one configuration by itself, at the cost of one ordinary pass.

        Parameters
        ----------
        ids
            Token ids, at least one.
        configuration
            Of as many positions.
        outputs
            How many last positions are read; 0 for all.

        Returns
        -------
        torch.Tensor
            Logits, [outputs, vocabulary], float32.
        """
        outputs = outputs or len(ids)
        (logits,) = self._run([self._alone(ids, configuration, outputs)], configuration.base, outputs)
        return logits

    def reference(self, ids: Sequence[int], source: int, outputs: int = 1) -> Reference:
        """Run one model over a prompt and keep its states; its last ``outputs`` positions can be read."""
        return self.begin(ids, Configuration(base=source), outputs)

    @torch.inference_mode()
    def begin(self, ids: Sequence[int], configuration: Configuration, outputs: int = 1) -> Reference:
        """Run one configuration by itself and keep its states, so that :meth:`step` can go on."""
        item = self._alone(ids, configuration, outputs)
        (item.reference.logits,) = self._run([item], configuration.base, outputs, keep=item.reference)
        return item.reference

    @torch.inference_mode()
    def step(self, passed: Reference, token: int, configuration: Configuration) -> torch.Tensor:
        """Read one token more after a pass, which then has its keys and values too, and no states.

        Parameters
        ----------
        passed
            From :meth:`begin`, and steps.
        token
            The id that follows.
        configuration
            Whose weights act on it: of a sequence of one token.

        Returns
        -------
        torch.Tensor
            Logits after it, [vocabulary], float32.
        """
        before = passed.tokens
        alone = plan(configuration, configuration.base, 1, self.architecture.layers, 1, share=False)
        passed.ids = torch.cat((passed.ids, torch.tensor([token], device=self.device)))
        made = Reference(passed.ids)
        (logits,) = self._run([Item(passed, alone.after(before))], configuration.base, 1, keep=made)
        for all_, new in ((passed.keys, made.keys), (passed.values, made.values)):
            all_[:] = [torch.cat(each) for each in zip(all_, new, strict=True)]
        passed.states.clear()
        return logits[0]

    @torch.inference_mode()
    def run(
        self,
        items: Sequence[Item],
        source: int,
        outputs: int = 1,
        check: Callable[[], None] = _go_on,
    ) -> list[torch.Tensor]:
        """Run configurations, of one or several prompts.

        Parameters
        ----------
        items
            Plans made against the model ``source``, each with a pass of it.
        source
            The model whose weights act where a plan says nothing.
        outputs
            How many last positions are read; the plans and passes were made for as many.
        check
            Called before each layer; may raise to stop.

        Returns
        -------
        list of torch.Tensor
            For each, logits of its last positions: [outputs, vocabulary], float32.
        """
        return self._run(items, source, outputs, check)

    def _alone(self, ids: Sequence[int], configuration: Configuration, outputs: int) -> Item:
        layers = self.architecture.layers
        planned = plan(configuration, configuration.base, len(ids), layers, outputs, share=False)
        return Item(Reference(torch.tensor(list(ids), device=self.device)), planned)

    def _run(
        self,
        items: Sequence[Item],
        source: int,
        outputs: int,
        check: Callable[[], None] = _go_on,
        keep: Reference | None = None,
    ) -> list[torch.Tensor]:
        groups: list[Group] = []
        tables: Tables = None
        plans = [item.plan for item in items]
        layers = self.architecture.layers
        for layer in range(layers):
            check()
            self._join(groups, items, layer, source)
            if not groups:
                continue
            if tables is None:
                tables = self.architecture.rotary_tables(max(p.tokens for p in plans), groups[0].x)
            most = outputs if layer == layers - 1 else max(p.tokens for p in plans)
            block = Block(self._sources, self.architecture, layer, source)
            self.row_layers += block.run(groups, plans, tables, most, keep)
        if keep is not None:
            keep.states.append(groups[0].x[0])
        return self._read(groups, items, source, outputs)

    def _join(self, groups: list[Group], items: Sequence[Item], layer: int, source: int) -> None:
        """Add the configurations that start in a layer, and the rows that others have in addition from it on."""
        arriving: dict[tuple[int, int], list[tuple[int, torch.Tensor]]] = {}
        for number, (reference, planned) in enumerate(items):
            now = planned.starts[layer]
            before = planned.starts[layer - 1] if layer else planned.tokens
            if now >= before:
                continue
            if layer == 0:
                x = self._embedded(reference, planned, now, source)
            else:
                x = reference.rows(layer, now, before)
                if before < planned.tokens:
                    x = torch.cat((x, _take(groups, number)))
            arriving.setdefault((id(reference), now), []).append((number, x))
        there = {(id(group.reference), group.start): group for group in groups}
        for key, new in arriving.items():
            x = torch.stack([x for _, x in new])
            members = [number for number, _ in new]
            group = there.get(key)
            if group is None:
                groups.append(Group(items[members[0]].reference, key[1], members, x))
            else:
                group.members += members
                group.x = torch.cat((group.x, x))
        groups[:] = [group for group in groups if group.members]

    def _embedded(self, reference: Reference, planned: Plan, first: int, source: int) -> torch.Tensor:
        ids = reference.ids[first:]
        positions = torch.arange(first, planned.tokens, device=self.device)
        x = self._sources[source].embed(ids, positions)
        for other, there in planned.cells[-1].get("embedding", ()):
            rows = torch.from_numpy(there).to(self.device) - first
            x[rows] = self._sources[other].embed(ids[rows], positions[rows])
        return x

    def _read(
        self, groups: Sequence[Group], items: Sequence[Item], source: int, outputs: int
    ) -> list[torch.Tensor]:
        """Apply the last norm and the head to what each configuration computes of its last positions."""
        states = {n: x for group in groups for n, x in zip(group.members, group.x, strict=True)}
        firsts: list[int] = []
        parts: list[torch.Tensor] = []
        others: dict[str, dict[int, list[int]]] = {"final_norm": {}, "head": {}}
        offset = 0
        for number, (reference, planned) in enumerate(items):
            first = max(planned.starts[-1], planned.tokens - outputs)
            firsts.append(first)
            own = states.get(number)
            begins = planned.tokens - (0 if own is None else own.shape[0])
            if first < begins:
                parts.append(reference.rows(self.architecture.layers, first, begins))
            if own is not None:
                parts.append(own)
            for name, rows in others.items():
                for other, there in planned.cells[-1].get(name, ()):
                    rows.setdefault(other, []).extend(offset + int(p) - first for p in there if p >= first)
            offset += planned.tokens - first
        logits = self._logits(torch.cat(parts), source, others) if parts else torch.empty(0)
        found, offset = [], 0
        for first, (reference, planned) in zip(firsts, items, strict=True):
            own = logits[offset : offset + planned.tokens - first]
            offset += planned.tokens - first
            whole = own if own.shape[0] == outputs else torch.cat(
                (reference.logits[: outputs - own.shape[0]], own.to(reference.logits))
            )  # fmt: skip
            found.append(whole)
        return found

    def _logits(self, x: torch.Tensor, source: int, others: dict[str, dict[int, list[int]]]) -> torch.Tensor:
        h = self._sources[source].final_norm(x)
        for other, rows in others["final_norm"].items():
            h[rows] = self._sources[other].final_norm(x[rows])
        made = [self._sources[source].head(part).float() for part in h.split(_HEAD_ROWS)]
        logits = torch.cat(made)
        for other, rows in others["head"].items():
            logits[rows] = self._sources[other].head(h[rows]).float()
        return logits


def _take(groups: Sequence[Group], number: int) -> torch.Tensor:
    """Take a configuration out of its group; returns its states, [rows, hidden]."""
    group = next(group for group in groups if number in group.members)
    at = group.members.index(number)
    x = group.x[at]
    group.members.pop(at)
    group.x = torch.cat((group.x[:at], group.x[at + 1 :]))
    return x

"""A cheap look at a model in training: one teacher-forced pass over a few texts, nothing generated."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from palimpsest.errors import InvalidArgument, Reason
from palimpsest.training.batches import Batch, Example, collate
from palimpsest.training.token_losses import at_positions, counts
from services.unlearning.metrics.membership import MIN_K, auc, lowest
from services.unlearning.stopping.measurements import Measurement


class Probe:
    """Measures a model on fixed texts.

    A measurement has, for each set that is given, ``<set>_nll`` (mean nats a token, over texts) and ``<set>_em`` (exact
    memorisation: the share of tokens that are the likeliest given the true ones before, in points of 100), where a set
    is ``forget``, ``holdout``, ``retain`` or one of the others. With held-out texts it has ``auc``, MUSE's membership
    AUC of the forget set by Min-40 % scores, and ``loss_gap``, the mean loss of the forget set less that of the
    held-out texts. ``utility`` is ``retain_em``.

    Parameters
    ----------
    forget
        Texts to be removed.
    holdout
        Texts never trained on, as long as those.
    retain
        Texts that were trained on, are to be kept, and take no part in unlearning.
    pad
        Token id that fills rows up.
    others
        Further sets by name. Texts of which only some tokens count, such as answers, say of these what the sets above
        say of whole texts.
    batch
        Texts of one forward pass.
    extra
        Further metrics, such as ``repetition`` of generated text or a utility of another kind; they win over those
        above where they have their names. A model that is broken already is not asked.

    Raises
    ------
    InvalidArgument
        PROBE_INVALID: no forget texts, a text without a counted token, or another set of a name that is taken.
    """

    def __init__(
        self,
        forget: Sequence[Example],
        holdout: Sequence[Example] = (),
        retain: Sequence[Example] = (),
        *,
        pad: int,
        others: Mapping[str, Sequence[Example]] | None = None,
        batch: int = 8,
        extra: Callable[[nn.Module], Mapping[str, float]] | None = None,
    ) -> None:
        given = {"forget": forget, "holdout": holdout, "retain": retain}
        if taken := given.keys() & (others or {}).keys():
            message = f"{', '.join(sorted(taken))} are sets of the probe's own. Give the others other names."
            raise InvalidArgument(Reason.PROBE_INVALID, message)
        given |= others or {}
        self._sets = {name: list(examples) for name, examples in given.items() if examples}
        self._pad, self._batch, self._extra = pad, batch, extra
        texts = [example for examples in self._sets.values() for example in examples]
        if not forget or not all(any(example.counted) for example in texts):
            message = "A probe needs texts of the forget set, and in each text a token that counts."
            raise InvalidArgument(Reason.PROBE_INVALID, message)

    def measure(self, module: nn.Module, step: float) -> Measurement:
        """Measure a module as it is.

        Parameters
        ----------
        module
            A causal LM of transformers.
        step
            Of the run.
        """
        values: dict[str, float] = {}
        losses: dict[str, tuple[float, ...]] = {}
        scores: dict[str, NDArray[np.float64]] = {}
        for name, examples in self._sets.items():
            nll, hits, least_likely = self._read(module, examples)
            values[f"{name}_nll"], values[f"{name}_em"] = float(nll.mean()), 100.0 * float(hits.mean())
            losses[name], scores[name] = tuple(nll.tolist()), least_likely
        if "holdout" in scores:
            values["auc"] = membership_auc(scores["forget"], scores["holdout"])
            values["loss_gap"] = values["forget_nll"] - values["holdout_nll"]
        if "retain_em" in values:
            values["utility"] = values["retain_em"]
        if self._extra is not None and all(map(math.isfinite, values.values())):
            values |= self._extra(module)
        return Measurement(step, values, losses)

    @torch.no_grad()
    def _read(
        self, module: nn.Module, examples: Sequence[Example]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Mean loss, share of tokens that are the likeliest, and Min-K% loss of each text: float64 [texts] each."""
        device = next(module.parameters()).device
        found = []
        for first in range(0, len(examples), self._batch):
            indices = range(first, min(first + self._batch, len(examples)))
            found += _of_texts(module, collate(examples, list(indices), self._pad, device))
        nll, hits, least_likely = np.array(found).T
        return nll, hits, least_likely


def membership_auc(forget: NDArray[np.float64], holdout: NDArray[np.float64]) -> float:
    """MUSE's AUC: P(a held-out text is likelier than one of the forget set), half of it where they tie.

    Parameters
    ----------
    forget, holdout
        Losses of texts, [texts] each; higher is less likely.

    Returns
    -------
    float
        0 where every text of the forget set is likelier than any held-out one; NaN if a loss is not finite.
    """
    if not (np.isfinite(forget).all() and np.isfinite(holdout).all()):
        return float("nan")
    return auc((-forget).tolist(), (-holdout).tolist())


def _of_texts(module: nn.Module, batch: Batch) -> list[tuple[float, float, float]]:
    likeliest = torch.zeros_like(batch.ids[:, 1:])

    def nll(logits: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        likeliest[rows, columns] = logits.argmax(-1)
        return nn.functional.cross_entropy(logits.float(), batch.ids[rows, columns + 1], reduction="none")

    losses = at_positions(module, batch, nll)  # [texts, tokens - 1]
    hits = (likeliest == batch.ids[:, 1:]) & batch.counted[:, 1:]
    found = []
    for row, count in enumerate(counts(batch).tolist()):
        text = losses[row][batch.counted[row, 1:]].double()  # [count]
        least_likely = -lowest(-text.cpu().numpy(), MIN_K)
        found.append((float(text.mean()), float(hits[row].sum()) / count, least_likely))
    return found

"""Greedy generation after a grafted prompt, token by token through one cache."""

from collections.abc import Iterator, Set
from enum import Enum
from typing import NamedTuple

import torch

from services.grafting.engine.configurations import Configuration
from services.grafting.engine.passes import Grafter


class Decoding(Enum):
    """Whose weights act on generated tokens."""

    LAST = "as on the last token of the prompt"
    BASE = "the base's"
    DONOR = "the donor's, embedding and head included"

    def configuration(self, prompt: Configuration, tokens: int) -> Configuration:
        """Return what acts on one generated token, given what acts on a prompt of ``tokens`` tokens."""
        if self is Decoding.LAST:
            return prompt.at(tokens - 1)
        return Configuration(base=1 if self is Decoding.DONOR else 0)


class Generated(NamedTuple):
    """One token, its log-probability in nats, and whether it ends the text or is the last that was asked for."""

    token: int
    logprob: float
    ends: bool
    last: bool


def generate(
    grafter: Grafter,
    ids: tuple[int, ...],
    configuration: Configuration,
    decoding: Decoding,
    most: int,
    ends: Set[int],
) -> Iterator[Generated]:
    """Yield tokens, each the most probable one after those before it.

    Parameters
    ----------
    grafter
        With the base as source 0 and the donor as source 1.
    ids
        Of the prompt.
    configuration
        Of the prompt.
    decoding
        Whose weights act on generated tokens.
    most
        Tokens at most, at least one.
    ends
        Tokens that end a text.
    """
    after = decoding.configuration(configuration, len(ids))
    passed = grafter.begin(ids, configuration)
    logits = passed.logits[-1]
    for number in range(1, most + 1):
        logprobs = torch.log_softmax(logits.double(), -1)
        token = int(logits.argmax())
        ended = token in ends
        yield Generated(token, float(logprobs[token]), ended, number == most)
        if ended or number == most:
            return
        logits = grafter.step(passed, token, after)

"""The losses again, as loops over tokens in Python's own floats: sequences one by one, without padding."""

import math

import torch


def logits_of(module, example):
    """Rows of logits, one a token, as lists of floats."""
    with torch.no_grad():
        return module(input_ids=torch.tensor([example.ids])).logits[0].tolist()


def log_softmax(row):
    most = max(row)
    total = math.log(sum(math.exp(value - most) for value in row)) + most
    return [value - total for value in row]


def predictions(module, example):
    """For each counted token: log-probabilities of every word, and the token."""
    rows = logits_of(module, example)
    return [
        (log_softmax(rows[at - 1]), example.ids[at])
        for at in range(1, len(example.ids))
        if example.counted[at]
    ]


def token_nlls(module, example):
    return [-row[true] for row, true in predictions(module, example)]


def average(values):
    values = list(values)
    return math.fsum(values) / len(values)


def cross_entropy(module, examples):
    return average(nll for example in examples for nll in token_nlls(module, example))


def kl(module, before, examples):
    terms = []
    for example in examples:
        for (ours, _), (theirs, _) in zip(
            predictions(module, example), predictions(before, example), strict=True
        ):
            terms.append(math.fsum(math.exp(q) * (q - p) for p, q in zip(ours, theirs, strict=True)))
    return average(terms)


def log_sigmoid(value):
    return -math.log1p(math.exp(-value)) if value > 0 else value - math.log1p(math.exp(value))


def ga(now, before, forget, others, p):
    return -cross_entropy(now, forget)


def wga(now, before, forget, others, p):
    return -average(math.exp(-n) ** p.beta * n for example in forget for n in token_nlls(now, example))


def bad_teaching(now, before, forget, others, p):
    return kl(now, before, forget)


def satimp(now, before, forget, others, p):
    return -average(
        math.exp(-n) ** p.beta1 * (1 - math.exp(-n)) ** p.beta2 * n
        for example in forget
        for n in token_nlls(now, example)
    )


def npo(now, before, forget, others, p):
    terms = []
    for example in forget:
        ratio = sum(token_nlls(now, example)) - sum(token_nlls(before, example))
        tokens = sum(example.counted)
        ratio /= {"none": 1, "token": tokens, "sqrt": math.sqrt(tokens)}[p.length_norm]
        terms.append(log_sigmoid(p.beta * ratio))
    return -2 / p.beta * average(terms)


def simnpo(now, before, forget, others, p):
    return (
        -2 / p.beta * average(log_sigmoid(p.beta * (average(token_nlls(now, e)) - p.delta)) for e in forget)
    )


def dpo(now, before, forget, others, p):
    terms = []
    for example, other in zip(forget, others, strict=True):
        wanted = sum(token_nlls(before, other)) - sum(token_nlls(now, other))
        unwanted = sum(token_nlls(before, example)) - sum(token_nlls(now, example))
        terms.append(log_sigmoid(p.beta * (wanted - unwanted)))
    return -2 / p.beta * average(terms)


def idk(now, before, forget, others, p):
    return cross_entropy(now, others)


def flat(now, before, forget, others, p):
    terms = []
    for example, other in zip(forget, others, strict=True):
        known = average(math.exp(-nll) for nll in token_nlls(now, example))
        wanted = average(math.exp(-nll) for nll in token_nlls(now, other))
        terms.append(
            {
                "tv": -math.tanh(wanted) / 2 + math.tanh(known) / 2,
                "kl": -wanted + math.exp(known - 1),
                "pearson": -wanted + known * known / 4 + known,
            }[p.divergence]
        )
    return average(terms)


def undial(now, before, forget, others, p):
    terms = []
    for example in forget:
        rows = logits_of(before, example)
        counted = [at for at in range(1, len(example.ids)) if example.counted[at]]
        for at, (ours, true) in zip(counted, predictions(now, example), strict=True):
            adjusted = list(rows[at - 1])
            adjusted[true] -= p.beta
            target = log_softmax(adjusted)
            terms.append(-math.fsum(math.exp(q) * o for q, o in zip(target, ours, strict=True)))
    return average(terms)


def legacy_npo(now, before, forget, others, p):
    terms = []
    for example in forget:
        for ours, theirs in zip(logits_of(now, example), logits_of(before, example), strict=True):
            terms += [log_sigmoid(p.beta * (r - o)) for o, r in zip(ours, theirs, strict=True)]
    return -2 / p.beta * average(terms)


def legacy_kl(now, before, examples):
    total = 0.0
    for example in examples:
        for ours, theirs in zip(logits_of(now, example), logits_of(before, example), strict=True):
            total += math.fsum(math.exp(r) * (r - o) for o, r in zip(ours, theirs, strict=True))
    return total / len(examples)

import numpy as np
import pytest
import torch

from palimpsest.errors import FailedPrecondition, InvalidArgument
from services.unlearning.metrics import passes
from services.unlearning.metrics.items import Continuation
from services.unlearning.metrics.token_scores import read, token_scores


def sequences(count: int, seed: int = 0) -> list[Continuation]:
    rng = np.random.default_rng(seed)
    made = []
    for number in range(count):
        ids = tuple(rng.integers(0, 300, rng.integers(2, 40)).tolist())
        made.append(Continuation(f"s{number}", ids, int(rng.integers(1, len(ids)))))
    return made


def test_scores_are_numpys_of_transformers_logits_whatever_the_batch(module):
    given = sequences(40)
    assert len({len(each.ids) for each in given}) > 10
    for sequence, scores in zip(given, token_scores(module, given), strict=True):
        with torch.no_grad():
            logits = module(torch.tensor([sequence.ids])).logits[0].double().numpy()
        logp = logits - np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1, keepdims=True))
        logp -= logits.max(-1, keepdims=True)
        at = np.arange(sequence.start, len(sequence.ids))
        truth = np.array(sequence.ids)[at]
        rows = logp[at - 1]
        mean = (np.exp(rows) * rows).sum(-1)
        variance = (np.exp(rows) * rows**2).sum(-1) - mean**2
        np.testing.assert_allclose(scores.logprobs, rows[np.arange(len(at)), truth], atol=2e-5)
        np.testing.assert_allclose(scores.mean, mean, atol=2e-5)
        np.testing.assert_allclose(scores.deviation, np.sqrt(variance), atol=2e-4)
        np.testing.assert_array_equal(scores.correct, rows.argmax(-1) == truth)
        assert scores.nll == pytest.approx(-scores.logprobs.mean())
        assert scores.probability == pytest.approx(np.exp(scores.logprobs).prod() ** (1 / len(at)))


def test_the_mean_loss_is_transformers_own(module):
    (sequence,) = [each for each in sequences(30, 3) if len(each.ids) > 20][:1]
    ids = torch.tensor([sequence.ids])
    whole = Continuation("whole", sequence.ids, 1)
    with torch.no_grad():
        expected = module(ids, labels=ids).loss.item()
    assert token_scores(module, [whole])[0].nll == pytest.approx(expected, rel=1e-5)


def test_a_long_answer_is_read_in_parts_as_in_one():
    rng = np.random.default_rng(2)
    ids = tuple(rng.integers(0, 11, 700).tolist())
    logits = torch.from_numpy(rng.normal(size=(1, 700, 11))).float()
    (scores,) = read(logits, [Continuation("long", ids, 1)])
    expected = logits[0, :-1].log_softmax(-1).gather(-1, torch.tensor(ids[1:])[:, None])[:, 0]
    assert len(scores.logprobs) == 699
    np.testing.assert_allclose(scores.logprobs, expected.numpy(), atol=1e-6)


def test_a_token_that_is_ruled_out_spoils_nothing():
    logits = torch.tensor([[[0.0, 0.0, -torch.inf], [0.0, 0.0, 0.0]]])
    (scores,) = read(logits, [Continuation("s", (0, 1), 1)])
    assert scores.logprobs == pytest.approx([np.log(0.5)])
    assert (scores.mean[0], scores.deviation[0]) == (pytest.approx(np.log(0.5)), pytest.approx(0, abs=1e-6))


def test_a_destroyed_model_is_told_from_one_that_has_forgotten():
    with pytest.raises(FailedPrecondition, match="METRIC_NOT_FINITE"):
        read(torch.full((1, 2, 4), torch.nan), [Continuation("s", (0, 1), 1)])


def test_the_module_is_left_as_it_was(module):
    module.train()
    try:
        token_scores(module, sequences(2))
        assert module.training
        assert torch.is_grad_enabled()
    finally:
        module.eval()


def test_batches_keep_to_the_limit_of_logits(module, monkeypatch):
    monkeypatch.setattr(passes, "LOGITS", 60 * module.config.vocab_size)
    given = [each.ids for each in sequences(40)]
    batches = list(passes.padded(module, given))
    assert len(batches) > 5
    assert all(rows.ids.numel() <= 60 or len(rows.numbers) == 1 for rows in batches)
    assert sorted(number for rows in batches for number in rows.numbers) == list(range(40))
    for rows in batches:
        for number, ids, attention in zip(rows.numbers, rows.ids, rows.attention, strict=True):
            assert ids[attention.bool()].tolist() == list(given[number])


def test_what_does_not_fit_the_context_is_refused(module):
    with pytest.raises(InvalidArgument, match="PROMPT_TOO_LONG"):
        token_scores(module, [Continuation("s", (1,) * 2049, 1)])

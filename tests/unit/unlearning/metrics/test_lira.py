import numpy as np
import pytest
from scipy import stats

from palimpsest.errors import InvalidArgument
from services.unlearning.metrics.lira import confidence, lira_report, lira_scores, tpr_at


def test_confidence_is_the_logit_of_the_probability_and_finite_at_one():
    p = np.array([0.001, 0.3, 0.5, 0.999])
    np.testing.assert_allclose(confidence(np.log(p)), np.log(p / (1 - p)))
    assert np.isfinite(confidence(np.array([0.0, -800.0]))).all()


@pytest.mark.parametrize("variance", ["text", "pooled"])
def test_scores_are_a_plain_loop_over_texts(variance):
    rng = np.random.default_rng(0)
    shadows = rng.normal(size=(9, 5))
    inside = np.array([[(row + text) % 2 == 0 for text in range(5)] for row in range(9)])
    audited = rng.normal(size=5)
    spread = {}
    for side in (True, False):
        each = [np.std(shadows[inside[:, text] == side, text], ddof=1) for text in range(5)]
        spread[side] = each if variance == "text" else [np.sqrt(np.mean(np.square(each)))] * 5
    expected = []
    for text in range(5):
        density = [
            stats.norm(shadows[inside[:, text] == side, text].mean(), spread[side][text]).logpdf(
                audited[text]
            )
            for side in (True, False)
        ]
        expected.append(density[0] - density[1])
    np.testing.assert_allclose(lira_scores(shadows, inside, audited, variance), expected)


def shadows_of(
    gap: float, texts: int = 200, count: int = 16
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Confidences that are higher by a gap where the text was seen, on texts of very different difficulty."""
    rng = np.random.default_rng(7)
    difficulty = rng.normal(0, 5, texts)
    inside = np.array([rng.permutation(count) < count // 2 for _ in range(texts)]).T
    shadows = difficulty + gap * inside + rng.normal(size=(count, texts))
    member = rng.permutation(texts) < texts // 2
    return shadows, inside, difficulty + gap * member + rng.normal(size=texts), member


def test_lira_finds_members_that_a_global_threshold_does_not():
    shadows, inside, audited, member = shadows_of(gap=3)
    names = [f"t{n}" for n in range(len(member))]
    found = {
        score.metric: score for score in lira_report(lira_scores(shadows, inside, audited), member, names)
    }
    plain = lira_report(audited, member, names)[0]
    auc = found["lira_auc"]
    assert auc.value > 0.95
    assert plain.value < 0.75
    assert auc.interval[0] < auc.value < auc.interval[1]
    assert found["lira_tpr_at_0.01"].value > 0.4
    assert found["lira_tpr_at_0.001"].value <= found["lira_tpr_at_0.01"].value
    assert (found["lira_tpr_at_0.01"].convention, found["lira_tpr_at_0.01"].target) == ("100 others", 0.01)


def test_nothing_is_found_where_nothing_is():
    shadows, inside, audited, member = shadows_of(gap=0)
    auc, *_ = lira_report(lira_scores(shadows, inside, audited), member, [str(n) for n in range(200)])
    assert auc.interval[0] < 0.5 < auc.interval[1]


@pytest.mark.parametrize(("rate", "share"), [(0.0, 0.25), (0.1, 0.25), (0.2, 0.5), (0.4, 0.75), (1.0, 1.0)])
def test_tpr_by_hand(rate, share):
    # above both 9: one of four; the others fall one by one
    assert tpr_at([10, 8, 5, 0], [9, 7, 3, 2, 1], rate) == share


def test_ties_with_a_non_member_do_not_count_as_above_it():
    assert tpr_at([5, 5], [5, 1], 0.0) == 0


@pytest.mark.parametrize(
    ("shadows", "audited", "text"), [((4, 3), 2, "they have to be"), ((3, 2), 2, "Train more shadows")]
)
def test_shapes_and_too_few_shadows_are_refused(shadows, audited, text):
    inside = np.zeros(shadows, bool)
    inside[0] = True
    with pytest.raises(InvalidArgument, match=text):
        lira_scores(np.zeros(shadows), inside, np.zeros(audited))

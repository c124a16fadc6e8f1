"""A number a text: loss, metrics, statistics, linear model, findings."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as reference
from sklearn.linear_model import Ridge
from transformers.loss.loss_utils import ForSequenceClassificationLoss

from bertsmith.errors import DataError
from bertsmith.examples import LabelSet
from bertsmith.findings import Finding
from bertsmith.tasks import task_named
from tests.tasks.made import examples_of, rows_of
from tests.tasks.test_single_label import in_parts

TASK = task_named("regression")


def test_unequal_micro_batches_give_transformers_loss_of_the_whole_batch():
    """Summed losses over the weight are the mean squared error that transformers computes."""
    generator = np.random.default_rng(0)
    logits, targets = torch.tensor(generator.normal(size=(17, 1))).float(), generator.normal(size=17)
    config = type("Config", (), {"problem_type": TASK.problem_type, "num_labels": 1})()
    expected = ForSequenceClassificationLoss(torch.tensor(targets).float(), logits, config)
    assert in_parts(TASK, logits, targets, np.ones(17), [1, 4, 13]) == pytest.approx(float(expected), abs=1e-6)


@given(st.integers(0, 2**32 - 1), st.integers(3, 60), st.booleans(), st.sampled_from([0.0, 5.0, -1e6]))
@settings(deadline=None, max_examples=80)
def test_metrics_are_those_of_scipy_and_scikit_learn(seed, count, coarse, shift):
    """Errors, both correlations and R² equal the reference, ties and far-off numbers too."""
    generator = np.random.default_rng(seed)
    truth = generator.normal(size=count).round(0 if coarse else 9) + shift
    given_ = (truth + generator.normal(size=count)).round(0 if coarse else 9)
    found = TASK.measure(rows_of(TASK, examples_of(value=truth)), given_[:, None])
    constant = len(set(truth)) == 1 or len(set(given_)) == 1
    expected = {
        "mse": reference.mean_squared_error(truth, given_),
        "mae": reference.mean_absolute_error(truth, given_),
        "pearson": 0.0 if constant else stats.pearsonr(truth, given_).statistic,
        "spearman": 0.0 if constant else stats.spearmanr(truth, given_).statistic,
        "r2": reference.r2_score(truth, given_),
    }
    assert found == pytest.approx(expected, abs=1e-6)
    assert tuple(found) == TASK.metrics


def test_a_resample_is_counted_from_its_rows():
    """Errors, Pearson and R² of a resample are those of its rows; Spearman takes the ranks among all rows."""
    generator = np.random.default_rng(1)
    truth, given_ = generator.normal(size=50), generator.normal(size=50)
    statistics = TASK.statistics(rows_of(TASK, examples_of(value=truth)), given_[:, None], {})
    drawn = generator.integers(0, 50, (3, 50))
    found = TASK.counted(statistics.values[statistics.cells[drawn]].sum(axis=1))
    for row, picked in enumerate(drawn):
        assert found["mse"][row] == pytest.approx(reference.mean_squared_error(truth[picked], given_[picked]))
        assert found["pearson"][row] == pytest.approx(stats.pearsonr(truth[picked], given_[picked]).statistic)
        assert found["r2"][row] == pytest.approx(reference.r2_score(truth[picked], given_[picked]))
        ranks = [stats.rankdata(values)[picked] for values in (truth, given_)]
        assert found["spearman"][row] == pytest.approx(stats.pearsonr(*ranks).statistic)
    assert statistics.right is None


def test_a_constant_answer_has_no_correlation():
    """The mean of all rows, answered everywhere, has coefficients of 0 and an R² of 0."""
    truth = np.array([1.0, 2.0, 4.0])
    found = TASK.measure(rows_of(TASK, examples_of(value=truth)), np.full((3, 1), truth.mean()))
    assert (found["pearson"], found["spearman"]) == (0.0, 0.0)
    assert found["r2"] == pytest.approx(0.0, abs=1e-12)


def test_the_linear_model_is_ridge():
    """Its answers and its layer are scikit-learn's, and the constant model answers with the weighted mean."""
    generator = np.random.default_rng(2)
    inputs, weights = generator.normal(size=(40, 3)), generator.uniform(0.5, 2, 40)
    targets = inputs @ [3.0, -1.0, 0.0] + 50
    model = TASK.fit_linear(inputs, targets, weights, strength=0.5, seed=0)
    expected = Ridge(alpha=2.0).fit(inputs, targets, weights).predict(inputs)
    weight, bias = TASK.linear_weights(model, outputs=1)
    np.testing.assert_allclose(TASK.linear_probabilities(model, inputs, outputs=1)[:, 0], expected)
    np.testing.assert_allclose((inputs @ weight.T + bias)[:, 0], expected)
    constant = TASK.linear_probabilities(TASK.fit_constant(targets, weights), inputs[:2], outputs=1)
    np.testing.assert_allclose(constant, np.full((2, 1), np.average(targets, weights=weights)))


def test_every_side_should_have_low_and_high_numbers():
    """Strata are up to ten quantiles; equal numbers share one, missing ones have none."""
    values = np.arange(100.0)
    strata = TASK.strata(examples_of(value=values))
    assert np.bincount(strata).tolist() == [10] * 10
    assert (np.diff(strata) >= 0).all()
    assert len(set(TASK.strata(examples_of(value=[1.0] * 90 + [2.0] * 10)).tolist())) == 2
    assert TASK.strata(examples_of(value=[None, 1.0, float("nan"), 3.0]))[[0, 2]].tolist() == [-1, -1]


def test_what_is_told_and_answered():
    """The range is told in words; an answer is a number under the key of its column in a file."""
    examples = examples_of(value=[1.0, 5.0, 4.5, None])
    labels = TASK.labels(examples)
    assert labels == LabelSet(("value",))
    assert TASK.told(examples, labels) == "values 1.0 to 5.0, mean 3.5"
    assert TASK.counts(examples, labels) == {"value": 3}
    (answer,) = TASK.decode(rows_of(TASK, examples.take(np.array([0]))), np.array([[3.14159]]), {})
    assert (answer.line, answer.as_json(scores=True)) == ("3.142", {"value": 3.14159})
    assert TASK.answer_schema().names == ["value"]
    assert TASK.classes(examples_of(value=[2.0, 1.0, 2.0, None])).tolist() == [1, 0, 1, -1]


def test_detail_tells_errors_and_ranges():
    """Quantiles of answer minus truth, and where both begin and end."""
    rows = rows_of(TASK, examples_of(value=[1.0, 2.0, 3.0]))
    detail = TASK.detail(rows, np.array([[1.5], [2.5], [3.5]]), {})
    assert detail == {
        "errors": dict.fromkeys(("0.025", "0.25", "0.5", "0.75", "0.975"), 0.5),
        "range": {"gold": [1.0, 3.0], "given": [1.5, 3.5]},
    }


def test_rows_without_a_number_are_refused():
    """A null and a NaN are both no number."""
    with pytest.raises(DataError) as caught:
        TASK.require(examples_of(value=[1.0, None, float("nan")]), LabelSet(("value",)))
    assert str(caught.value) == (
        "reviews.csv: 2 rows have no number: reviews.csv:2, reviews.csv:3. Every row needs one to be scored.\n"
        "  Fill them in, or take the rows out."
    )


def test_findings_about_numbers():
    """Missing, constant, few whole and far-off numbers are each told; clean ones are not."""
    assert TASK.check(examples_of(value=np.linspace(0, 1, 50))) == []
    (missing,) = TASK.check(examples_of(value=[0.5, None, 1.5, float("inf")]))
    assert missing == Finding(
        "missing-label",
        "error",
        "No finite number in 2 of 4 rows (50.0%).",
        "Fill the numbers in or remove these rows; nothing can be learned from them.",
        count=2,
        rows=("reviews.csv:2", "reviews.csv:4"),
    )
    (constant,) = TASK.check(examples_of(value=[3.0] * 5))
    assert (constant.severity, constant.message) == ("error", "All 5 rows have the number 3.")
    (none,) = TASK.check(examples_of(value=[None, float("nan")]))
    assert none.message == "No number in any of 2 rows."
    (stars,) = TASK.check(examples_of(value=[1.0, 2.0, 5.0] * 10))
    assert stars == Finding(
        "few-values",
        "note",
        "Only 3 different numbers, all whole: 1, 2, 5.",
        "If they are grades or stars, --task ordered tells how sure each answer is.",
        count=3,
    )
    (far,) = TASK.check(examples_of(value=[*np.linspace(0, 1, 50), 900.0]))
    assert (far.rows, far.message) == (
        ("reviews.csv:51",),
        "Numbers far from the rest, such as 900 where the middle half lies between 0.255102 and 0.765306: "
        "1 of 51 rows (2.0%).",
    )

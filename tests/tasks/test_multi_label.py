"""Any number of labels a text: loss, metrics, thresholds, linear models, findings."""

from __future__ import annotations

import warnings

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from scipy.special import expit, logit
from sklearn import metrics as reference
from sklearn.linear_model import LogisticRegression
from transformers.loss.loss_utils import ForSequenceClassificationLoss

from bertsmith.errors import DataError
from bertsmith.examples import LabelSet, LabelsPrediction
from bertsmith.findings import Finding
from bertsmith.tasks import task_named
from bertsmith.tasks.label_sets import numbered_rows
from bertsmith.tasks.set_metrics import average_precision, map_estimate, mean_average_precision
from bertsmith.tasks.thresholds import tuned_thresholds
from tests.tasks.made import examples_of, rows_of
from tests.tasks.test_single_label import in_parts

TASK = task_named("multi-label")
LISTS = pa.list_(pa.string())


def sets_of(truth) -> pa.Array:
    """Write a matrix as lists of the labels a, b, c and so on."""
    return pa.array([["abcdefgh"[place] for place in np.flatnonzero(row)] for row in truth], LISTS)


def made(truth):
    truth = np.asarray(truth, dtype=bool)
    return rows_of(TASK, examples_of(labels=sets_of(truth)), LabelSet(tuple("abcdefgh"[: truth.shape[1]])))


def by_sklearn(truth, guesses):
    return {
        "micro_f1": reference.f1_score(truth, guesses, average="micro", zero_division=0),
        "macro_f1": reference.f1_score(truth, guesses, average="macro", zero_division=0),
        "samples_f1": reference.f1_score(truth, guesses, average="samples", zero_division=0),
        "subset_accuracy": reference.accuracy_score(truth, guesses),
    }


def test_unequal_micro_batches_give_transformers_loss_of_the_whole_batch():
    """Summed losses over weight times K are the mean over rows and labels, as transformers has it."""
    generator = np.random.default_rng(0)
    logits = torch.tensor(generator.normal(size=(17, 5))).float()
    targets = (generator.random((17, 5)) < 0.3).astype(np.float32)
    config = type("Config", (), {"problem_type": TASK.problem_type, "num_labels": 5})()
    expected = ForSequenceClassificationLoss(torch.tensor(targets), logits, config)
    assert in_parts(TASK, logits, targets, np.ones(17), [1, 4, 13]) == pytest.approx(float(expected), abs=1e-6)


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(2, 6), st.booleans())
@settings(deadline=None, max_examples=60)
def test_metrics_are_those_of_scikit_learn(seed, count, labels, coarse):
    """F1s, subset accuracy, mean average precision and log loss equal scikit-learn's, ties and absent labels too."""
    generator = np.random.default_rng(seed)
    truth = generator.random((count, labels)) < generator.random(labels)
    probabilities = generator.random((count, labels))
    probabilities = probabilities.round(1) if coarse else probabilities
    rows = made(truth)
    expected = by_sklearn(truth, probabilities >= 0.5)
    columns = [place for place in range(labels) if truth[:, place].any()]
    precisions = [reference.average_precision_score(truth[:, each], probabilities[:, each]) for each in columns]
    expected["mean_average_precision"] = np.mean(precisions) if columns else 0.0
    losses = [
        reference.log_loss(truth[:, each], probabilities[:, each], labels=[False, True]) for each in range(labels)
    ]
    expected["log_loss"] = np.mean(losses)
    found = TASK.measure(rows, probabilities)
    assert found == pytest.approx(expected, abs=1e-9)
    assert tuple(found) == TASK.metrics


@given(st.integers(0, 2**32 - 1), st.integers(1, 60))
@settings(deadline=None, max_examples=40)
def test_statistics_count_at_the_tuned_thresholds(seed, count):
    """Cells hold what scikit-learn needs, at each label's own threshold, for any resample."""
    generator = np.random.default_rng(seed)
    truth, probabilities = generator.random((count, 3)) < 0.4, generator.random((count, 3))
    rows = made(truth)
    decision = {"thresholds": {"a": 0.2, "b": 0.9, "c": 0.5}}
    guesses = probabilities >= [0.2, 0.9, 0.5]
    found = TASK.statistics(rows, probabilities, decision)
    assert found.right.tolist() == (truth == guesses).all(axis=1).tolist()
    drawn = generator.integers(0, count, count)
    expected = by_sklearn(truth[drawn], guesses[drawn])
    counted = TASK.counted(found.values[found.cells[drawn]].sum(axis=0))
    counted |= {"samples_f1": found.means["samples_f1"][drawn].mean()}
    assert {name: float(value) for name, value in counted.items()} == pytest.approx(expected, abs=1e-12)


def test_average_precision_of_weighted_rows_is_that_of_repeated_rows():
    """Whole weights count as copies, for many resamples at once."""
    generator = np.random.default_rng(1)
    truth, scores = generator.random(40) < 0.3, generator.random(40).round(1)
    weights = generator.integers(0, 4, (5, 40))
    expected = [reference.average_precision_score(np.repeat(truth, each), np.repeat(scores, each)) for each in weights]
    np.testing.assert_allclose(average_precision(truth, scores, weights), expected)


@pytest.mark.parametrize("rows", [300, 12_000])
def test_the_interval_of_mean_average_precision_holds_it(rows):
    """The interval is about as wide as the spread over other draws of the same kind of rows."""
    generator = np.random.default_rng(2)

    def drawn():
        truth = generator.random((rows, 2)) < 0.3
        return truth, expit(generator.normal(size=(rows, 2)) + truth)

    found = map_estimate(*drawn())
    spread = np.std([mean_average_precision(*drawn()) for _ in range(30)])
    assert found["low"] < found["value"] < found["high"]
    assert 2 * 1.96 * spread * 0.6 < found["high"] - found["low"] < 2 * 1.96 * spread * 1.6


def test_thresholds_tell_separate_labels_apart():
    """A label whose rows are well apart gets a threshold between them, wherever that is."""
    generator = np.random.default_rng(3)
    truth = generator.random((400, 3)) < 0.3
    centres = np.array([-6.0, 0.0, 5.0])
    logits = centres + np.where(truth, 3.0, -3.0) + generator.normal(scale=0.3, size=truth.shape)
    found = logit(tuned_thresholds(truth, expit(logits)))
    assert np.abs(found - centres).max() < 2.2
    assert (expit(logits) >= expit(found)).tolist() == truth.tolist()


def test_tuned_thresholds_beat_a_half_where_labels_are_rare():
    """On other rows of the same kind macro-F1 is higher than at 0.5, and not lower than at each label's own best."""
    generator = np.random.default_rng(4)
    share = np.array([0.3, 0.1, 0.03, 0.01, 0.004, 0.1, 0.02, 0.005])

    def drawn(rows):
        truth = generator.random((rows, 8)) < share
        return truth, expit(logit(share) + 1.5 * generator.normal(size=truth.shape) + 3 * truth - 1)

    def macro(thresholds, truth, probabilities):
        return reference.f1_score(truth, probabilities >= thresholds, average="macro", zero_division=0)

    def own(truth, probabilities):
        best = []
        for right, scores in zip(truth.T, probabilities.T, strict=True):
            precision, recall, thresholds = reference.precision_recall_curve(right, scores)
            f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
            best.append(thresholds[f1[:-1].argmax()] if right.any() else 0.5)
        return np.array(best)

    test, scores = drawn(20_000), []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # draws in which a rare label has no row
        for _ in range(10):
            held = drawn(300)
            scores.append([macro(each, *test) for each in (np.full(8, 0.5), own(*held), tuned_thresholds(*held))])
    half, alone, ours = np.mean(scores, axis=0)
    assert ours > half + 0.05
    assert ours > alone


def test_a_label_without_calibration_rows_has_the_shared_threshold():
    """Nothing is known of it, so it gets what suits the others; without any positive row all get 0.5."""
    truth = np.zeros((50, 2), dtype=bool)
    truth[:25, 0] = True
    probabilities = np.where(truth, 0.3, 0.01)
    first, second = tuned_thresholds(truth, probabilities)
    assert 0.01 < first < 0.3
    assert 0.01 < second <= 0.3
    assert tuned_thresholds(np.zeros((3, 2), dtype=bool), np.full((3, 2), 0.1)).tolist() == [0.5, 0.5]


def test_the_decision_decides():
    """Labels at or above their thresholds are given, the most probable first; none of them is UNKNOWN."""
    rows = made([[1, 0, 1], [0, 0, 0]])
    probabilities = np.array([[0.4, 0.3, 0.9], [0.1, 0.4, 0.2]])
    decision = {"thresholds": {"a": 0.4, "b": 0.5, "c": 0.5}}
    first, second = TASK.decode(rows, probabilities, decision)
    scores = dict(zip("abc", [0.4, 0.3, 0.9], strict=True))
    assert first == LabelsPrediction(("c", "a"), False, scores)
    assert first.line == "c 0.900, a 0.400"
    assert first.as_json() == {"labels": ["c", "a"], "unknown": False}
    assert first.as_json(scores=True)["scores"] == scores
    assert (second.as_json(), second.line) == ({"labels": [], "unknown": True}, "UNKNOWN")
    assert tuple(first.as_json()) == tuple(TASK.answer_schema().names)
    assert TASK.decode(rows, probabilities, {})[0].labels == ("c",)


def test_what_is_decided_is_kept_as_json():
    """A threshold a label; nothing without rows."""
    rows = made([[1, 0], [0, 1], [1, 1]])
    found = TASK.decide(rows, np.array([[0.9, 0.2], [0.1, 0.7], [0.8, 0.9]]))
    assert list(found) == ["thresholds"]
    assert list(found["thresholds"]) == ["a", "b"]
    assert all(type(value) is float and 0 < value < 1 for value in found["thresholds"].values())
    assert TASK.decide(rows.take(np.zeros(0, int)), np.zeros((0, 2))) == {}


def test_detail_tells_of_each_label():
    """Per-label figures are scikit-learn's at the thresholds, and mean average precision has its interval."""
    generator = np.random.default_rng(5)
    truth, probabilities = generator.random((60, 3)) < 0.4, generator.random((60, 3))
    detail = TASK.detail(made(truth), probabilities, {"thresholds": {"a": 0.2, "b": 0.5, "c": 0.7}})
    guesses = probabilities >= [0.2, 0.5, 0.7]
    expected = reference.precision_recall_fscore_support(truth, guesses, zero_division=0)
    found = [[each[key] for each in detail["per_label"]] for key in ("precision", "recall", "f1", "support")]
    np.testing.assert_allclose(found, np.array(expected, float))
    assert [each["threshold"] for each in detail["per_label"]] == [0.2, 0.5, 0.7]
    precisions = [each["average_precision"] for each in detail["per_label"]]
    assert detail["mean_average_precision"]["value"] == pytest.approx(np.mean(precisions))
    assert detail["labels_per_row"] == {"gold": truth.sum() / 60, "given": guesses.sum() / 60}


@pytest.mark.parametrize("weighted", [False, True])
def test_the_linear_model_is_one_logistic_regression_a_label(weighted):
    """Probabilities and layer are scikit-learn's; labels that all or no rows have are constant."""
    generator = np.random.default_rng(6)
    inputs, weights = generator.normal(size=(90, 4)), generator.uniform(0.2, 2, 90) if weighted else np.ones(90)
    targets = (inputs[:, :2] + generator.normal(size=(90, 2)) > 0).astype(np.float32)
    targets = np.column_stack([targets, np.zeros(90), np.ones(90)])
    model = TASK.fit_linear(inputs, targets, weights, strength=0.3, seed=0)
    found = TASK.linear_probabilities(model, inputs, outputs=4)
    weight, bias = TASK.linear_weights(model, outputs=4)
    for place in (0, 1):
        oracle = LogisticRegression(C=0.3, max_iter=1000).fit(inputs, targets[:, place], sample_weight=weights)
        np.testing.assert_allclose(found[:, place], oracle.predict_proba(inputs)[:, 1], atol=5e-3)
    assert (found[:, 2:] == [0, 1]).all()
    np.testing.assert_allclose(expit(inputs @ weight.T + bias)[:, :2], found[:, :2], atol=1e-9)
    np.testing.assert_allclose(expit(inputs @ weight.T + bias)[:, 2:], found[:, 2:], atol=1e-3)


@pytest.mark.parametrize("labels", [1, 3])
def test_the_constant_model_answers_with_shares(labels):
    """Whatever the row, each label has its weighted share of the rows; never-seen labels have 0."""
    generator = np.random.default_rng(7)
    targets, weights = (generator.random((50, labels)) < 0.4).astype(np.float32), generator.uniform(0.5, 2, 50)
    targets[:, -1] = 0 if labels > 1 else targets[:, -1]
    model = TASK.fit_constant(targets, weights)
    shares = (targets * weights[:, None]).sum(axis=0) / weights.sum()
    np.testing.assert_allclose(TASK.linear_probabilities(model, np.zeros((2, 1)), outputs=labels), [shares, shares])


def test_rungs_can_be_stored_without_pickle():
    """Skops trusts every part of the fitted models."""
    import skops.io

    targets = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 0]])
    model = TASK.fit_linear(np.arange(8.0).reshape(4, 2), targets, np.ones(4), strength=1.0, seed=0)
    stored = skops.io.dumps(model)
    assert skops.io.get_untrusted_types(data=stored) == []
    again = skops.io.loads(stored, trusted=[])
    inputs = np.ones((1, 2))
    np.testing.assert_array_equal(
        TASK.linear_probabilities(again, inputs, outputs=3), TASK.linear_probabilities(model, inputs, outputs=3)
    )


def test_sets_are_equal_in_any_order():
    """The class of a row is its set of labels; a row that was not labelled has none."""
    examples = examples_of(labels=pa.array([["a", "b"], ["b", "a", None, "a"], [], None, ["a"], []], LISTS))
    first, second, empty, missing, single, other = TASK.classes(examples).tolist()
    assert first == second
    assert empty == other
    assert missing == -1
    assert len({first, empty, single}) == 3
    assert TASK.strata(examples).tolist() == [[1, 1], [1, 1], [0, 0], [0, 0], [1, 0], [0, 0]]
    assert TASK.told(examples, TASK.labels(examples)) == "2 labels: a 3 · b 2"


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        (
            [["a"], None],
            "reviews.csv: 1 row has no list of labels: reviews.csv:2. Every row needs one to be scored.\n"
            "  Fill them in, or take the rows out.",
        ),
        (
            [["a"], [], ["b", "x"], ["y"]],
            "reviews.csv: 2 rows have a label that the model does not know, such as 'x': reviews.csv:3, reviews.csv:4. "
            "It knows a, b.\n  Rows to be scored need the labels that the model was trained with.",
        ),
    ],
)
def test_rows_that_cannot_be_scored_are_refused(lists, message):
    """Missing lists and unknown labels are named with their rows; an empty list is an answer."""
    with pytest.raises(DataError) as caught:
        TASK.require(examples_of(labels=pa.array(lists, LISTS)), LabelSet(("a", "b")))
    assert str(caught.value) == message


def findings(lists) -> list[Finding]:
    return TASK.check(examples_of(labels=pa.array(lists, LISTS)))


def test_clean_sets_give_no_finding():
    """Two labels of enough rows, together and apart, are fine."""
    assert findings([["a"], ["b"], ["a", "b"]] * 10) == []


def test_findings_about_sets_are_worded_whole():
    """Rows without labels, rare, everywhere, alike, reserved and repeated labels are each told once."""
    (note,) = findings([["a"], ["b"], []] * 10)
    assert note == Finding(
        "no-label-fits",
        "note",
        "Rows without any label: 10 of 30 rows (33.3%).",
        "They teach that no label fits; if they were just not labelled, remove them.",
        count=10,
        rows=tuple(f"reviews.csv:{row}" for row in range(3, 31, 3)),
    )
    (missing,) = findings([["a"], ["b"]] * 10 + [None])
    assert (missing.kind, missing.severity, missing.message) == (
        "missing-label",
        "error",
        "No list of labels in 1 of 21 rows (4.8%).",
    )
    (rare,) = findings([["a"], ["b"]] * 10 + [["a", "c"]] * 2)
    assert (rare.kind, rare.message) == ("rare-class", "1 of 3 labels on fewer than 10 rows: 'c' (2).")
    (everywhere,) = findings([["a", "b"], ["a"]] * 15)
    assert (everywhere.kind, everywhere.message) == (
        "label-everywhere",
        "Labels that (almost) every row has: 'a' (30 of 30 rows (100.0%)).",
    )
    (alike,) = findings([["Fun"], ["b"]] * 12 + [["fun"], ["b"]] * 10)
    assert alike.message == (
        "Labels that differ only by case or blanks are different labels: 'Fun' = 'fun'; "
        "the rarer spellings have 10 of 44 rows (22.7%)."
    )
    (reserved,) = findings([["a"], ["unknown"]] * 10)
    assert (reserved.severity, reserved.message) == (
        "error",
        "A label is called 'unknown', in 10 of 20 rows (50.0%), but UNKNOWN is the answer of a model that declines.",
    )
    (twice,) = findings([["a", "a"], ["b"]] * 10)
    assert twice.message == "A label that stands twice in its list: 10 of 20 rows (50.0%)."
    (blank,) = findings([["a", " "], ["b"]] * 10)
    assert blank.message == "A label without a name in 10 of 20 rows (50.0%)."


@pytest.mark.parametrize("lists", [[[], []], [None, None], [[None], []]])
def test_no_label_at_all_is_one_error(lists):
    """Without a single label there is nothing else to say."""
    (found,) = findings(lists)
    assert (found.kind, found.severity, found.message) == ("no-labels", "error", "No label in any of 2 rows.")


@given(st.integers(0, 2**32 - 1), st.integers(0, 30), st.sampled_from([0, 1, 3, 64, 65, 200]))
@settings(deadline=None)
def test_equal_rows_have_equal_numbers(seed, rows, columns):
    """However wide the rows are, two have one number exactly when they are equal."""
    generator = np.random.default_rng(seed)
    matrix = generator.random((rows, columns)) < generator.choice([0.002, 0.5])
    firsts, numbers = numbered_rows(matrix)
    assert len(firsts) == len({tuple(row) for row in matrix.tolist()})
    np.testing.assert_array_equal(matrix[firsts[numbers]], matrix)


def test_sparse_rows_are_fitted_too():
    """On sparse rows the answers are about those of scikit-learn's default solver."""
    generator = np.random.default_rng(8)
    inputs = csr_matrix(generator.random((200, 30)) * (generator.random((200, 30)) < 0.2))
    targets = (inputs[:, :3].toarray() + 0.2 * generator.normal(size=(200, 3)) > 0.1).astype(np.float32)
    model = TASK.fit_linear(inputs, targets, np.ones(200), strength=10.0, seed=0, sparse=True)
    found = TASK.linear_probabilities(model, inputs, outputs=3)
    for place in range(3):
        oracle = LogisticRegression(C=10.0, max_iter=1000).fit(inputs, targets[:, place])
        np.testing.assert_allclose(found[:, place], oracle.predict_proba(inputs)[:, 1], atol=0.05)

"""The out-of-scope score against scikit-learn, scipy and densities that are known; its thresholds against their promise."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file
from scipy.spatial.distance import cdist
from scipy.special import logsumexp
from scipy.stats import multivariate_normal, spearmanr, zscore
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score, roc_curve

from bertsmith.errors import BundleError
from bertsmith.inference.engine import HeadPass
from bertsmith.inference.scope import FILE, Scope, clouds_of, draw_rows, energy, kind_of

SCORES = st.lists(st.integers(0, 12).map(float), min_size=1, max_size=30).map(np.array)


def blank() -> Scope:
    """A scope whose threshold is to be chosen from scores that a test makes up."""
    return fitted(np.eye(2), np.arange(2))


def fitted(features: np.ndarray, targets: np.ndarray) -> Scope:
    return Scope.fit(seen(features), targets, seen(features[:0]))


def seen(features: np.ndarray, logits: np.ndarray | None = None) -> HeadPass:
    """A pass whose logits say nothing, unless they are given."""
    return HeadPass(np.zeros((len(features), 3), np.float32) if logits is None else logits, features)


def clouds(rows: int, *, width: int = 12, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Rows of four clouds far from zero, their labels, and what made them: centres and the shared covariance."""
    generator = np.random.default_rng(1)
    centres = generator.normal(size=(4, width)) * 10
    root = generator.normal(size=(width, width)) * np.geomspace(1, 0.05, width)
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 4, rows)
    return centres[labels] + generator.normal(size=(rows, width)) @ root.T, labels, centres, root @ root.T


def between(rows: int, *, width: int = 12) -> np.ndarray:
    """Rows of nowhere: mixtures of two centres, as far from zero as the clouds are."""
    generator = np.random.default_rng(5)
    centres = clouds(1, width=width)[2]
    one = generator.integers(0, 4, rows)
    found = centres[one] + centres[(one + generator.integers(1, 4, rows)) % 4]
    found = found + generator.normal(size=found.shape)
    return found / np.linalg.norm(found, axis=1, keepdims=True) * np.linalg.norm(centres, axis=1).mean()


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def exact(features: np.ndarray, labels: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """The same score by scikit-learn's covariance and scipy's distance."""
    rows, centres = unit(features), np.stack([unit(features)[labels == label].mean(0) for label in np.unique(labels)])
    residuals = rows - centres[np.searchsorted(np.unique(labels), labels)]
    precision = LedoitWolf(assume_centered=True).fit(residuals).precision_
    return cdist(unit(asked), centres, "mahalanobis", VI=precision).min(1) / math.sqrt(features.shape[1])


def test_the_score_is_the_mahalanobis_distance_of_scipy():
    """On rows of length one, with Ledoit and Wolf's covariance, to the nearest centre, per direction."""
    features, labels, _, _ = clouds(500)
    scope = fitted(features.astype(np.float32), labels)
    asked = np.concatenate([clouds(9000, seed=3)[0], between(50)])
    np.testing.assert_allclose(scope.distance(asked), exact(features, labels, asked), rtol=2e-3)
    assert scope.distance(asked[:0]).shape == (0,)
    assert scope.distance(asked).dtype == np.float64
    assert np.mean(scope.distance(features) ** 2) == pytest.approx(1, abs=0.2)


def test_it_ranks_as_the_true_density_does():
    """Where the clouds' densities are known, it tells foreign rows apart as well as the densities themselves do."""
    features, labels, centres, covariance = clouds(3000)
    own, foreign = clouds(1000, seed=9)[0], between(1000)
    scope = fitted(features, labels)
    truth = [multivariate_normal(centre, covariance, allow_singular=True) for centre in centres]
    asked, is_foreign = np.concatenate([own, foreign]), np.repeat([0, 1], 1000)
    density = np.max([each.logpdf(asked) for each in truth], axis=0)
    best = roc_auc_score(is_foreign, -density)
    assert best > 0.95
    assert roc_auc_score(is_foreign, scope.distance(asked)) > best - 0.02


def test_many_directions_are_kept_as_few():
    """Of 400 directions 256 have a spread of their own, and the ranking is that of all."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 5, 1200)
    features = generator.normal(size=(5, 400))[labels] + generator.normal(size=(1200, 400)) * np.geomspace(1, 0.01, 400)
    scope = fitted(features, labels)
    assert scope.basis.shape == (400, 256)
    asked = generator.normal(size=(300, 400)) * np.linspace(0.1, 3, 300)[:, None] + features[:300]
    assert spearmanr(scope.distance(asked), exact(features, labels, asked)).statistic > 0.99


def test_the_length_of_a_row_says_nothing():
    """A row that is ten times as long is as foreign as before."""
    features, labels, _, _ = clouds(300)
    scope = fitted(features, labels)
    np.testing.assert_allclose(scope.distance(features * 10), scope.distance(features), rtol=1e-9)


def test_the_score_adds_distance_and_energy():
    """Each counts in standard deviations of the rows held out, so that on these the score has mean 0."""
    generator = np.random.default_rng(4)
    features, labels, _, _ = clouds(800)
    logits = (generator.normal(size=(800, 4)) * 5).astype(np.float32)
    held = seen(clouds(300, seed=8)[0], logits[:300] + 1)
    scope = Scope.fit(seen(features, logits), labels, held)
    distance, energies = scope.distance(held.inputs), -logsumexp(held.logits.astype(np.float64), axis=1)
    np.testing.assert_allclose(scope.scores(held), zscore(distance) + zscore(energies), atol=1e-9)
    assert scope.scores(held).mean() == pytest.approx(0, abs=1e-9)


def test_either_part_tells_foreign_rows():
    """A row that is far off, or whose logits say little, has a higher score than one's own."""
    features, labels, _, _ = clouds(800)
    sure = (np.eye(4)[labels] * 9).astype(np.float32)
    scope = Scope.fit(seen(features, sure), labels, seen(features, sure))
    own = scope.scores(seen(features, sure))
    assert np.median(scope.scores(seen(between(100), sure[:100]))) > own.max()
    assert scope.scores(seen(features, np.zeros_like(sure))).min() > own.max()


@pytest.mark.parametrize(
    ("targets", "kind", "wanted"),
    [
        (np.array([0, 1]), "one", [-logsumexp([2.0, -1.0]), -logsumexp([0.0, 0.0])]),
        (np.array([[0.5, 0.5], [0.1, 0.9]]), "one", [-logsumexp([2.0, -1.0]), -logsumexp([0.0, 0.0])]),
        (
            np.array([[1.0, 1.0], [0.0, 0.0]], np.float32),
            "several",
            [-math.log1p(math.exp(2)) - math.log1p(math.exp(-1)), -2 * math.log(2)],
        ),
        (np.array([0.5, 2.0]), "number", [0.0, 0.0]),
    ],
    ids=["labels", "soft labels", "several labels", "numbers"],
)
def test_every_kind_of_target_has_its_energy(targets, kind, wanted):
    """One label: the softmax's; several: the sum over labels; a number has none, whatever its output."""
    assert kind_of(targets) == kind
    assert energy(np.array([[2.0, -1.0], [0.0, 0.0]], np.float32), kind_of(targets)) == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("features", "targets"),
    [
        (np.ones((6, 4), np.float32), np.array([0, 0, 0, 1, 1, 1])),
        (np.zeros((3, 4), np.float32), np.array([0, 1, 2])),
        (np.eye(4, dtype=np.float32), np.arange(4)),
        (np.ones((1, 1), np.float32), np.array([0])),
        (np.random.default_rng(0).normal(size=(3, 300)), np.array([0.5, 1.5, 2.5])),
    ],
    ids=["alike", "zeros", "a row a label", "one row", "fewer rows than directions"],
)
def test_rows_without_spread_have_scores(features, targets):
    """Whatever the rows are, every score is a finite number, and rows unlike them are no nearer than they."""
    scope = fitted(features, targets)
    own, other = scope.distance(features), scope.distance(-features - 1)
    assert np.isfinite(own).all()
    assert np.isfinite(other).all()
    assert own.max() <= other.max()


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=300, unique=True).map(np.array), st.floats(0, 0.5))
def test_own_rows_set_the_threshold(own, alarms):
    """As many own rows are above it as leave the expected share of new alarms, (above + 1) / (rows + 1), in bounds."""
    scope = blank().allowing(own, alarms=alarms)
    if alarms * (len(own) + 1) < 1 - 1e-9:
        assert (scope.threshold, scope.chosen_from) == (math.inf, "")
        return
    above = int(scope.is_foreign(own).sum())
    assert scope.threshold in own
    assert scope.chosen_from == "validation"
    assert (above + 1) / (len(own) + 1) <= alarms + 1e-9
    assert (above + 2) / (len(own) + 1) > alarms  # one more would have been too many


def test_the_promise_about_own_rows_holds():
    """On new rows of the same kind the mean share of alarms over 400 samples is no more than was allowed."""
    generator = np.random.default_rng(0)
    start = blank()
    shares = []
    for _ in range(400):
        own, new = generator.normal(size=100), generator.normal(size=1000)
        shares.append(start.allowing(own, alarms=0.05).is_foreign(new).mean())
    assert np.mean(shares) < 0.05 + 3 * np.std(shares) / 20
    assert np.mean(shares) > 0.03


@given(SCORES, SCORES)
def test_labelled_rows_set_the_best_balance(own, foreign):
    """No threshold has a better balanced accuracy than the chosen one; scikit-learn tries them all."""
    scope = blank().separating(own, foreign)
    alarms, found, _ = roc_curve(np.repeat([0, 1], [len(own), len(foreign)]), np.concatenate([own, foreign]))
    assert scope.is_foreign(foreign).mean() - scope.is_foreign(own).mean() == pytest.approx((found - alarms).max())
    assert scope.chosen_from == "labelled"


def test_a_gap_is_cut_in_its_middle():
    """Where own and foreign rows are apart, the threshold has the same distance to both."""
    scope = blank().separating(np.array([0.0, 1.0]), np.array([3.0, 4.0]))
    assert scope.threshold == 2.0


def test_without_rows_nothing_is_foreign():
    """Where there is nothing to choose by, no text is called foreign."""
    start = blank()
    none, some = np.zeros(0), np.ones(3)
    for scope in (start, start.allowing(none, alarms=0.1), start.separating(none, some), start.separating(some, none)):
        assert scope.threshold == math.inf
        assert scope.chosen_from == ""
        assert not scope.is_foreign(np.array([1e300])).any()


def test_what_is_saved_is_what_is_loaded(tmp_path):
    """Scores are the same to the last bit, with a threshold and without one; the file is small and no pickle."""
    generator = np.random.default_rng(0)
    features, labels = generator.normal(size=(600, 1024)), np.arange(600) % 150
    passed = HeadPass(generator.normal(size=(600, 150)).astype(np.float32), features + 0.1)
    first = Scope.fit(passed, labels, passed)
    for scope in (first, first.allowing(np.arange(100.0), alarms=0.1)):
        scope.save(tmp_path)
        found = Scope.load(tmp_path)
        assert found is not None
        assert (found.threshold, found.chosen_from) == (scope.threshold, scope.chosen_from)
        np.testing.assert_array_equal(found.scores(passed), scope.scores(passed))
    assert (tmp_path / FILE).stat().st_size < 5_000_000
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_a_bundle_without_scope_has_none(tmp_path):
    """A bundle from before, or of a run with scope = "off", loads without one."""
    assert Scope.load(tmp_path) is None


def stored(numbers: dict) -> bytes:
    from safetensors.numpy import save

    return save({"centres": np.zeros((1, 2), np.float32)}, metadata={"bertsmith": json.dumps(numbers)})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no", "not readable: Error while deserializing header: header too small.\n  Copy the model folder again."),
        (
            stored({"format": 1}),
            "not readable: File does not contain tensor basis.\n  Copy the model folder again.",
        ),
        (
            stored({"format": 2}),
            "the scope has format 2; this bertsmith reads up to 1.\n  Upgrade: pip install --upgrade bertsmith",
        ),
    ],
    ids=["damaged", "incomplete", "later"],
)
def test_a_file_that_will_not_do_is_refused(tmp_path, content, message):
    """A damaged, incomplete or later file is named, with what to do."""
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(BundleError) as caught:
        Scope.load(tmp_path)
    assert str(caught.value) == f"{tmp_path / FILE}: {message}"


def test_an_unmarked_file_is_refused(tmp_path):
    """A safetensors file of another maker has no numbers of ours."""
    save_file({"centres": np.zeros((1, 2), np.float32)}, tmp_path / FILE)
    with pytest.raises(BundleError) as caught:
        Scope.load(tmp_path)
    assert str(caught.value) == f"{tmp_path / FILE}: not readable: 'bertsmith'.\n  Copy the model folder again."


@settings(deadline=None)
@given(st.lists(st.integers(0, 5), max_size=80).map(lambda found: np.array(found, np.int64)), st.integers(0, 40))
def test_rare_labels_keep_their_rows(targets, most):
    """A draw has as many rows as asked for, each once, and no label loses a row while another has two more left."""
    drawn = draw_rows(targets, seed=3, most=most)
    assert len(drawn) == min(most, len(targets))
    assert (np.diff(drawn) > 0).all()
    left, all_rows = np.bincount(targets[drawn], minlength=6), np.bincount(targets, minlength=6)
    lost = left < all_rows
    assert not lost.any() or left.max() <= left[lost].min() + 1
    assert draw_rows(targets, seed=3, most=most).tolist() == drawn.tolist()


@pytest.mark.parametrize(("labels", "wanted"), [(10, 5000), (300, 6000)])
def test_many_labels_have_more_rows(labels, wanted):
    """5,000 rows are drawn, or 20 a label where that is more."""
    targets = np.arange(20_000) % labels
    drawn = draw_rows(targets, seed=1)
    assert len(drawn) == wanted
    assert np.ptp(np.bincount(targets[drawn])) == 0


@pytest.mark.parametrize(
    ("targets", "wanted"),
    [
        (np.array([4, 2, 4]), [1, 0, 1]),
        (np.array([0.1, 2.5]), [0, 0]),
        (np.array([[0.2, 0.8], [0.9, 0.1], [0.4, 0.6]]), [1, 0, 1]),
        (np.array([[0.0, 1.0], [1.0, 0.0]]), [1, 0]),
        (np.repeat([[1, 0], [1, 1], [0, 0]], [10, 10, 3], axis=0), [1] * 10 + [2] * 10 + [0] * 3),
        (np.zeros((0, 3)), []),
    ],
    ids=["labels", "numbers", "soft labels", "one label each", "sets of labels", "no rows"],
)
def test_every_kind_of_target_has_clouds(targets, wanted):
    """Labels, the greatest share of soft ones, sets of several; numbers are one cloud, and so are rare sets."""
    assert clouds_of(targets).tolist() == wanted

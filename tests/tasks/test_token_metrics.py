"""Metrics of tags and spans, against seqeval, nervaluate and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nervaluate import Evaluator
from seqeval.metrics import f1_score, precision_score, recall_score
from seqeval.scheme import IOB2, IOBES
from sklearn import metrics as sk

from bertsmith.tasks.tags import scheme_of
from bertsmith.tasks.token_metrics import counted_metrics, row_counts, row_losses, span_figures, views
from tests.tasks.token_rows import IOB_TAGS, IOBES_TAGS, POS_TAGS, sentences_in, tagged_of

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
Sentences = list[list[str]]


@st.composite
def pairs(draw: st.DrawFn, names: list[str]) -> tuple[Sentences, Sentences]:
    """Gold and guessed tags of the same sentences; guesses are gold with some tags changed, or anything."""
    words = st.tuples(st.sampled_from(names), st.sampled_from(names), st.booleans())
    drawn = draw(st.lists(st.lists(words, max_size=9), min_size=1, max_size=6))
    gold = [[word[0] for word in each] for each in drawn]
    return gold, [[one if same else other for one, other, same in each] for each in drawn]


def flat(sentences: Sentences, names: list[str]) -> np.ndarray:
    return np.array([names.index(tag) for each in sentences for tag in each], dtype=np.int64)


def offsets_of(sentences: Sentences) -> np.ndarray:
    return np.cumsum([0, *(len(each) for each in sentences)])


def metrics_of(gold: Sentences, guesses: Sentences, names: list[str]) -> dict[str, float]:
    counts = row_counts(flat(gold, names), flat(guesses, names), offsets_of(gold), names=names)
    return {name: float(value) for name, value in counted_metrics(counts.sum(axis=0)).items()}


def repaired(sentences: Sentences, names: list[str]) -> Sentences:
    return sentences_in(tagged_of(sentences).repaired(scheme_of(names)))


@pytest.mark.parametrize(("names", "scheme"), [(IOB_TAGS, IOB2), (IOBES_TAGS, IOBES)])
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_span_figures_are_those_of_seqeval(data: st.DataObject, names: list[str], scheme: type):
    """Precision, recall and F1 of spans are seqeval's strict ones on repaired tags, and its default on raw tags."""
    gold, guesses = data.draw(pairs(names))
    found = metrics_of(gold, guesses, names)
    ours = [found["span_precision"], found["span_recall"], found["span_f1"]]
    every = (precision_score, recall_score, f1_score)
    assert ours == pytest.approx([score(gold, guesses, zero_division=0) for score in every])
    valid = repaired(gold, names), repaired(guesses, names)
    if any(tag != "O" for side in valid for each in side for tag in each):
        strict = [score(*valid, mode="strict", scheme=scheme, zero_division=0) for score in every]
        assert ours == pytest.approx(strict)


@given(pairs(IOB_TAGS))
@settings(max_examples=60, deadline=None)
def test_span_figures_are_those_of_nervaluate(pair: tuple[Sentences, Sentences]):
    """Our strict counts, and the views that we report, are nervaluate's own on lists of tags."""
    gold, guesses = pair
    ids = flat(gold, IOB_TAGS), flat(guesses, IOB_TAGS), offsets_of(gold)
    found = views(*ids, names=IOB_TAGS)
    whole = Evaluator(
        repaired(gold, IOB_TAGS), repaired(guesses, IOB_TAGS), tags=["PER", "LOC"], loader="list"
    ).evaluate()
    ours = metrics_of(gold, guesses, IOB_TAGS)
    assert found["all"]["strict"]["f1"] == pytest.approx(ours["span_f1"])
    for view, name in (("strict", "strict"), ("exact", "exact"), ("partial", "partial"), ("type", "ent_type")):
        assert found["all"][view]["f1"] == pytest.approx(whole["overall"][name].f1)
    for report in span_figures(*ids, names=IOB_TAGS):
        if report["label"] in found["by_label"]:
            theirs = found["by_label"][report["label"]]["strict"]
            assert [report["f1"], report["support"]] == pytest.approx([theirs["f1"], theirs["possible"]])


@pytest.mark.parametrize("names", [IOB_TAGS, POS_TAGS])
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_tag_metrics_are_those_of_scikit_learn(data: st.DataObject, names: list[str]):
    """Token accuracy and macro-F1 over the tags that occur are scikit-learn's."""
    gold, guesses = data.draw(pairs(names))
    truth, answers, found = flat(gold, names), flat(guesses, names), metrics_of(gold, guesses, names)
    if not len(truth):
        assert found == dict.fromkeys(found, 0.0)
        return
    assert found["token_accuracy"] == pytest.approx(sk.accuracy_score(truth, answers))
    assert found["macro_f1"] == pytest.approx(sk.f1_score(truth, answers, average="macro", zero_division=0))


@given(pairs(POS_TAGS))
@settings(max_examples=60, deadline=None)
def test_for_plain_tags_span_figures_are_the_token_accuracy(pair: tuple[Sentences, Sentences]):
    """Without O and prefixes each word is a span, so that F1, precision and recall are the share of right words."""
    found = metrics_of(*pair, POS_TAGS)
    assert found["span_f1"] == found["span_precision"] == found["span_recall"] == found["token_accuracy"]


@given(pairs(IOBES_TAGS))
@settings(max_examples=60, deadline=None)
def test_counts_add_up_over_sentences(pair: tuple[Sentences, Sentences]):
    """The counts of sentences taken one by one are the rows of the counts of all."""
    gold, guesses = pair
    both = row_counts(flat(gold, IOBES_TAGS), flat(guesses, IOBES_TAGS), offsets_of(gold), names=IOBES_TAGS)
    for row, (one, other) in enumerate(zip(gold, guesses, strict=True)):
        alone = row_counts(flat([one], IOBES_TAGS), flat([other], IOBES_TAGS), offsets_of([one]), names=IOBES_TAGS)
        assert alone[0].tolist() == both[row].tolist()


@given(pairs(POS_TAGS), st.integers(0, 100))
@settings(max_examples=60, deadline=None)
def test_the_mean_of_the_row_losses_is_scikit_learns_log_loss(pair: tuple[Sentences, Sentences], seed: int):
    """Averaged over sentences, the losses are the mean over all words."""
    gold = flat(pair[0], POS_TAGS)
    logits = np.random.default_rng(seed).normal(size=(len(gold), 3))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    losses = row_losses(gold, probabilities, offsets_of(pair[0]))
    expected = sk.log_loss(gold, probabilities, labels=[0, 1, 2]) if len(gold) else 0.0
    assert losses.mean() == pytest.approx(expected)


def test_resampled_row_losses_vary_as_the_mean_over_words_does():
    """The mean of resampled row losses spreads as far as the resampled ratio of loss to words."""
    generator = np.random.default_rng(3)
    lengths = generator.integers(1, 30, size=400)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    truth = generator.dirichlet([2.0, 1.0], size=offsets[-1])
    gold = np.zeros(offsets[-1], np.int64)
    losses = row_losses(gold, truth, offsets)
    sums = np.add.reduceat(-np.log(truth[:, 0]), offsets[:-1])
    drawn = generator.integers(400, size=(3000, 400))
    ratio = sums[drawn].sum(axis=1) / lengths[drawn].sum(axis=1)
    assert losses[drawn].mean(axis=1).std() == pytest.approx(ratio.std(), rel=0.03)

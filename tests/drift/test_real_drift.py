"""Real texts: splits of one data set are seldom called drifted; texts of another one are."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pyarrow as pa
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from bertsmith import encoders
from bertsmith.data.encode import TokenEncoder
from bertsmith.drift.compare import compare
from bertsmith.drift.facts import text_facts
from bertsmith.drift.reference import Reference
from bertsmith.examples import Columns, Examples, LabelSet
from bertsmith.tasks import Rows

pytestmark = pytest.mark.shared_data


def read(folder, name, split, most):
    with gzip.open(folder / name / f"{split}.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines][:most]
    return [row["text"] for row in rows], [row["label"] for row in rows]


@pytest.fixture(scope="module")
def facts(shared_data):
    """Gives the facts of texts as a TF-IDF classifier of emotions answers them."""
    texts, labels = read(shared_data, "emotion", "train", 4_000)
    model = make_pipeline(TfidfVectorizer(min_df=2), LogisticRegression(C=10, max_iter=1_000)).fit(texts, labels)
    tokenizer = encoders.find("minilm").tokenizer()
    encoder = TokenEncoder(tokenizer, 128, 0)

    def facts(texts):
        column = pa.chunked_array([pa.array(texts, pa.string())])
        examples = Examples(pa.table({"text": column}), Columns("text"), "texts")
        rows = Rows(examples, encoder.encode(column), np.zeros(0), np.ones(len(texts)), LabelSet(tuple(model.classes_)))
        probabilities = model.predict_proba(texts)
        names = model.classes_[probabilities.argmax(axis=1)]
        return {**text_facts(rows, tokenizer), "confidence": probabilities.max(axis=1), "label": names}

    return facts


def part(facts, rows):
    return {name: np.asarray(values)[rows] for name, values in facts.items()}


def drift(reference, new):
    seen = reference.empty()
    seen.add(new)
    return compare(reference, seen)


@pytest.mark.parametrize(("then", "now"), [(1_000, 1_000), (300, 50)])
def test_splits_of_one_data_set_are_seldom_called_drifted(facts, shared_data, then, now):
    """Of 100 random splits of emotion's test rows at most 5 % (and what 100 vary by) are said to have drifted."""
    found = facts(read(shared_data, "emotion", "test", 2_000)[0])
    generator, alarms = np.random.default_rng(0), 0
    for _ in range(100):
        order = generator.permutation(2_000)
        reference = Reference.of_facts(part(found, order[:then]), labels=tuple(np.unique(found["label"])))
        alarms += drift(reference, part(found, order[then : then + now])).drifted
    assert alarms <= 9


@pytest.mark.parametrize("other", ["ag_news", "sms_spam"])
def test_texts_from_elsewhere_are_found(facts, shared_data, other):
    """Where a quarter of the new rows come from another data set, 200 rows suffice to find it."""
    own, foreign = (facts(read(shared_data, name, "test", 900)[0]) for name in ("emotion", other))
    reference = Reference.of_facts(part(own, np.arange(700)), labels=tuple(np.unique(own["label"])))
    mixed = {name: np.concatenate([own[name][700:850], foreign[name][:50]]) for name in own}
    found = drift(reference, mixed)
    assert found.drifted
    assert not drift(reference, part(own, np.arange(700, 900))).drifted

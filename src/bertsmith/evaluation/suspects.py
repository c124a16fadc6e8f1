"""Suspects: rows whose label is probably wrong, found without trusting the label itself.

Two linear models, one on the frozen encoder's features and one on the words, are trained on four fifths of the rows
and asked about the last fifth, five times over, so that no row's label helps to explain itself; equal texts are held
out together. Their probabilities are averaged, which ranks wrong labels better than either does. Confident learning
(Northcutt, Jiang and Chuang 2021, arXiv 1911.00068, the package cleanlab) says from them how many labels are wrong and
which: the list is for people, who look at it in `suspects.csv` and mend what is wrong.
"""

from __future__ import annotations

import csv
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertsmith import encoders
from bertsmith.atomic import replacing
from bertsmith.data.relabel import RELABEL, guarded
from bertsmith.examples import Examples, LabelSet
from bertsmith.tasks.linear_models import logistic, placed_probabilities
from bertsmith.tasks.protocol import Array

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator

FOLDS = 5
MOST_ROWS = 50_000
"""Rows that are looked at; of more, a seeded sample."""
FEWEST_ROWS = 20
"""On fewer rows nothing can be said."""
MOST_SHOWN = 20
_STRENGTH = 20.0
"""scikit-learn's C for standardised features, times the number of rows: weak, since some of the labels are wrong."""
_TOLERANCE = 1e-2
_WEIGHTS = (0.5, 1.0, 0.0)
"""Shares of the features' model that are tried: half and half ranks best wherever both know something."""
_WORD_STRENGTH = 10.0
_MOST_WORDS = 100_000
_LEAST = 1e-12
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]")
_LOOKED_AT = 2000


@dataclass(frozen=True)
class Suspects:
    """Rows whose label is probably wrong, the most suspect first.

    Attributes:
        examples: The rows that were given.
        looked_at: How many of them were looked at.
        rows: Positions of the suspects in `examples`, int64 `(suspects,)`.
        suggested: The label that fits better, one a suspect.
        quality: How probable the given label is, judged without it, float64 `(suspects,)`, between 0 and 1.
        texts: False where texts may not be kept.
    """

    examples: Examples
    looked_at: int
    rows: Array
    suggested: tuple[str, ...]
    quality: Array
    texts: bool = True

    def __len__(self) -> int:
        return len(self.rows)

    def as_json(self, *, file: str = "suspects.csv") -> dict[str, Any]:
        """Return what `scores.json` says of them; `file` is where `write` put all of them."""
        first = range(min(len(self), MOST_SHOWN))
        worst = [each for each, _ in zip(self._records(), first, strict=False)]
        return {"rows": self.looked_at, "flagged": len(self), "file": file, "worst": worst}

    def write(self, path: Path) -> None:
        """Write suspects.csv: a row a suspect, with a column `relabel` to be filled in.

        It opens in any spreadsheet: UTF-8 with a byte order mark, and no cell is taken for a formula.
        """
        names = ["file", "row", *_text_columns(self.examples, texts=self.texts), "label", "suggested", "quality"]
        with replacing(path) as temporary, temporary.open("w", encoding="utf-8-sig", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow([*names, RELABEL])
            for record in self._records():
                writer.writerow([*(_cell(record[name]) for name in names), ""])

    def _records(self) -> Iterator[dict[str, Any]]:
        columns = ["file", "row", *_text_columns(self.examples, texts=self.texts), "label"]
        table = self.examples.table.select(columns).take(pa.array(self.rows))
        told = zip(table.to_pylist(), self.suggested, self.quality.tolist(), strict=True)
        for place, suggested, quality in told:
            yield {**place, "suggested": suggested, "quality": quality}


def find_suspects(
    features: Array, targets: Array, labels: LabelSet, examples: Examples, *, seed: int, texts: bool = True
) -> Suspects | None:
    """Find rows whose label is probably wrong.

    Args:
        features: Frozen features of the rows, the mean over each text's tokens by preference, `(rows, width)`.
        targets: Position of each row's label, int64 `(rows,)`; of another shape (shares, sets of labels, numbers,
            words) nothing is looked for.
        labels: The labels.
        examples: The rows.
        seed: The same seed gives the same suspects.
        texts: False where texts may not be kept in what is written; the words are learned from all the same.

    Returns:
        The suspects; None where targets are no single labels, or there are too few rows or labels.

    Raises:
        MissingExtraError: The package cleanlab is not installed.
    """
    if targets.ndim != 1 or not np.issubdtype(targets.dtype, np.integer) or len(targets) != len(examples):
        return None
    looked_at = _sample(len(targets), seed=seed)
    given = targets[looked_at]
    sizes = np.bincount(given, minlength=len(labels))
    if len(given) < FEWEST_ROWS or (sizes >= FOLDS).sum() < 2:
        return None
    encoders.require("cleanlab", what="looking for wrong labels", extra="noise")
    rows = examples.take(looked_at)
    probabilities = held_out(np.asarray(features)[looked_at], given, rows, outputs=len(labels), seed=seed)
    order, quality = _ranked(given, probabilities)
    suggested = tuple(labels.names[place] for place in probabilities[order].argmax(axis=1).tolist())
    return Suspects(examples, len(given), looked_at[order], suggested, quality, texts)


def held_out(features: Array, targets: Array, examples: Examples, *, outputs: int, seed: int) -> Array:
    """Give each row's probabilities by models that did not learn from it, float64 `(rows, outputs)`.

    Args:
        features: Frozen features, `(rows, width)`.
        targets: Positions of labels, int64 `(rows,)`.
        examples: The rows; their words are learned from as well.
        outputs: Number of labels.
        seed: Seed of the folds.
    """
    fold = _folds(targets, examples, seed=seed)
    by_features = _by_fold(_standardised(features), targets, fold, _frozen_model(len(targets), seed), outputs=outputs)
    words = _word_counts(examples)
    if words is None:
        return by_features
    model = logistic(strength=_WORD_STRENGTH, seed=seed, sparse=True)
    return _mixed(by_features, _by_fold(words, targets, fold, model, outputs=outputs), targets)


def _mixed(ours: Array, theirs: Array, targets: Array) -> Array:
    """Average two models, or take one of them where that explains the held-out labels better."""
    rows = np.arange(len(targets))
    sure = [np.maximum(each[rows, targets], _LEAST) for each in (ours, theirs)]
    losses = [-np.log(weight * sure[0] + (1 - weight) * sure[1]).mean() for weight in _WEIGHTS]
    weight = _WEIGHTS[int(np.argmin(losses))]
    return np.asarray(weight * ours + (1 - weight) * theirs)


def _by_fold(inputs: Any, targets: Array, fold: Array, model: BaseEstimator, *, outputs: int) -> Array:
    from sklearn.base import clone

    found = np.zeros((len(targets), outputs))
    for each in np.unique(fold):
        train = np.flatnonzero(fold != each)
        if len(np.unique(targets[train])) < 2:
            found[fold == each] = np.bincount(targets[train], minlength=outputs) / len(train)
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it did not converge: it ranks no worse for that
            fitted = clone(model).fit(inputs[train], targets[train])
        found[fold == each] = placed_probabilities(fitted, inputs[np.flatnonzero(fold == each)], outputs=outputs)
    return found


def _folds(targets: Array, examples: Examples, *, seed: int) -> Array:
    """Share rows out over folds, each label evenly and equal texts together, int64 `(rows,)`."""
    text = np.zeros(len(targets), np.int64)
    for name in _text_columns(examples, texts=True):
        column = examples.column(name)
        ids = np.asarray(pc.index_in(column, value_set=column.unique()).to_numpy(), np.int64)
        text = np.unique(text * len(targets) + ids, return_inverse=True)[1]
    firsts = np.unique(text, return_index=True)[1]
    order = np.lexsort((np.random.default_rng(seed).random(len(firsts)), targets[firsts]))
    fold = np.empty(len(firsts), np.int64)
    fold[order] = np.arange(len(firsts)) % FOLDS
    return fold[text]


def _ranked(given: Array, probabilities: Array) -> tuple[Array, Array]:
    """Say which rows are suspects, the most suspect first, and how probable their given labels are."""
    # Labels without a row are left out: cleanlab wants every label that it is told of.
    seen, given = np.unique(given, return_inverse=True)
    known = np.maximum(probabilities[:, seen], _LEAST)
    known /= known.sum(axis=1, keepdims=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from cleanlab.filter import find_label_issues
        from cleanlab.rank import get_label_quality_scores

        flagged = np.flatnonzero(find_label_issues(given, known, n_jobs=1))
        quality = get_label_quality_scores(given, known, method="self_confidence")
    flagged = flagged[known[flagged].argmax(axis=1) != given[flagged]]
    order = flagged[np.argsort(quality[flagged], kind="stable")]
    return order, np.asarray(quality[order], np.float64)


def _frozen_model(rows: int, seed: int) -> BaseEstimator:
    """Make the model on features: it stops early, which wrong labels make the better choice."""
    return logistic(strength=_STRENGTH / rows, seed=seed, sparse=False).set_params(tol=_TOLERANCE, max_iter=100)


def _standardised(features: Array) -> Array:
    features = np.asarray(features, np.float32)
    spread = features.std(axis=0)
    return np.asarray((features - features.mean(axis=0)) / np.where(spread > 1e-6, spread, np.float32(1)))


def _word_counts(examples: Examples) -> Any:
    """Weigh words and pairs of words (in scripts without spaces, characters) as TF-IDF; None where there are none."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    names = _text_columns(examples, texts=True)
    texts = pc.binary_join_element_wise(*(pc.fill_null(examples.column(name), "") for name in names), " [SEP] ")
    texts = texts.to_pylist()
    sample = "".join(texts[:_LOOKED_AT])
    spaced = len(_UNSPACED.findall(sample)) < 0.2 * len(sample)
    kind: dict[str, Any] = {"ngram_range": (1, 2)} if spaced else {"analyzer": "char", "ngram_range": (1, 3)}
    try:
        return TfidfVectorizer(max_features=_MOST_WORDS, sublinear_tf=True, dtype=np.float32, **kind).fit_transform(
            texts
        )
    except ValueError:  # scikit-learn's word for: no text has a word
        return None


def _sample(rows: int, *, seed: int) -> Array:
    if rows <= MOST_ROWS:
        return np.arange(rows)
    return np.sort(np.random.default_rng(seed).choice(rows, MOST_ROWS, replace=False))


def _text_columns(examples: Examples, *, texts: bool) -> Sequence[str]:
    return [name for name in ("text", "text_pair") if texts and name in examples]


def _cell(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else guarded(str(value))

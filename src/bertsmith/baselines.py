"""Baselines: the cheap rungs of the ladder, which a fine-tuned model has to beat.

    majority   the label shares of the train rows: what a model scores that never looks at the text
    tfidf      word and word-pair counts, then a linear model: what the mere words say
    words      the most frequent label of each word: what a dictionary would say
    frozen     the encoder as it comes, then a linear model: what is known before any fine-tuning

A task says which of them suit it. Each learns from the train rows alone; strengths and views are chosen on the
validation rows; the test rows are only answered. They are stored as skops files, never as pickles, and can be
asked again.
"""

from __future__ import annotations

import itertools
import re
import time
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from bertsmith.atomic import replacing
from bertsmith.errors import BundleError
from bertsmith.tasks import Rows, Task, task_named
from bertsmith.tasks.protocol import Texts

if TYPE_CHECKING:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import Pipeline

Array = np.ndarray[Any, Any]

PAIR_MARK = " [SEP] "
"""Stands between the two texts of a pair: TF-IDF reads both as one text with a border that it can see."""
MAX_FEATURES = 100_000
MAX_UNITS = 100_000
"""Train rows that a rung learns from; more make it slower, not better."""
MAX_TOKENS = 30_000
"""Train words or tokens that a linear model on frozen features learns from: neighbours are much alike."""
TFIDF_STRENGTHS = (10.0, 1.0, 100.0)
FROZEN_STRENGTHS = (0.03, 0.003, 0.3)
"""scikit-learn's C: the first is tried first, and taken where there are no validation rows."""
DEFAULT_VIEW = "mean"
"""The view of the frozen encoder that is taken where there are no validation rows."""

_PIECE = 8192
_WORD = re.compile(r"(?u)\b\w\w+\b")
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]")
_LOOKED_AT = 2000
_STEPS = frozenset(
    {
        "CountVectorizer",
        "DummyClassifier",
        "DummyRegressor",
        "LogisticRegression",
        "MultinomialNB",
        "MultiOutputClassifier",
        "Ridge",
        "StandardScaler",
        "TfidfVectorizer",
    }
)


@dataclass(frozen=True)
class Side:
    """The rows of one side of the split, and what the frozen encoder says of them.

    Attributes:
        rows: The rows, with their targets.
        features: View → float32 `(units, width)`; views are ways of pooling, such as `cls` and `mean`.
        every: All rows of the side, where `rows` are a sample of them.
    """

    rows: Rows
    features: Mapping[str, Array] = field(default_factory=dict)
    every: Rows | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows: Array) -> Side:
        """Return these rows, in this order."""
        units = self.rows.encoded.flat(rows)
        features = {view: values[units] for view, values in self.features.items()}
        return Side(self.rows.take(rows), features, self.every or self.rows)


@dataclass(frozen=True)
class Baseline:
    """A model of the ladder that can be asked.

    Attributes:
        task: What it answers.
        outputs: Number of logits that the task has.
        pipeline: The fitted scikit-learn pipeline.
        view: The features that it takes (a key of `Side.features`); empty where it takes texts.
    """

    task: Task
    outputs: int
    pipeline: Pipeline
    view: str = ""

    def predict_proba(self, inputs: Texts | Array, pairs: Texts | None = None) -> Array:
        """Return what the task decides by, float64 `(units, outputs)`; 0 for labels without train rows.

        Args:
            inputs: The text of each unit; for the frozen rung the features of its view, float32 `(units, width)`.
            pairs: The second texts, where the model learned from pairs.
        """
        parts = [
            self.task.linear_probabilities(self.pipeline, piece, outputs=self.outputs)
            for piece in _pieces(inputs, pairs)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, self.outputs))

    def answer(self, side: Side) -> Array:
        """Return what the task decides by for the rows of a side, float64 `(units, outputs)`."""
        if self.view:
            return self.predict_proba(side.features[self.view])
        return self.predict_proba(*self.task.unit_texts(side.rows))


@dataclass(frozen=True)
class Rung:
    """One rung of the ladder.

    Attributes:
        name: `majority`, `tfidf`, `words` or `frozen`.
        detail: What it is made of, in words.
        seconds: What it took, features and choice of strength included.
        model: The model, to be asked again.
        probabilities: What it says about the test rows, float64 `(units, outputs)`.
        decision: What was tuned for it on the calibration rows.
    """

    name: str
    detail: str
    seconds: float
    model: Baseline
    probabilities: Array
    decision: Mapping[str, Any] = field(default_factory=dict)

    @property
    def holds_words(self) -> bool:
        """True where the model keeps words of the texts that it learned from."""
        return self.name in {"tfidf", "words"}


def climb(
    task: Task, sides: Mapping[str, Side], *, outputs: int, seed: int, features_seconds: float = 0.0
) -> list[Rung]:
    """Build the cheap rungs, from the cheapest up.

    Without validation rows the usual strengths are taken. A rung is left out where there is nothing to learn
    from: frozen without features, TF-IDF without words, both where all train rows have the same answer.

    Args:
        task: What is to be answered; it knows which rungs and which linear model fit.
        sides: `train` and `test`, and `validation` and `calibration` where they have rows.
        outputs: Number of logits.
        seed: The same seed and data give the same rungs.
        features_seconds: What the frozen features took; counted into their rung.
    """
    train, test = sides["train"], sides["test"]
    validation, calibration = (sides.get(name) or None for name in ("validation", "calibration"))
    ladder = _Ladder(task, _sampled(train, seed), validation, outputs, seed)
    whole = len(train.every or train)
    of_all = f", {len(ladder.train):,} of {whole:,} train rows" if len(ladder.train) < whole else ""
    builders = {"majority": _majority, "tfidf": _tfidf, "words": _words, "frozen": _frozen}
    rungs = []
    for name in task.rungs:
        began = time.perf_counter()
        built = builders[name](ladder)
        if built is not None:
            model, detail = built
            answers = model.answer(test)
            decision = task.decide(calibration.rows, model.answer(calibration)) if calibration else {}
            seconds = time.perf_counter() - began + (features_seconds if model.view else 0.0)
            told = detail if name == "words" else detail + of_all
            rungs.append(Rung(name, told, seconds, model, answers, decision))
    return rungs


def save_rungs(rungs: Sequence[Rung], folder: Path) -> None:
    """Write each rung as `NAME.skops`."""
    for rung in rungs:
        save(rung, folder)


def save(rung: Rung, folder: Path) -> None:
    """Write one rung as `NAME.skops`."""
    import skops.io

    stored = {
        "task": rung.model.task.name,
        "outputs": rung.model.outputs,
        "view": rung.model.view,
        "pipeline": rung.model.pipeline,
    }
    with replacing(folder / f"{rung.name}.skops") as temporary:
        skops.io.dump(stored, temporary)


def load(folder: Path, name: str) -> Baseline:
    """Load a rung of a run (`RUN/baselines`). Nothing is built that a rung is not made of.

    Args:
        folder: Where `save` put it.
        name: `majority`, `tfidf`, `words` or `frozen`.

    Raises:
        BundleError: It is not there, is damaged, or holds types that no rung has.
    """
    import skops.io

    path = folder / f"{name}.skops"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in folder.glob("*.skops"))) or "none"
        raise BundleError(f"{path}: no such baseline. The folder holds: {known}.")
    try:
        _refuse(path, skops.io.get_untrusted_types(file=path))
        stored = skops.io.load(path, trusted=[])
        names = [type(step).__name__ for _, step in stored["pipeline"].steps]
        _refuse(path, [name for name in names if name not in _STEPS])
        return Baseline(task_named(stored["task"]), stored["outputs"], stored["pipeline"], stored["view"])
    except (zipfile.BadZipFile, KeyError, TypeError, AttributeError, ValueError) as error:
        raise BundleError(f"{path}: not readable: {error}.", tip="Copy the run again, or train again.") from error


@dataclass(frozen=True)
class _Ladder:
    """What every rung is built from; `validation` is None where it has no rows."""

    task: Task
    train: Side
    validation: Side | None
    outputs: int
    seed: int

    @property
    def can_learn(self) -> bool:
        """False where all train rows have the same answer."""
        targets = self.train.rows.targets
        return bool((targets != targets[:1]).any())

    def fit(self, inputs: Any, *, strength: float, sparse: bool) -> Any:
        """Fit the task's linear model."""
        from sklearn.exceptions import ConvergenceWarning
        from threadpoolctl import threadpool_limits

        rows = self.train.rows
        # One thread: BLAS threads that wait for each other make these small products two to six times slower.
        with threadpool_limits(1), warnings.catch_warnings():
            # A solver may stop after its number of rounds: more digits would not change an answer.
            warnings.simplefilter("ignore", ConvergenceWarning)
            return self.task.fit_linear(
                inputs, rows.targets, rows.unit_weights, strength=strength, seed=self.seed, sparse=sparse
            )

    def rank(self, model: Any, inputs: Any) -> tuple[float, ...]:
        """Return the task's metrics on the validation rows, that which stops training first, higher is better."""
        if self.validation is None:
            return ()
        answers = self.task.linear_probabilities(model, inputs, outputs=self.outputs)
        metrics = self.task.measure(self.validation.rows, answers)
        lower = self.task.loss_metrics
        names = dict.fromkeys((self.task.stop_metric, *self.task.metrics))
        return tuple(-metrics[name] if name in lower else metrics[name] for name in names)

    def texts(self, side: Side) -> Iterator[str]:
        """Give the text of each unit of a side one by one, pairs as one text."""
        return _strings(*self.task.unit_texts(side.rows))


@dataclass(frozen=True)
class _View:
    """One way to turn rows into numbers, and the numbers of the train and validation rows."""

    name: str
    step: tuple[str, Any]
    train: Any
    validation: Any
    sparse: bool = False


@dataclass(frozen=True)
class _Candidate:
    view: _View
    strength: float
    model: Any
    rank: tuple[float, ...]


def _majority(ladder: _Ladder) -> tuple[Baseline, str]:
    rows = ladder.train.rows
    model = ladder.task.fit_constant(rows.targets, rows.unit_weights)
    return _baseline(ladder, [("prior", model)]), "the same for every row, from the train rows"


def _tfidf(ladder: _Ladder) -> tuple[Baseline, str] | None:
    vectorizer, unit = _vectorizer(ladder)
    if vectorizer is None or not ladder.can_learn:
        return None
    train = vectorizer.fit_transform(ladder.texts(ladder.train))
    # Plain ints: skops takes seconds over a vocabulary of numpy integers.
    vectorizer.vocabulary_ = {term: int(place) for term, place in vectorizer.vocabulary_.items()}
    held = ladder.validation
    validation = None if held is None else vectorizer.transform(ladder.texts(held))
    best = _best(ladder, [_View(unit, ("tfidf", vectorizer), train, validation, sparse=True)], TFIDF_STRENGTHS)
    detail = f"{unit}, {train.shape[1]:,} features, C={best.strength:g}"
    return _baseline(ladder, [best.view.step, ("classify", best.model)]), detail


def _words(ladder: _Ladder) -> tuple[Baseline, str] | None:
    """Count labels by word: Bayes' rule with one word and no smoothing gives its most frequent label."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.naive_bayes import MultinomialNB

    rows = ladder.train.every or ladder.train.rows
    if not len(rows.targets):
        return None
    vectorizer = CountVectorizer(lowercase=False, token_pattern=r"(?s)^.+$")
    counts = vectorizer.fit_transform(_strings(*ladder.task.unit_texts(rows)))
    vectorizer.vocabulary_ = {word: int(place) for word, place in vectorizer.vocabulary_.items()}
    model = MultinomialNB(alpha=1e-10, force_alpha=True).fit(counts, rows.targets, sample_weight=rows.unit_weights)
    return _baseline(ladder, [("words", vectorizer), ("count", model)]), f"{counts.shape[1]:,} words"


def _frozen(ladder: _Ladder) -> tuple[Baseline, str] | None:
    if not ladder.train.features or not ladder.can_learn:
        return None
    # The usual view first: it wins where nothing can be chosen by.
    names = sorted(ladder.train.features, key=lambda name: (name != DEFAULT_VIEW, name))
    best = _best(ladder, [_frozen_view(ladder, name) for name in names], FROZEN_STRENGTHS)
    model = _baseline(ladder, [best.view.step, ("classify", best.model)], view=best.view.name)
    return model, f"{best.view.name} pooling, C={best.strength:g}"


def _frozen_view(ladder: _Ladder, name: str) -> _View:
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler()
    train = scaler.fit_transform(ladder.train.features[name])
    validation = None if ladder.validation is None else scaler.transform(ladder.validation.features[name])
    return _View(name, ("scale", scaler), train, validation)


def _best(ladder: _Ladder, views: Sequence[_View], strengths: Sequence[float]) -> _Candidate:
    """Choose the view at the usual strength, then the strength for that view; the first of equals."""
    usual, *others = strengths
    if ladder.validation is None:
        return _candidate(ladder, views[0], usual)
    first = max((_candidate(ladder, view, usual) for view in views), key=lambda one: one.rank)
    rest = (_candidate(ladder, first.view, strength) for strength in others)
    return max((first, *rest), key=lambda one: one.rank)


def _candidate(ladder: _Ladder, view: _View, strength: float) -> _Candidate:
    model = ladder.fit(view.train, strength=strength, sparse=view.sparse)
    return _Candidate(view, strength, model, ladder.rank(model, view.validation))


def _baseline(ladder: _Ladder, steps: list[tuple[str, Any]], *, view: str = "") -> Baseline:
    from sklearn.pipeline import Pipeline

    return Baseline(ladder.task, ladder.outputs, Pipeline(steps), view)


def _vectorizer(ladder: _Ladder) -> tuple[TfidfVectorizer | None, str]:
    """Count words and word pairs; characters in scripts without spaces; nothing where there is no text."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    sample = "".join(itertools.islice(ladder.texts(ladder.train), _LOOKED_AT))
    spaced = len(_UNSPACED.findall(sample)) < 0.2 * len(sample)
    settings = {"max_features": MAX_FEATURES, "sublinear_tf": True, "dtype": np.float32}
    if spaced and any(_WORD.search(text) for text in ladder.texts(ladder.train)):
        return TfidfVectorizer(ngram_range=(1, 2), **settings), "1-2-grams"
    if any(ladder.texts(ladder.train)):
        return TfidfVectorizer(analyzer="char", ngram_range=(1, 3), **settings), "1-3-grams of characters"
    return None, ""


def _strings(texts: Texts, pairs: Texts | None) -> Iterator[str]:
    """Give texts one by one, pairs as one text."""
    return (text for piece in _pieces(texts, pairs) for text in piece)


def _pieces(inputs: Texts | Array, pairs: Texts | None) -> Iterator[Any]:
    """Cut rows into pieces, so that a billion of them never become Python strings at once."""
    for begin in range(0, len(inputs), _PIECE):
        piece = _piece(inputs, begin)
        if pairs is not None:
            piece = [f"{text}{PAIR_MARK}{pair or ''}" for text, pair in zip(piece, _piece(pairs, begin), strict=True)]
        yield piece


def _piece(rows: Texts | Array, begin: int) -> Any:
    if isinstance(rows, pa.ChunkedArray):
        return rows.slice(begin, _PIECE).to_pylist()
    return rows[begin : begin + _PIECE]


def _sampled(train: Side, seed: int) -> Side:
    """Draw the rows that the rungs learn from, where there are too many."""
    rows = sample_rows(train.rows, seed=seed)
    return train if len(rows) == len(train) else train.take(rows)


def sample_rows(rows: Rows, *, seed: int) -> Array:
    """Draw rows with at most `MAX_UNITS` units (`MAX_TOKENS` where these are words or tokens), and at least one row."""
    sizes = np.diff(rows.encoded.units)
    most = MAX_TOKENS if rows.encoded.has_picks else MAX_UNITS
    if sizes.sum() <= most:
        return np.arange(len(rows))
    order = np.random.default_rng(seed).permutation(len(rows))
    held = max(1, int(np.searchsorted(np.cumsum(sizes[order]), most, side="right")))
    return np.sort(order[:held])


def _refuse(path: Path, foreign: Sequence[str]) -> None:
    if foreign:
        raise BundleError(
            f"{path}: holds {', '.join(sorted(foreign))}, which no baseline has; it was not loaded.",
            tip="Use only runs that you trust, or train again.",
        )

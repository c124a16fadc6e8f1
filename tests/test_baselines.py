"""The cheap rungs learn, are stored safely, and answer the same when they come back."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import skops.io
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler

from bertsmith import baselines
from bertsmith.baselines import Rung, Side, climb, load, save_rungs
from bertsmith.errors import BundleError
from bertsmith.examples import LabelSet
from bertsmith.tasks import Rows
from bertsmith.tasks.multi_label import MultiLabel
from bertsmith.tasks.single_label import SingleLabel
from bertsmith.tasks.token_labels import TokenLabels
from tests.tasks import token_rows
from tests.tasks.made import encoded_of, examples_of, rows_of

Array = np.ndarray[Any, Any]
WORDS = (("refund", "money", "invoice"), ("late", "parcel", "courier"), ("login", "password", "account"))


def side(rows: int, *, seed: int, classes: int = 3, noise: float = 0.3) -> Side:
    """Make texts whose topic words tell the label, and features of which `mean` tells more than `cls`."""
    generator = np.random.default_rng(seed)
    targets = np.arange(rows) % classes
    filler = np.array(["the", "my", "please", "when", "today", "again"])
    texts = [
        " ".join([*generator.choice(filler, 4), generator.choice(WORDS[target]), generator.choice(filler)])
        for target in targets
    ]
    signal = np.eye(3)[targets] @ np.random.default_rng(0).normal(size=(3, 8))
    features = {
        "cls": (signal + generator.normal(scale=10 * noise, size=(rows, 8))).astype(np.float32),
        "mean": (signal + generator.normal(scale=noise, size=(rows, 8))).astype(np.float32),
    }
    return Side(known(texts, targets, classes=max(classes, 3)), features)


def known(texts: Any, targets: Array, *, classes: int = 3, pairs: Any = None, weights: Array | None = None) -> Rows:
    """Make rows of texts (or pairs) whose classes are known."""
    names = tuple(f"class {target}" for target in range(classes))
    columns = {"text": texts, "label": [names[target] for target in targets]}
    columns |= {} if pairs is None else {"text_pair": pairs}
    weights = np.ones(len(targets)) if weights is None else weights
    return Rows(examples_of(**columns), encoded_of(len(targets)), targets, weights, LabelSet(names))


def retold(side: Side, *, keep_features: bool = True, **changes: Any) -> Side:
    """Make the same side with other texts, targets or weights."""
    rows = side.rows
    parts = {"texts": rows.examples.column("text").to_pylist(), "targets": rows.targets, "weights": rows.weights}
    return Side(known(**{**parts, **changes}), side.features if keep_features else {})


def sides() -> dict[str, Side]:
    """Make all sides of a toy data set."""
    return {"train": side(120, seed=1), "validation": side(40, seed=2), "test": side(60, seed=3)}


@pytest.fixture(scope="module")
def rungs() -> list[Rung]:
    """Climb the toy data set's ladder."""
    return climb(SingleLabel(), sides(), outputs=3, seed=17, features_seconds=100.0)


def accuracy(rung: Rung, targets: Array) -> float:
    """Measure the share of right answers."""
    return float((rung.probabilities.argmax(axis=1) == targets).mean())


def test_each_rung_learns_what_it_can(rungs: list[Rung]) -> None:
    """Majority stays at the largest share; words and features tell the labels of unseen rows."""
    targets = sides()["test"].rows.targets
    assert [rung.name for rung in rungs] == ["majority", "tfidf", "frozen"]
    majority, tfidf, frozen = (accuracy(rung, targets) for rung in rungs)
    assert majority == pytest.approx(1 / 3)
    assert tfidf > 0.95
    assert frozen > 0.95


def test_probabilities_have_a_column_for_each_label(rungs: list[Rung]) -> None:
    """Answers are float64 `(rows, labels)` and add up to 1."""
    for rung in rungs:
        assert rung.probabilities.shape == (60, 3)
        assert rung.probabilities.dtype == np.float64
        np.testing.assert_allclose(rung.probabilities.sum(axis=1), 1, atol=1e-12)


def test_details_and_seconds_say_what_was_done(rungs: list[Rung]) -> None:
    """Each rung names what it is made of; the frozen one counts the seconds of its features."""
    majority, tfidf, frozen = rungs
    vocabulary = tfidf.model.pipeline["tfidf"].vocabulary_
    strength = tfidf.model.pipeline["classify"].C
    assert majority.detail == "the same for every row, from the train rows"
    assert tfidf.detail == f"1-2-grams, {len(vocabulary):,} features, C={strength:g}"
    assert frozen.detail == f"mean pooling, C={frozen.model.pipeline['classify'].C:g}"
    assert 0 < tfidf.seconds < 100 < frozen.seconds < 200


def test_the_view_is_chosen_on_the_validation_rows() -> None:
    """Where [CLS] tells more than the mean, the frozen rung takes [CLS]."""
    turned = {
        name: dataclasses.replace(each, features={"cls": each.features["mean"], "mean": each.features["cls"]})
        for name, each in sides().items()
    }
    frozen = climb(SingleLabel(), turned, outputs=3, seed=17)[-1]
    assert frozen.model.view == "cls"
    assert frozen.detail.startswith("cls pooling, C=")


def test_the_strength_is_the_best_on_the_validation_rows() -> None:
    """No other strength of the list has a better validation accuracy than the one that was taken."""
    noisy = {
        "train": side(90, seed=4, noise=2),
        "validation": side(300, seed=5, noise=2),
        "test": side(3, seed=6),
    }
    frozen = climb(SingleLabel(), noisy, outputs=3, seed=17)[-1]
    validation = noisy["validation"]
    view, taken = frozen.model.view, frozen.model.pipeline["classify"].C
    scaler = frozen.model.pipeline["scale"]

    def by(strength: float) -> float:
        model = LogisticRegression(C=strength, max_iter=1000, random_state=17)
        model.fit(scaler.transform(noisy["train"].features[view]), noisy["train"].rows.targets)
        return float(model.score(scaler.transform(validation.features[view]), validation.rows.targets))

    scores = {strength: by(strength) for strength in baselines.FROZEN_STRENGTHS}
    assert len(set(scores.values())) > 1
    assert scores[taken] == max(scores.values())


@pytest.mark.parametrize("absent", ["missing", "empty"])
def test_without_validation_rows_the_usual_settings_are_taken(absent: str) -> None:
    """C=10 for TF-IDF, mean pooling and C=0.03 for the frozen rung."""
    given = sides()
    given["validation"] = given["validation"].take(np.zeros(0, np.int64))
    if absent == "missing":
        del given["validation"]
    _, tfidf, frozen = climb(SingleLabel(), given, outputs=3, seed=17)
    assert tfidf.detail.endswith(" features, C=10")
    assert frozen.detail == "mean pooling, C=0.03"


def test_labels_without_train_rows_have_probability_zero() -> None:
    """Every label keeps its column, also where no train row has it."""
    given = {"train": side(80, seed=1, classes=2), "test": side(60, seed=3)}
    for rung in climb(SingleLabel(), given, outputs=5, seed=17):
        assert rung.probabilities.shape == (60, 5)
        assert rung.probabilities[:, 2:].max() == 0
        np.testing.assert_allclose(rung.probabilities.sum(axis=1), 1, atol=1e-12)


def test_weights_move_the_majority() -> None:
    """The prior is that of the weighted rows."""
    train = retold(side(3, seed=1), weights=np.array([1.0, 2.0, 1.0]))
    majority = climb(SingleLabel(), {"train": train, "test": side(2, seed=2)}, outputs=3, seed=17)[0]
    np.testing.assert_allclose(majority.probabilities, [[0.25, 0.5, 0.25]] * 2)


def test_weights_reach_the_learned_rungs() -> None:
    """Rows of weight 0 teach nothing: the answers are those of the other rows alone."""
    train = side(120, seed=1)
    flipped = retold(train, targets=(train.rows.targets + (np.arange(120) < 60)) % 3)
    weighted = retold(flipped, weights=(np.arange(120) >= 60).astype(np.float64))
    test = side(60, seed=3)
    for rung in climb(SingleLabel(), {"train": weighted, "test": test}, outputs=3, seed=17)[1:]:
        assert accuracy(rung, test.rows.targets) > 0.9


def test_rungs_without_anything_to_learn_from_are_left_out() -> None:
    """No features, no frozen rung; no words, no TF-IDF; one label, only the majority."""
    plain = {name: dataclasses.replace(each, features={}) for name, each in sides().items()}
    assert [rung.name for rung in climb(SingleLabel(), plain, outputs=3, seed=1)] == ["majority", "tfidf"]
    empty = {name: retold(each, texts=[""] * len(each)) for name, each in sides().items()}
    assert [rung.name for rung in climb(SingleLabel(), empty, outputs=3, seed=1)] == ["majority", "frozen"]
    single = {name: retold(each, targets=0 * each.rows.targets) for name, each in sides().items()}
    assert [rung.name for rung in climb(SingleLabel(), single, outputs=3, seed=1)] == ["majority"]


@pytest.mark.parametrize("words", [("我要退款", "包裹晚了", "不能登录"), ("😀", "📦", "🔑")], ids=["chinese", "emoji"])
def test_texts_without_spaces_are_read_by_characters(words: tuple[str, ...]) -> None:
    """Scripts that write no spaces, and texts without words, are learned from their characters."""
    given = {
        name: retold(each, texts=[f"{words[target]}。" for target in each.rows.targets], keep_features=False)
        for name, each in sides().items()
    }
    tfidf = climb(SingleLabel(), given, outputs=3, seed=17)[1]
    assert tfidf.detail.startswith("1-3-grams of characters, ")
    assert accuracy(tfidf, given["test"].rows.targets) == 1


def test_both_texts_of_a_pair_are_read() -> None:
    """Where only the second text tells the label, TF-IDF finds it; a missing one is an empty text."""
    given = {
        name: retold(
            each, texts=["same"] * len(each), pairs=each.rows.examples.column("text").to_pylist(), keep_features=False
        )
        for name, each in sides().items()
    }
    tfidf = climb(SingleLabel(), given, outputs=3, seed=17)[1]
    assert accuracy(tfidf, given["test"].rows.targets) > 0.95
    lists = tfidf.model.predict_proba(["same"] * 60, given["test"].rows.examples.column("text_pair").to_pylist())
    assert np.array_equal(lists, tfidf.probabilities)
    nothing = pa.chunked_array([pa.array([None], pa.string())])
    assert np.array_equal(tfidf.model.predict_proba(["same"], nothing), tfidf.model.predict_proba(["same"], [""]))


def test_large_train_sides_are_sampled_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit a seeded sample is learned from, and the detail tells."""
    monkeypatch.setattr(baselines, "MAX_UNITS", 60)
    given = sides()
    rungs = climb(SingleLabel(), given, outputs=3, seed=17)
    assert all(rung.detail.endswith(", 60 of 120 train rows") for rung in rungs)
    assert accuracy(rungs[1], given["test"].rows.targets) > 0.9
    again = climb(SingleLabel(), given, outputs=3, seed=17)
    assert [rung.detail for rung in again] == [rung.detail for rung in rungs]


def test_the_same_seed_gives_the_same_answers(rungs: list[Rung]) -> None:
    """Climbing twice gives every probability bit by bit."""
    for first, second in zip(rungs, climb(SingleLabel(), sides(), outputs=3, seed=17), strict=True):
        assert np.array_equal(first.probabilities, second.probabilities)


def test_an_empty_test_side_has_no_answers() -> None:
    """Without test rows the rungs are built and answer nothing."""
    given = {**sides(), "test": side(60, seed=3).take(np.zeros(0, np.int64))}
    assert [rung.probabilities.shape for rung in climb(SingleLabel(), given, outputs=3, seed=1)] == [(0, 3)] * 3


def test_answers_do_not_depend_on_pieces(rungs: list[Rung], monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows answered seven at a time have the probabilities of rows answered together."""
    monkeypatch.setattr(baselines, "_PIECE", 7)
    for rung in rungs:
        np.testing.assert_allclose(rung.model.answer(sides()["test"]), rung.probabilities, rtol=1e-6)


def test_a_stored_rung_answers_the_same(rungs: list[Rung], tmp_path: Path) -> None:
    """Every rung comes back from its skops file with identical probabilities; no file is a pickle."""
    save_rungs(rungs, tmp_path / "baselines")
    assert sorted(path.name for path in (tmp_path / "baselines").iterdir()) == [
        "frozen.skops",
        "majority.skops",
        "tfidf.skops",
    ]
    for rung in rungs:
        back = load(tmp_path / "baselines", rung.name)
        assert np.array_equal(back.answer(sides()["test"]), rung.probabilities)
        assert (back.view, back.outputs, back.task.name) == (rung.model.view, 3, "single-label")


def test_the_vocabulary_has_plain_integers(rungs: list[Rung]) -> None:
    """No place in the vocabulary is a numpy integer, which skops would take seconds over."""
    assert {type(place) for place in rungs[1].model.pipeline["tfidf"].vocabulary_.values()} == {int}


def words_side(count: int, *, seed: int) -> Side:
    """Sentences whose words tell their tags, all but `may`, and a feature for each tag."""
    generator = np.random.default_rng(seed)
    tags = {"Ann": "B-PER", "Rome": "B-LOC", "runs": "O", "to": "O", "may": "O"}
    sentences = [generator.choice(list(tags), generator.integers(2, 7)).tolist() for _ in range(count)]
    given = [
        [tags[word] if word != "may" or generator.random() < 0.7 else "B-PER" for word in each] for each in sentences
    ]
    rows = token_rows.rows_of(token_rows.examples_of(given, sentences))
    noise = generator.normal(scale=0.3, size=(len(rows.targets), 3))
    return Side(rows, {"token": (np.eye(3)[rows.targets] + noise).astype(np.float32)})


def test_the_words_rung_gives_each_word_its_most_frequent_tag(tmp_path: Path) -> None:
    """Counted by hand over the train rows; a word that never occurred there gets the most frequent tag of all."""
    given = {name: words_side(40, seed=seed) for seed, name in enumerate(("train", "validation", "test"))}
    rungs = climb(TokenLabels(), given, outputs=3, seed=17)
    assert [rung.name for rung in rungs] == ["majority", "words", "frozen"]
    words, _ = TokenLabels().unit_texts(given["train"].rows)
    seen: dict[str, Counter[int]] = {}
    for word, target in zip(list(words), given["train"].rows.targets.tolist(), strict=True):
        seen.setdefault(str(word), Counter())[target] += 1
    assert len(seen["may"]) == 2
    most = {word: found.most_common(1)[0][0] for word, found in seen.items()}
    asked, _ = TokenLabels().unit_texts(given["test"].rows)
    assert rungs[1].probabilities.argmax(axis=1).tolist() == [most[str(word)] for word in list(asked)]
    overall = Counter(given["train"].rows.targets.tolist()).most_common(1)[0][0]
    assert rungs[1].model.predict_proba(["never"]).argmax() == overall

    save_rungs(rungs, tmp_path)
    for rung in rungs:
        assert np.array_equal(load(tmp_path, rung.name).answer(given["test"]), rung.probabilities)
    assert [rung.holds_words for rung in rungs] == [False, True, False]
    assert rungs[2].model.view == "token"


def test_taken_rows_keep_the_features_of_their_words() -> None:
    """Where units are words, taking rows takes their words' features, in the order of the rows."""
    side = words_side(6, seed=3)
    units = side.rows.encoded.units
    taken = side.take(np.array([4, 1]))
    expected = [side.features["token"][units[row] : units[row + 1]] for row in (4, 1)]
    assert np.array_equal(taken.features["token"], np.concatenate(expected))
    assert len(taken) == 2


def labels_side(rows: int, *, seed: int) -> Side:
    """Texts with one label for each of two topics that occur in them."""
    generator = np.random.default_rng(seed)
    gold = generator.random((rows, 2)) < 0.4
    texts = [" ".join(["please", *(generator.choice(WORDS[place]) for place in np.flatnonzero(row))]) for row in gold]
    names = [[name for name, there in zip(("late", "money"), row, strict=True) if there] for row in gold]
    task = MultiLabel()
    return Side(rows_of(task, examples_of(text=texts, labels=pa.array(names, pa.list_(pa.string())))))


def test_decisions_are_tuned_on_calibration_rows_and_no_others() -> None:
    """Each rung's thresholds are those of its own answers to the calibration rows; without these none is tuned."""
    task = MultiLabel()
    given = {name: labels_side(60, seed=seed) for seed, name in enumerate(("train", "validation", "test"))}
    calibration = labels_side(40, seed=9)
    rungs = climb(task, {**given, "calibration": calibration}, outputs=2, seed=17)
    assert [rung.name for rung in rungs] == ["majority", "tfidf"]
    for rung in rungs:
        assert rung.decision == task.decide(calibration.rows, rung.model.answer(calibration))
        assert set(rung.decision["thresholds"]) == {"late", "money"}
    assert [rung.decision for rung in climb(task, given, outputs=2, seed=17)] == [{}, {}]


def test_a_file_with_foreign_types_is_refused(tmp_path: Path) -> None:
    """A file that asks for a function of the system is refused before anything of it is built."""
    evil = Pipeline([("run", FunctionTransformer(os.getcwd))])
    path = tmp_path / "tfidf.skops"
    skops.io.dump({"task": "single-label", "outputs": 3, "view": "", "pipeline": evil}, path)
    asked_for = skops.io.get_untrusted_types(file=path)
    assert asked_for
    with pytest.raises(BundleError) as caught:
        load(tmp_path, "tfidf")
    assert str(caught.value) == (
        f"{path}: holds {', '.join(asked_for)}, which no baseline has; it was not loaded.\n"
        "  Use only runs that you trust, or train again."
    )


def test_a_file_with_another_model_is_refused(tmp_path: Path) -> None:
    """A harmless scikit-learn type that no rung is made of is refused by name."""
    other = Pipeline([("scale", MinMaxScaler())])
    skops.io.dump({"task": "single-label", "outputs": 3, "view": "", "pipeline": other}, tmp_path / "frozen.skops")
    with pytest.raises(BundleError) as caught:
        load(tmp_path, "frozen")
    assert str(caught.value) == (
        f"{tmp_path / 'frozen.skops'}: holds MinMaxScaler, which no baseline has; it was not loaded.\n"
        "  Use only runs that you trust, or train again."
    )


def test_a_missing_rung_is_named_with_those_that_are_there(rungs: list[Rung], tmp_path: Path) -> None:
    """The error lists what the folder holds."""
    save_rungs(rungs[:2], tmp_path)
    with pytest.raises(BundleError) as caught:
        load(tmp_path, "frozen")
    assert str(caught.value) == (f"{tmp_path / 'frozen.skops'}: no such baseline. The folder holds: majority, tfidf.")


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    """What is no skops file is named as unreadable."""
    (tmp_path / "tfidf.skops").write_bytes(b"not a zip")
    with pytest.raises(BundleError) as caught:
        load(tmp_path, "tfidf")
    assert str(caught.value) == (
        f"{tmp_path / 'tfidf.skops'}: not readable: File is not a zip file.\n  Copy the run again, or train again."
    )

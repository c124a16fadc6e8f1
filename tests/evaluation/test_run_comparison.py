"""Runs are compared by the answers that they wrote down, row by row, and told apart only where they differ."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertsmith.errors import DataError, UsageError
from bertsmith.evaluation.answered import matched, read_answered, shared_labels
from bertsmith.evaluation.compare import compare
from bertsmith.evaluation.holm import holm
from bertsmith.evaluation.run_comparison import RunComparison, compare_pairs, compare_runs
from bertsmith.evaluation.seeds import spread
from bertsmith.tasks import Rows, Task, task_named
from bertsmith.tasks.single_label import SingleLabel
from tests.evaluation.fakes import GoldRows, one_hot
from tests.evaluation.written_runs import labelled, right_on, write_labelled, write_run
from tests.tasks import test_question_answering as questions
from tests.tasks import token_rows
from tests.tasks.made import examples_of, rows_of

Array = np.ndarray[Any, Any]
GENERATOR = np.random.default_rng


def noisy(truth: Array, noise: float, seed: int) -> Array:
    """Make probabilities that lean to the truth."""
    scores = truth + noise * GENERATOR(seed).random(truth.shape)
    return np.asarray(scores / scores.sum(axis=1, keepdims=True))


def of_labels(name: str) -> tuple[Task, Rows, list[Array]]:
    task = task_named(name)
    gold = GENERATOR(0).integers(1, 4, size=90)
    rows = rows_of(task, examples_of(label=[str(each) for each in gold]))
    return task, rows, [noisy(np.eye(3)[gold - 1], noise, 1) for noise in (2.0, 3.0)]


def of_sets() -> tuple[Task, Rows, list[Array]]:
    task = task_named("multi-label")
    truth = GENERATOR(0).random((80, 3)) < 0.4
    labels = [[name for name, given in zip("abc", row, strict=True) if given] for row in truth]
    rows = rows_of(task, examples_of(labels=labels))
    return task, rows, [np.clip(0.2 + 0.3 * truth + 0.5 * GENERATOR(seed).random((80, 3)), 0, 1) for seed in (1, 2)]


def of_numbers() -> tuple[Task, Rows, list[Array]]:
    task = task_named("regression")
    gold = GENERATOR(0).normal(size=70)
    rows = rows_of(task, examples_of(value=gold))
    return task, rows, [(gold + noise * GENERATOR(3).normal(size=70))[:, None] for noise in (0.5, 1.0)]


def of_tags() -> tuple[Task, Rows, list[Array]]:
    gold = [["O", "B-PER", "I-PER", "O"], ["B-LOC", "O"], ["O", "O", "O"]] * 9
    rows = token_rows.rows_of(token_rows.examples_of(gold))
    second = [["O", "B-PER", "O", "O"], ["B-LOC", "O"], ["O", "B-LOC", "O"]] * 9
    return task_named("token-labels"), rows, [token_rows.sure_of(tags, rows.labels.names) for tags in (gold, second)]


def of_questions() -> tuple[Task, Rows, list[Array]]:
    words = [(f"who {row}?", f"it was Ada number {row} here", [("Ada", 7)]) for row in range(8)]
    rows = questions.rows_of(questions.questions([*words, ("why?", "nobody knows", [])]))
    good = questions.logits_for(rows)
    bad = good.copy()
    bad[: len(bad) // 2] = GENERATOR(5).normal(size=(len(bad) // 2, 2))
    return task_named("question-answering"), rows, [good, bad]


MADE = {
    "single-label": lambda: of_labels("single-label"),
    "ordered": lambda: of_labels("ordered"),
    "multi-label": of_sets,
    "regression": of_numbers,
    "token-labels": of_tags,
    "question-answering": of_questions,
}


@pytest.mark.parametrize("name", MADE)
def test_files_suffice_for_every_task(name: str, tmp_path: Path) -> None:
    """Metrics, differences and intervals from the files equal those from the models' own probabilities."""
    task, rows, answers = MADE[name]()
    decisions = [task.decide(rows, each) for each in answers]
    for run, each, decision in zip("ab", answers, decisions, strict=True):
        write_run(tmp_path / run, task, rows, each, decision=decision)
    found = compare_runs([tmp_path / "a", tmp_path / "b"], seed=4)
    for run, each, decision in zip(found.runs, answers, decisions, strict=True):
        counted = task.counted(task.statistics(rows, each, decision).sums)
        values = {metric: run.metrics[metric].value for metric in run.metrics}
        assert values == pytest.approx({metric: float(counted[metric]) for metric in task.compared})
    expected = compare(
        task, rows, answers[1], answers[0], decision_ours=decisions[1], decision_theirs=decisions[0],
        name="a", ours_name="b", seed=4,
    )  # fmt: skip
    assert found.pairs[0].comparison == expected
    assert found.runs[0].metrics != found.runs[1].metrics
    assert (found.task, found.rows, found.notes) == (name, len(rows), ())
    json.dumps(found.as_json(), allow_nan=False)


def test_the_better_run_is_named_whatever_the_order(tmp_path: Path) -> None:
    """The last sentence says which of two runs is better, by how much, with the interval, in points."""
    gold = ["good"] * 400
    a = write_labelled(tmp_path / "a", gold, right_on(400, slice(0, 300)))
    b = write_labelled(tmp_path / "b", gold, right_on(400, slice(0, 380)))
    for paths in ([a, b], [b, a]):
        found = compare_runs(paths)
        better = found.pairs[0].better
        assert better is not None
        low, high = (100 * end for end in (better.differences["accuracy"].low, better.differences["accuracy"].high))
        assert found.sentence == f"b is better than a by 20.0 points of accuracy [{low:.1f}, {high:.1f}]"
        assert 15 < low < 20 < high < 25
        assert found.leader == "b"


def test_runs_that_do_not_differ(tmp_path: Path) -> None:
    """Where chance explains the difference, the sentence says so and gives the difference with its interval."""
    gold = ["good"] * 100
    a = write_labelled(tmp_path / "a", gold, right_on(100, slice(0, 80)))
    b = write_labelled(tmp_path / "b", gold, right_on(100, slice(2, 83)))
    found = compare_runs([a, b])
    each = found.pairs[0].comparison.differences["accuracy"]
    interval = f"[{100 * each.low:.1f}, {100 * each.high:.1f}]"
    assert found.sentence == f"these runs do not differ: b minus a is +1.0 points of accuracy {interval}"
    assert found.pairs[0].better is None


def of_three(tmp_path: Path, **right: slice) -> RunComparison:
    """Compare runs that were right on slices of 200 rows."""
    gold = ["good"] * 200
    return compare_runs([write_labelled(tmp_path / n, gold, right_on(200, each)) for n, each in right.items()])


def test_the_best_of_three_runs(tmp_path: Path) -> None:
    """The sentence says whom the best run is better than and whom it does not differ from; p-values are Holm's."""
    found = of_three(tmp_path, a=slice(0, 120), b=slice(0, 180), c=slice(0, 178))
    better = found.pairs[0].better
    assert better is not None
    assert found.sentence == f"b is better than a by {better.amount}; it does not differ from c"
    assert better.amount.startswith("30.0 points of accuracy [")
    corrected = [pair.as_json()["mcnemar_p_corrected"] for pair in found.pairs]
    assert corrected == holm(np.array([pair.as_json()["mcnemar_p"] for pair in found.pairs])).tolist()


def test_three_runs_that_do_not_differ(tmp_path: Path) -> None:
    """Of runs that do not differ the largest difference is given, by size, not by place."""
    found = of_three(tmp_path, a=slice(3, 165), b=slice(0, 160), c=slice(2, 163))
    difference = found.pairs[0].comparison.difference
    assert found.sentence == f"these runs do not differ: the largest difference, b minus a, is {difference}"
    assert difference.startswith("-1.0 points of accuracy [")


def test_a_leader_that_differs_from_none(tmp_path: Path) -> None:
    """The best run may disagree too much with the others to differ from them, while two others differ."""
    gold = ["good"] * 200
    given = {name: right_on(200, each) for name, each in {"a": slice(0, 100), "b": slice(0, 109)}.items()}
    given["c"] = right_on(200, slice(90, 200))
    found = compare_runs([write_labelled(tmp_path / name, gold, each) for name, each in given.items()])
    better = found.pairs[0].better
    assert found.leader == "c"
    assert better is not None
    assert found.sentence == f"b is better than a by {better.amount}; no other two of these runs differ"


def test_a_lower_loss_leads(tmp_path: Path) -> None:
    """Of numbers the run with the lower error is better, told in plain numbers."""
    task, rows, (near, far) = of_numbers()
    write_run(tmp_path / "far", task, rows, far)
    write_run(tmp_path / "near", task, rows, near)
    found = compare_runs([tmp_path / "far", tmp_path / "near"])
    better = found.pairs[0].better
    assert found.leader == "near"
    assert better is not None
    assert found.sentence == f"near is better than far by {better.amount}"
    assert "of MSE [" in better.amount
    assert found.pairs[0].p_value is None


def test_rows_are_matched_by_what_they_say(tmp_path: Path) -> None:
    """Another file with the same rows in another order gives the same comparison."""
    gold, texts = ["good"] * 30 + ["bad"] * 10, [f"review {row}" for row in range(40)]
    given = right_on(40, slice(0, 25))
    a = write_labelled(tmp_path / "a", gold, ["good"] * 40, text=texts)
    b = write_labelled(tmp_path / "b", gold, given, text=texts)
    order = GENERATOR(1).permutation(40)
    parts = ([each[row] for row in order] for each in (gold, given, texts))
    shuffled = dict(zip(("gold", "given", "text"), parts, strict=True))
    c = write_labelled(tmp_path / "c", **shuffled, file=["other.csv"] * 40)
    assert compare_runs([a, b]).pairs[0].comparison.differences == compare_runs([a, c]).pairs[0].comparison.differences
    assert compare_runs([a, c]).notes == ()


def test_pairs_are_told_apart_by_both_texts(tmp_path: Path) -> None:
    """Rows with the same first text and other second texts are other rows."""
    same = {"text": ["q", "q", "q"], "names": ("bad", "good")}
    a = write_labelled(tmp_path / "a", ["good"] * 3, ["good", "bad", "bad"], text_pair=["x", "y", "z"], **same)
    b = write_labelled(tmp_path / "b", ["good"] * 3, ["good", "bad", "bad"], text_pair=["z", "x", "w"], **same)
    kept, _ = matched(read_answered([a, b]))
    assert [run.table.column("text_pair").to_pylist() for run in kept] == [["x", "z"], ["x", "z"]]
    assert [run.table.column("guess").to_pylist() for run in kept] == [["good", "bad"], ["bad", "good"]]


@given(
    st.lists(st.tuples(st.sampled_from("xyz"), st.sampled_from(["bad", "good"])), min_size=1, max_size=12), st.data()
)
@settings(max_examples=10, deadline=None)
def test_repeated_rows_are_matched_once(tmp_path_factory: Any, rows: list[tuple[str, str]], data: Any) -> None:
    """Each row has one partner at most, of the same text and gold answer, and as many have one as can have."""
    folder = tmp_path_factory.mktemp("runs")
    others = data.draw(st.lists(st.sampled_from(rows), min_size=1, max_size=12))
    for name, each in (("a", rows), ("b", others)):
        write_labelled(folder / name, [gold for _, gold in each], ["good"] * len(each), text=[text for text, _ in each])
    kept, _ = matched(read_answered([folder / "a", folder / "b"]))
    places = [
        list(zip(*(run.table.column(name).to_pylist() for name in ("text", "gold")), strict=True)) for run in kept
    ]
    assert places[0] == places[1]
    assert len(places[0]) == sum(min(rows.count(row), others.count(row)) for row in set(rows))
    assert all(len(set(run.table.column("row").to_pylist())) == len(run) for run in kept)


def test_only_shared_rows_count_and_it_is_said(tmp_path: Path) -> None:
    """Where test sides overlap in part, the comparison is on what they share, and a note says how much that is."""
    gold, texts = ["good"] * 60, [f"t{row}" for row in range(60)]
    a = write_labelled(tmp_path / "a", gold[:40], right_on(40, slice(0, 20)), text=texts[:40])
    b = write_labelled(tmp_path / "b", gold[:48], ["good"] * 48, text=texts[12:])
    found = compare_runs([a, b])
    assert found.rows == 28
    assert [run.test_rows for run in found.runs] == [40, 48]
    assert found.runs[0].metrics["accuracy"].value == pytest.approx(8 / 28)
    assert found.notes == (
        "the runs do not have the same test rows (a has 40, b has 48): they are compared on the 28 that all have.",
    )


def test_rows_with_another_gold_answer_are_not_compared(tmp_path: Path) -> None:
    """A row that was relabelled between two runs is left out, and a note counts such rows."""
    a = write_labelled(tmp_path / "a", ["good", "good", "bad"], ["good"] * 3)
    b = write_labelled(tmp_path / "b", ["good", "bad", "good"], ["good"] * 3)
    found = compare_runs([a, b])
    assert found.rows == 1
    assert found.notes == (
        "the runs do not have the same test rows (a has 3, b has 3): they are compared on the 1 that all have; "
        "2 more have other gold answers.",
    )


def test_runs_without_a_common_row(tmp_path: Path) -> None:
    """Where no row was answered by all, the error gives the sizes and what would help."""
    a = write_labelled(tmp_path / "a", ["good"] * 3, ["good"] * 3)
    b = write_labelled(tmp_path / "b", ["good"] * 2, ["good"] * 2, text=["x", "y"])
    c = write_labelled(tmp_path / "c", ["bad"] * 3, ["good"] * 3)
    tip = "Train them on the same file with the same --seed, or name the same test file for each: --test FILE."
    with pytest.raises(DataError) as error:
        compare_runs([a, b])
    assert str(error.value) == (
        "no test row was answered by all of these runs: none has the same text and gold answer everywhere "
        f"(a 3, b 2 test rows).\n  {tip}"
    )
    with pytest.raises(DataError) as error:
        compare_runs([a, c])
    assert str(error.value) == (
        "no test row was answered by all of these runs: none has the same text and gold answer everywhere "
        f"(a 3, c 3 test rows; 3 have the same text, but other gold answers).\n  {tip}"
    )


def test_runs_that_kept_no_texts(tmp_path: Path) -> None:
    """Without texts rows are told by file and row; where the data differ a note says that this is all there is."""
    gold = ["good"] * 4
    a = write_labelled(tmp_path / "a", gold, gold, texts=False)
    b = write_labelled(tmp_path / "b", gold, gold, text=["other texts"] * 4)
    c = write_labelled(tmp_path / "c", gold, gold, fingerprint="g", row=[2, 3, 4, 5])
    assert (compare_runs([a, b]).rows, compare_runs([a, b]).notes) == (4, ())
    found = compare_runs([a, c])
    assert found.rows == 3
    assert found.notes == (
        "the runs do not have the same test rows (a has 4, c has 4): they are compared on the 3 that all have.",
        "a kept no texts and the runs learned from different data: rows count as the same by file, row and gold answer alone.",
    )


@pytest.mark.parametrize(
    ("first", "second", "common"),
    [
        (["data/new.csv"] * 4, ["/home/me/data/new.csv"] * 4, 4),
        (["../data/new.csv"] * 4, ["C:\\me\\data\\new.csv"] * 4, 4),
        (["new.csv", "new.csv", "old.csv", "old.csv"], ["/d/new.csv", "/d/new.csv", "/d/old.csv", "/e/old.csv"], 0),
        (["new.csv", "old/new.csv"] * 2, ["new.csv", "old/new.csv"] * 2, 4),
        (["new.csv"] * 4, ["renew.csv"] * 4, 0),
    ],
)
def test_files_by_other_paths_are_the_same(tmp_path: Path, first: list[str], second: list[str], common: int) -> None:
    """Without texts a file is known again by how its path ends, unless two files of a run would become one."""
    gold, rows = ["good"] * 4, [1, 2, 3, 3]
    a = write_labelled(tmp_path / "a", gold, gold, texts=False, file=first, row=rows)
    b = write_labelled(tmp_path / "b", gold, gold, texts=False, file=second, row=rows)
    if common:
        kept, notes = matched(read_answered([a, b]))
        assert ([len(run) for run in kept], notes) == ([common] * 2, [])
        return
    with pytest.raises(DataError) as error:
        compare_runs([a, b])
    assert str(error.value) == (
        "no test row was answered by all of these runs: none has the same file and row and gold answer everywhere "
        "(a 4, b 4 test rows).\n  Train them on the same file with the same --seed, or name the same test file for "
        "each: --test FILE."
    )


@pytest.mark.parametrize("rows", [1, 5, 6])
def test_too_few_common_rows_cannot_tell(tmp_path: Path, rows: int) -> None:
    """Five rows that all favour one run do so by chance once in 16 times: too few to tell, whatever they say; six do."""
    a = write_labelled(tmp_path / "a", ["good"] * rows, ["bad"] * rows)
    b = write_labelled(tmp_path / "b", ["good"] * rows, ["good"] * rows)
    found = compare_runs([a, b])
    told, pair = found.as_json(), found.as_json()["pairs"][0]
    assert (told["rows"], told["rows_needed"]) == (rows, 6)
    if rows < 6:
        assert found.sentence == f"too few common rows to tell: {rows}, and on fewer than 6 no difference could show"
    else:
        assert found.sentence.startswith("b is better than a by 100.0 points of accuracy [")
    assert (pair["sentence"], pair["better"]) == (found.sentence, "b" if rows == 6 else None)
    c = write_labelled(tmp_path / "c", ["good"] * rows, ["bad"] * rows)
    assert compare_runs([a, b, c]).sentence == (
        f"too few common rows to tell: {rows}, and on fewer than 7 no difference could show"
    )


def test_labels_that_one_run_does_not_know(tmp_path: Path) -> None:
    """A run that never heard of a label is wrong on its rows, and right on the others as before."""
    gold = ["bad", "good", "odd", "odd"]
    a = write_labelled(tmp_path / "a", gold, gold, names=("bad", "good", "odd"))
    b = write_labelled(tmp_path / "b", ["bad", "good", "bad", "bad"], ["bad", "good", "good", "good"])
    table = read_answered([b])[0].table
    import pyarrow as pa
    import pyarrow.parquet as pq

    place = table.column_names.index("gold")
    pq.write_table(table.set_column(place, "gold", pa.array(gold)), b / "predictions.parquet")
    found = compare_runs([a, b])
    assert [run.metrics["accuracy"].value for run in found.runs] == [1.0, 0.5]
    assert found.rows == 4


@pytest.mark.parametrize(
    ("first", "second", "together"),
    [
        (("b", "c"), ("a", "c"), ("a", "b", "c")),
        (("1", "3", "10"), ("2", "3"), ("1", "2", "3", "10")),
        (("low", "medium"), ("medium", "high"), ("low", "medium", "high")),
        (("O", "B-PER", "I-PER"), ("O", "B-LOC"), None),
    ],
)
def test_labels_of_all_runs_keep_their_order(
    first: tuple[str, ...], second: tuple[str, ...], together: tuple[str, ...] | None, tmp_path: Path
) -> None:
    """The labels of all runs are put into one order, in which those of each run stand as they stood."""
    runs = [
        write_labelled(tmp_path / name, names[:1], names[:1], names=names)
        for name, names in (("a", first), ("b", second))
    ]
    found = shared_labels(read_answered(runs)).names
    assert together is None or found == together
    assert set(found) == {*first, *second}
    for names in (first, second):
        assert tuple(name for name in found if name in names) == names


def test_labels_in_different_orders(tmp_path: Path) -> None:
    """Runs whose levels contradict each other are refused, with both orders."""
    orders = {"a": ("low", "high", "x"), "b": ("high", "low", "x")}
    runs = [write_labelled(tmp_path / name, ["x"], ["x"], names=names) for name, names in orders.items()]
    with pytest.raises(DataError) as error:
        compare_runs(runs)
    assert str(error.value) == (
        "the labels of the runs go in different orders: a has low, high, x; b has high, low, x.\n"
        "  Train them with the same --levels."
    )


def test_what_cannot_be_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too few runs, one named twice, other tasks, no run, no test rows, lost and broken files: an error each."""
    monkeypatch.chdir(tmp_path)
    a = write_labelled(Path("a"), ["good"], ["good"])
    other = write_run(Path("numbers"), *of_numbers()[:2], of_numbers()[2][0])
    empty = write_labelled(Path("empty"), [], [])
    lost, broken, unread = (write_labelled(Path(name), ["good"], ["good"]) for name in ("lost", "broken", "unread"))
    (lost / "predictions.parquet").unlink()
    (broken / "predictions.parquet").write_bytes(b"PAR1")
    (unread / "scores.json").write_text("{")
    (tmp_path / "none").mkdir()
    mend = "Train the run again; its manifest.json says what should lie there."
    wrong = {
        (): "two runs or more are compared; none was named.\n  bertsmith compare RUN RUN",
        (a,): "two runs or more are compared; 1 was named.\n  bertsmith compare RUN RUN",
        (a, Path("a/../a")): "a/../a: named twice. A run does not differ from itself.\n  Name two runs or more.",
        (a, other): "the runs have different tasks: a is single-label, numbers is regression.\n  Compare runs of one task.",
        (a, Path("none")): "none: this is no run of bertsmith (no manifest.json).\n  Is it the right folder?",
        (a, empty): "empty: the run had no test rows, so there is nothing to compare.\n"
        "  Train with a share of test rows: --shares 60,10,10,20.",
        (a, lost): f"lost/predictions.parquet: is missing.\n  {mend}",
        (a, broken): f"broken/predictions.parquet: cannot be read.\n  {mend}",
        (a, unread): f"unread/scores.json: cannot be read.\n  {mend}",
    }  # fmt: skip
    for paths, text in wrong.items():
        with pytest.raises((UsageError, DataError)) as error:
            compare_runs(paths)
        assert str(error.value) == text


def test_runs_of_one_name_are_called_by_their_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two folders of one name are told apart by the paths as they were given."""
    monkeypatch.chdir(tmp_path)
    paths = [write_labelled(Path(place) / "run", ["good"], ["good"]) for place in ("one", "two")]
    assert [run.name for run in compare_runs(paths).runs] == ["one/run", "two/run"]


def test_spread_over_seeds_is_told(tmp_path: Path) -> None:
    """A run that was trained with several seeds brings its spread into the notes and the JSON."""
    seeds = spread({1: {"accuracy": 0.8}, 2: {"accuracy": 0.9}}).as_json()
    a = write_labelled(tmp_path / "a", ["good"], ["good"], seeds=seeds)
    b = write_labelled(tmp_path / "b", ["good"], ["good"])
    found = compare_runs([a, b])
    assert found.notes == (f"a: {seeds['sentence']}",)
    assert [run["seeds"] for run in found.as_json()["runs"]] == [seeds, None]


def test_comparison_as_json(tmp_path: Path) -> None:
    """The JSON has the runs with their metrics, every pair with differences, tests and verdict, and the sentence."""
    gold = ["good"] * 100
    a = write_labelled(tmp_path / "a", gold, right_on(100, slice(0, 40)))
    b = write_labelled(tmp_path / "b", gold, right_on(100, slice(0, 90)))
    found = compare_runs([a, b])
    pair, (first, second) = found.pairs[0], found.runs
    assert json.loads(json.dumps(found.as_json(), allow_nan=False)) == {
        "task": "single-label",
        "rows": 100,
        "rows_needed": 6,
        "metric": "accuracy",
        "runs": [
            {"name": "a", "path": a.as_posix(), "test_rows": 100, "seeds": None,
             "metrics": {name: each.as_json() for name, each in first.metrics.items()}},
            {"name": "b", "path": b.as_posix(), "test_rows": 100, "seeds": None,
             "metrics": {name: each.as_json() for name, each in second.metrics.items()}},
        ],
        "pairs": [
            {"a": "a", "b": "b", "only_a_right": 0, "only_b_right": 50, "mcnemar_p": pair.p_value,
             "mcnemar_p_corrected": pair.p_value, "better": "b", "sentence": found.sentence,
             "metrics": {name: each.as_json() for name, each in pair.comparison.differences.items()}},
        ],
        "notes": [],
        "sentence": found.sentence,
    }  # fmt: skip


def equal_models(trial: int, models: int) -> list[Any]:
    """Let equally good models answer 100 rows of two labels."""
    generator = GENERATOR(trial)
    gold = generator.integers(2, size=100)
    rows = GoldRows(gold, labelled(["good"]).labels)
    wrong = generator.random((models, 100)) < 0.25
    return [SingleLabel().statistics(rows, one_hot(np.where(each, 1 - gold, gold), 2), {}) for each in wrong]


def test_many_equal_runs_are_rarely_told_apart() -> None:
    """Of 60 comparisons of four equal runs at most about 5 % find a difference; uncorrected far more would."""
    corrected = naive = uncovered = 0
    for trial in range(60):
        pairs = compare_pairs(SingleLabel(), "abcd", equal_models(trial, 4), seed=trial)
        corrected += any(pair.better is not None for pair in pairs)
        naive += any(pair.p_value is not None and pair.p_value <= 0.05 for pair in pairs)
        ends = [pair.comparison.differences["accuracy"] for pair in pairs]
        uncovered += any(not each.low <= 0 <= each.high for each in ends)
    assert corrected <= 7  # 3 expected at most; 7 is 2.4 standard deviations above
    assert uncovered <= 8
    assert naive > 8


def test_intervals_of_many_pairs_are_wider() -> None:
    """With 45 pairs each interval has the normal quantile of 1 - 0.05 / 45, and so do those of other metrics."""
    one = equal_models(1, 2)
    alone = compare_pairs(SingleLabel(), "ab", one, seed=0)[0].comparison.differences
    many = compare_pairs(SingleLabel(), "abcdefghij", [*one, *equal_models(2, 8)], seed=0)[0].comparison.differences
    for name in ("accuracy", "macro_f1"):
        value = alone[name].value
        assert many[name].value == value
        for end in ("low", "high"):
            wide, narrow = getattr(many[name], end) - value, getattr(alone[name], end) - value
            assert wide / narrow == pytest.approx(3.2610 / 1.9600, rel=1e-3)


@pytest.mark.shared_data
def test_two_models_of_banking77(shared_data: Path, tmp_path: Path) -> None:
    """On 3,080 real rows the difference of two naive Bayes models has scipy's paired bootstrap interval and p-value."""
    import gzip

    from scipy.stats import binomtest, bootstrap
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.naive_bayes import ComplementNB, MultinomialNB

    sides = {}
    for side in ("train", "test"):
        with gzip.open(shared_data / "banking77" / f"{side}.jsonl.gz", "rt", encoding="utf-8") as file:
            rows = [json.loads(line) for line in file]
        sides[side] = [row["text"] for row in rows], [row["label"] for row in rows]
    words = TfidfVectorizer()
    learned, asked = words.fit_transform(sides["train"][0]), words.transform(sides["test"][0])
    texts, gold = sides["test"]
    right, paths = [], []
    for name, model in (("multinomial", MultinomialNB()), ("complement", ComplementNB())):
        given = model.fit(learned, sides["train"][1]).predict(asked).tolist()
        right.append(np.array([each == answer for each, answer in zip(given, gold, strict=True)]))
        paths.append(write_labelled(tmp_path / name, gold, given, names=sorted(set(gold)), text=texts))
    found = compare_runs(paths).pairs[0]
    more = right[1].astype(float) - right[0]
    expected = bootstrap((more,), np.mean, n_resamples=2000, method="percentile", rng=0).confidence_interval
    each = found.comparison.differences["accuracy"]
    assert (each.value, each.low, each.high) == pytest.approx((more.mean(), *expected), abs=0.002)
    assert found.p_value == pytest.approx(binomtest(int((more > 0).sum()), int((more != 0).sum())).pvalue)
    assert found.better is not None
    assert found.better.sentence.startswith("multinomial is better than complement by ")

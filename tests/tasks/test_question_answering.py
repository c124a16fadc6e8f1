"""Questions answered by spans: the loss against a padded cross-entropy, decoding against a plain search."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertsmith.encoded import Encoded
from bertsmith.errors import DataError
from bertsmith.examples import Columns, Examples
from bertsmith.tasks import task_named
from bertsmith.tasks.answer_detail import question_word
from bertsmith.tasks.answer_findings import answer_findings
from bertsmith.tasks.answer_spans import MOST_TOKENS, N_BEST, best_spans, window_begins
from bertsmith.tasks.protocol import Array, Rows
from bertsmith.tasks.question_answering import AnswerPrediction, QuestionAnswering

TASK = QuestionAnswering()
ANSWERS = pa.list_(pa.struct([("text", pa.string()), ("start", pa.int32())]))
Gold = Sequence[tuple[str, int]] | None
CONTEXT = "The Eiffel Tower in Paris was built in 1889 by Gustave Eiffel."


def questions(rows: Sequence[tuple[str, str | None, Gold]], *, ids: Sequence[str] | None = None) -> Examples:
    """Make examples of (question, context, answers with their starts)."""
    answers = [None if gold is None else [{"text": text, "start": at} for text, at in gold] for _, _, gold in rows]
    columns: dict[str, Any] = {
        "text": pa.array([question for question, _, _ in rows], pa.string()),
        "text_pair": pa.array([context for _, context, _ in rows], pa.string()),
        "answers": pa.array(answers, ANSWERS),
        "file": pa.array(["quiz.json"] * len(rows)).dictionary_encode(),
        "row": pa.array(range(1, len(rows) + 1), pa.int64()),
    }
    if ids is not None:
        columns["id"] = pa.array(ids)
    return Examples(pa.table(columns), Columns("question"), "quiz.json")


def windows_of(examples: Examples, *, size: int = 1000, step: int = 1000) -> Encoded:
    """Cut contexts into windows of words and signs, each after [CLS], a question token and [SEP]."""
    table: dict[str, list[Any]] = {
        name: [] for name in ("input_ids", "token_type_ids", "row", "picks", "starts", "ends")
    }
    for row, context in enumerate(examples.column("text_pair").to_pylist()):
        spans = [found.span() for found in re.finditer(r"\w+|[^\w\s]", context)]
        for begin in range(0, max(len(spans) - size + step, 1), step):
            part = spans[begin : begin + size]
            table["input_ids"].append([2, 7, 3, *range(10, 10 + len(part)), 3])
            table["token_type_ids"].append([0, 0, 0] + [1] * (len(part) + 1))
            table["row"].append(row)
            table["picks"].append([0, *range(3, 3 + len(part))])
            table["starts"].append([-1, *(start for start, _ in part)])
            table["ends"].append([-1, *(end for _, end in part)])
    ints = pa.list_(pa.int32())
    types = [ints, pa.list_(pa.int8()), pa.int64(), ints, ints, ints]
    arrays = {name: pa.array(values, kind) for (name, values), kind in zip(table.items(), types, strict=True)}
    return Encoded(pa.table(arrays), np.zeros(len(examples), np.int32), 1000, 0)


def rows_of(examples: Examples, **windows: int) -> Rows:
    """Put examples and their windows together."""
    encoded, labels = windows_of(examples, **windows), TASK.labels(examples)
    return Rows(examples, encoded, TASK.targets(examples, encoded, labels), np.ones(len(examples)), labels)


def marked(rows: Rows) -> list[str]:
    """Read the targets of each window back as text; "" for [CLS]."""
    begins = window_begins(rows.encoded)
    ends = np.append(begins[1:], len(rows.targets))
    contexts = rows.examples.column("text_pair").to_pylist()
    found = []
    for begin, end, row in zip(begins, ends, rows.encoded.owners, strict=True):
        start, last = (begin + rows.targets[begin:end].argmax(axis=0)).tolist()
        first = int(rows.encoded.unit_starts[start])
        found.append("" if first < 0 else contexts[row][first : int(rows.encoded.unit_ends[last])])
    return found


def logits_for(rows: Rows, *, null: float = 3.0, gold: float = 10.0) -> Array:
    """Make logits of a model that knows the answers, with a lower score for "no answer" where it is right."""
    logits = np.where(rows.targets > 0, gold, 0.0)
    begins = window_begins(rows.encoded)
    logits[begins] = np.where(rows.targets[begins] > 0, null, 0.0)
    return logits


def test_the_name_finds_the_task() -> None:
    """The task is found by its name and keeps its promises to the stages."""
    task = task_named("question-answering")
    assert (task.role, task.unit, task.model_class) == ("answers", "token", "AutoModelForQuestionAnswering")
    assert (task.problem_type, task.pipeline_tag, task.stop_metric) == (None, "", "f1")
    assert set(task.compared) <= set(task.metrics)


def test_told() -> None:
    """What is to be learned is said in words; unanswerable questions only where there are any."""
    asked = questions([("Who?", "A b", [("b", 2)]), ("What?", "A b", []), ("When?", "C", [("C", 0)])])
    assert TASK.told(asked, TASK.labels(asked)) == "3 questions, 1 unanswerable, 2 contexts"
    assert TASK.told(asked.take(np.array([0, 2])), TASK.labels(asked)) == "2 questions, 2 contexts"
    assert TASK.counts(asked, TASK.labels(asked)) == {"questions": 3, "unanswerable": 1, "contexts": 2}
    assert TASK.strata(asked).tolist() == [1, 0, 1]
    assert TASK.classes(asked).tolist() == [-1, -1, -1]


def test_targets_mark_the_answer_where_it_is_whole() -> None:
    """A window that holds the first answer wholly learns it; every other one learns [CLS]."""
    gold = CONTEXT.index("built in 1889")
    rows = rows_of(questions([("When?", CONTEXT, [("built in 1889", gold), ("1889", 39)])]), size=6, step=3)
    assert marked(rows) == ["", "built in 1889", "built in 1889", ""]
    assert rows.targets.sum(axis=0).tolist() == [4.0, 4.0]
    assert rows.targets.dtype == np.float32


@pytest.mark.parametrize(
    ("gold", "read"),
    [
        ([(" Paris ", 19)], "Paris"),
        ([("ari", 21)], "Paris"),
        ([("Eiffel.", 55)], "Eiffel."),
        ([], ""),
        (None, ""),
        ([("  ", 3)], ""),
        ([("beyond", 900)], ""),
    ],
)
def test_targets_of_answers_that_fit_no_tokens(gold: Gold, read: str) -> None:
    """Outer blanks do not count, cut tokens are taken whole, and what is nowhere is no answer."""
    assert marked(rows_of(questions([("Where?", CONTEXT, gold)]))) == [read]


@settings(max_examples=60, deadline=None)
@given(
    st.text(alphabet=st.sampled_from("ab é漢😀.\n\u00a0"), min_size=1, max_size=40),
    st.data(),
    st.integers(1, 12),
)
def test_targets_map_back_to_the_characters(context: str, data: st.DataObject, size: int) -> None:
    """Whatever the characters, a window's target read back is the answer, widened to whole tokens."""
    start = data.draw(st.integers(0, len(context) - 1))
    end = data.draw(st.integers(start + 1, len(context)))
    rows = rows_of(questions([("?", context, [(context[start:end], start)])]), size=size, step=max(size // 2, 1))
    spans = [found.span() for found in re.finditer(r"\w+|[^\w\s]", context)]
    touched = [(one, other) for one, other in spans if other > start and one < end]
    wanted = context[touched[0][0] : touched[-1][1]] if touched else ""
    read = marked(rows)
    assert set(read) <= {wanted, ""}
    assert (wanted in read) or len(touched) > max(size // 2, 1)


def padded_cross_entropy(logits: Any, targets: Array, windows: Array) -> Any:
    """Cross-entropy over padded windows, as transformers' own question answering head computes it."""
    import torch

    padded = torch.nn.utils.rnn.pad_sequence(
        [logits[torch.tensor(windows == each)] for each in np.unique(windows)], batch_first=True, padding_value=-1e9
    )
    gold = torch.tensor(np.stack([targets[windows == each].argmax(axis=0) for each in np.unique(windows)]))
    loss = torch.nn.CrossEntropyLoss()
    return (loss(padded[..., 0], gold[:, 0]) + loss(padded[..., 1], gold[:, 1])) / 2


def test_the_loss_is_the_padded_cross_entropy() -> None:
    """The summed loss over its denominator is the mean over windows of start and end, large logits included."""
    import torch

    asked = [("When?", CONTEXT, [("1889", 39)]), ("Who?", "Gustave did.", []), ("Where?", CONTEXT, [("Paris", 20)])]
    rows = rows_of(questions(asked), size=5, step=3)
    logits = np.random.default_rng(3).normal(0, 30, rows.targets.shape)
    leaf = torch.tensor(logits, requires_grad=True)
    windows = torch.tensor(rows.encoded.unit_windows)
    summed = TASK.loss(leaf, torch.tensor(rows.targets), torch.tensor(rows.unit_weights), windows)
    count = TASK.denominator(rows.targets, rows.unit_weights)
    oracle = padded_cross_entropy(leaf, rows.targets, windows.numpy())
    assert count == len(rows.encoded.owners)
    assert float(summed.detach()) / count == pytest.approx(float(oracle.detach()), rel=1e-6)
    (ours,), (theirs,) = torch.autograd.grad(summed / count, leaf), torch.autograd.grad(oracle, leaf)
    assert torch.allclose(ours, theirs, atol=1e-7)


def test_weights_weigh_windows() -> None:
    """A row of weight 2 counts as if its windows stood there twice; a row of weight 0 not at all."""
    import torch

    rows = rows_of(questions([("When?", CONTEXT, [("1889", 39)]), ("Who?", "Gustave did.", [])]), size=5, step=3)
    windows = torch.tensor(rows.encoded.unit_windows)
    logits = torch.tensor(np.random.default_rng(4).normal(size=rows.targets.shape), dtype=torch.float32)
    targets = torch.tensor(rows.targets)
    counts = np.diff(rows.encoded.units)
    heavy, light = (np.repeat(each, counts).astype(np.float32) for each in ((2, 1), (1, 0)))
    both = TASK.loss(logits, targets, torch.tensor(heavy), windows)
    first = TASK.loss(logits, targets, torch.tensor(light), windows)
    once = TASK.loss(logits, targets, torch.ones(len(logits)), windows)
    assert float(both) == pytest.approx(float(once + first), rel=1e-6)
    assert TASK.denominator(rows.targets, heavy) == 2 * 4 + 1


def test_perfect_logits_give_the_gold_answers() -> None:
    """A model that knows the targets answers with the characters of the context, and scores 1."""
    rows = rows_of(questions([("When?", CONTEXT, [("1889", 39)]), ("Who?", CONTEXT, [("Gustave Eiffel", 47)])]))
    answers = TASK.decode(rows, logits_for(rows), {})
    assert [(each.answer, each.start, each.end, each.unknown) for each in answers] == [
        ("1889", 39, 43, False),
        ("Gustave Eiffel", 47, 61, False),
    ]
    assert TASK.measure(rows, logits_for(rows)) == {"exact_match": 1.0, "f1": 1.0}


def searched(rows: Rows, logits: Array, row: int) -> dict[tuple[int, int], float]:
    """Score every span of a question, window by window, pair by pair."""
    encoded = rows.encoded
    found: dict[tuple[int, int], float] = {}
    for window in encoded.windows_of([row]).tolist():
        units = np.flatnonzero(encoded.unit_windows == window)[1:].tolist()
        for first, last in itertools.product(units, units):
            if first <= last < first + MOST_TOKENS:
                span = (int(encoded.unit_starts[first]), int(encoded.unit_ends[last]))
                found[span] = max(found.get(span, -np.inf), float(logits[first, 0] + logits[last, 1]))
    return found


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(3, 20))
def test_decoding_finds_what_a_plain_search_finds(seed: int, size: int) -> None:
    """Where no window has more than 20 tokens, the n-best list is that of a search through all spans."""
    draw = np.random.default_rng(seed)
    contexts = [" ".join(["word"] * int(draw.integers(1, 40))) for _ in range(3)]
    rows = rows_of(questions([("?", context, []) for context in contexts]), size=size, step=max(size // 2, 1))
    logits = draw.normal(size=rows.targets.shape)
    spans = best_spans(rows.encoded, logits)
    for row in range(3):
        place = slice(spans.begins[row], spans.begins[row + 1])
        mine = list(zip(spans.starts[place].tolist(), spans.ends[place].tolist(), strict=True))
        oracle = searched(rows, logits, row)
        assert mine == sorted(oracle, key=lambda span: -oracle[span])[:N_BEST]
        assert spans.scores[place].tolist() == [oracle[span] for span in mine]
        nulls = [logits[np.flatnonzero(rows.encoded.unit_windows == window)[0]].sum()
                 for window in rows.encoded.windows_of([row])]  # fmt: skip
        assert spans.null[row] == min(nulls)


def test_answers_have_thirty_tokens_at_most() -> None:
    """A span of 30 tokens is given, one of 31 is not, and a question whose best starts lie behind its best ends too."""
    context = " ".join(f"w{number}" for number in range(100))
    rows = rows_of(questions([("?", context, [])] * 3))
    units = np.diff(rows.encoded.units)[0]
    logits = np.zeros((3, units, 2))
    logits[0, 1, 0] = logits[0, 30, 1] = 5
    logits[1, 1, 0] = logits[1, 31, 1] = 5
    logits[2, 61:81, 0] = logits[2, 11:31, 1] = np.linspace(5, 6, 20)
    logits[2, 78, 0] = 9
    answers = TASK.decode(rows, logits.reshape(-1, 2), {})
    lengths = [len(each.answer.split()) for each in answers]
    assert lengths[0] == 30
    assert lengths[1] < 31
    assert answers[2].answer.split()[0] == "w77"


def test_the_same_span_of_two_windows_counts_once() -> None:
    """Windows overlap: a span that both hold stands in the n-best list once, with the better score."""
    rows = rows_of(questions([("When?", CONTEXT, [("1889", 39)])]), size=8, step=4)
    logits = logits_for(rows)
    places = np.flatnonzero(rows.encoded.unit_starts == 39)
    assert len(places) == 2
    logits[places[0]] = 12
    answer = TASK.decode(rows, logits, {})[0]
    spans = [(each.start, each.end) for each in answer.alternatives]
    assert (answer.start, answer.end) == (39, 43)
    assert len(spans) == len(set(spans)) <= N_BEST + 1
    assert sum(each.score for each in answer.alternatives) == pytest.approx(1)
    assert [each.score for each in answer.alternatives] == sorted((e.score for e in answer.alternatives), reverse=True)
    assert best_spans(rows.encoded, logits).scores[0] == 24


def test_no_answer_is_given_above_the_threshold_only() -> None:
    """Without a threshold all is answered; with one, "no answer" must score higher than the best span by it."""
    rows = rows_of(questions([("Who?", "Gustave did.", [])]))
    logits = np.zeros_like(rows.targets, dtype=np.float64)
    logits[0] = 2.0
    always, at, below = (TASK.decode(rows, logits, decision)[0] for decision in (
        {}, {"no_answer": 4.0}, {"no_answer": 3.9}
    ))  # fmt: skip
    assert (always.answer, always.unknown) == ("Gustave", False)
    assert (at.answer, at.unknown) == ("Gustave", False)
    assert (below.answer, below.start, below.end, below.unknown) == ("", None, None, True)
    assert below.line == f"{below.score:.3f}  (no answer)"


def test_a_context_without_tokens_has_no_answer() -> None:
    """Nothing can be taken from an empty context, whatever the threshold."""
    rows = rows_of(questions([("Who?", "", []), ("Who?", "Eiffel", [("Eiffel", 0)])]))
    first, second = TASK.decode(rows, logits_for(rows), {})
    assert (first.answer, first.unknown, first.score) == ("", True, 1.0)
    assert second.answer == "Eiffel"
    alone = rows.take(np.array([0]))
    assert TASK.decode(alone, np.zeros((1, 2)), {})[0].unknown
    assert TASK.measure(alone, np.zeros((1, 2))) == {"exact_match": 1.0, "f1": 1.0}
    assert TASK.decide(alone, np.zeros((1, 2))) == {"no_answer": 0.0}


def test_json() -> None:
    """An answer's JSON has the promised keys and the types of its schema; alternatives only when asked for."""
    rows = rows_of(questions([("When?", CONTEXT, [("1889", 39)])]))
    answer = TASK.decode(rows, logits_for(rows), {})[0]
    plain = json.loads(json.dumps(answer.as_json()))
    assert list(plain) == TASK.answer_schema().names == ["answer", "start", "end", "score", "unknown"]
    assert pa.Table.from_pylist([plain, AnswerPrediction("", None, None, 0.5, True).as_json()], TASK.answer_schema())
    asked = answer.as_json(scores=True)
    assert asked["alternatives"][0] == {"answer": "1889", "start": 39, "end": 43, "score": answer.score}
    assert {"answer": "", "start": None, "end": None} in [
        {key: each[key] for key in ("answer", "start", "end")} for each in asked["alternatives"]
    ]
    assert answer.line == f"{answer.score:.3f}  1889"


def test_the_threshold_maximises_f1() -> None:
    """No threshold scores a higher F1 on the calibration rows than the tuned one."""
    draw = np.random.default_rng(5)
    asked = [("When?", CONTEXT, [("1889", 39)] if draw.random() < 0.5 else []) for _ in range(60)]
    rows = rows_of(questions(asked))
    logits = logits_for(rows, null=6) + draw.normal(0, 4, rows.targets.shape)
    tuned = TASK.decide(rows, logits)

    def scored(threshold: float) -> float:
        found = TASK.statistics(rows, logits, {"no_answer": threshold})
        return float(TASK.counted(found.sums)["f1"])

    everywhere = [*best_spans(rows.encoded, logits).margin.tolist(), -1e9, 1e9]
    assert scored(tuned["no_answer"]) == pytest.approx(max(map(scored, everywhere)), abs=1e-12)
    assert scored(tuned["no_answer"]) > max(scored(-1e9), scored(1e9))


def test_nothing_is_tuned_where_all_have_an_answer() -> None:
    """Without calibration rows, or without unanswerable ones among them, every question is answered."""
    rows = rows_of(questions([("When?", CONTEXT, [("1889", 39)])]))
    assert TASK.decide(rows, logits_for(rows)) == {}
    assert TASK.decide(rows.take(np.zeros(0, np.int64)), np.zeros((0, 2))) == {}


def test_statistics_recount_to_the_metrics() -> None:
    """Sums over cells give the same metrics as the answers themselves, for any resample."""
    asked = [("When?", CONTEXT, [("built in 1889", 30)]), ("Who?", CONTEXT, []), ("Where?", CONTEXT, [("Paris", 20)])]
    rows = rows_of(questions(asked * 5))
    logits = logits_for(rows) + np.random.default_rng(6).normal(0, 5, rows.targets.shape)
    found = TASK.statistics(rows, logits, {"no_answer": 0.0})
    assert TASK.measure(rows, logits) == pytest.approx(
        {name: float(value) for name, value in TASK.counted(found.sums).items()}
    )
    assert found.strata.tolist() == [1, 0, 1] * 5
    assert found.right is not None
    assert found.right.mean() == TASK.measure(rows, logits)["exact_match"]
    picked = np.random.default_rng(7).integers(len(rows), size=(8, len(rows)))
    sums = np.stack([found.values[found.cells[each]].sum(axis=0) for each in picked])
    drawn = TASK.counted(sums)["f1"]

    def asked_again(each: Array) -> float:
        answered = TASK.statistics(rows.take(each), logits[rows.encoded.flat(each)], {"no_answer": 0.0})
        return float(TASK.counted(answered.sums)["f1"])

    assert drawn == pytest.approx([asked_again(each) for each in picked])


def test_detail() -> None:
    """Figures of kinds of questions are there, add up to all rows, and name what was tuned."""
    rows = rows_of(questions([("When was it built?", CONTEXT, [("1889", 39)]), ("Name it.", CONTEXT, [])]))
    detail = TASK.detail(rows, logits_for(rows), {"no_answer": 0.5})
    one = {"rows": 1, "exact_match": 1.0, "f1": 1.0}
    assert detail == {
        "by_answer": {"answerable": one, "unanswerable": one},
        "by_answer_length": {"1 word": one, "no answer": one},
        "by_question_word": {"other": one, "when": one},
        "no_answer_accuracy": 1.0,
        "no_answer": 0.5,
    }
    assert json.loads(json.dumps(detail)) == detail
    assert question_word("To whom?") == "who"


def test_linear_models_find_marked_tokens() -> None:
    """The frozen rung learns start and end from features that show them, and stands in for a head."""
    rows = rows_of(questions([("When?", CONTEXT, [("built in 1889", 30)]), ("Who?", CONTEXT, [("Eiffel", 4)])] * 4))
    features = np.random.default_rng(8).normal(size=(len(rows.targets), 6))
    features[:, :2] += 6 * rows.targets
    model = TASK.fit_linear(features, rows.targets, rows.unit_weights, strength=1.0, seed=1)
    logits = TASK.linear_probabilities(model, features, outputs=2)
    weight, bias = TASK.linear_weights(model, outputs=2)
    assert (logits.shape, weight.shape, bias.shape) == ((len(features), 2), (2, 6), (2,))
    assert np.allclose(features @ weight.T + bias, logits)
    assert TASK.measure(rows, logits) == {"exact_match": 1.0, "f1": 1.0}


def test_linear_models_are_asked_through_a_pipeline() -> None:
    """What is fitted on scaled features answers the same behind its scaler; the constant model is constant."""
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    rows = rows_of(questions([("When?", CONTEXT, [("1889", 39)])] * 3))
    features = np.random.default_rng(9).normal(5, 3, size=(len(rows.targets), 4))
    scaler = StandardScaler().fit(features)
    model = TASK.fit_linear(scaler.transform(features), rows.targets, rows.unit_weights, strength=1.0, seed=1)
    whole = Pipeline([("scale", scaler), ("classify", model)])
    assert np.array_equal(
        TASK.linear_probabilities(whole, features, outputs=2),
        TASK.linear_probabilities(model, scaler.transform(features), outputs=2),
    )
    constant = TASK.linear_probabilities(TASK.fit_constant(rows.targets, rows.unit_weights), features, outputs=2)
    assert constant == pytest.approx(np.full((len(features), 2), rows.targets.mean()))


def test_linear_models_learn_from_some_of_the_tokens() -> None:
    """Of long contexts every start and end is learned from, and 40 of the other tokens a window; the same each time."""
    context = " ".join(f"w{number}" for number in range(300))
    rows = rows_of(questions([("?", context, [("w7", context.index("w7 "))])] * 2))
    seen: list[int] = []

    class Counted(np.ndarray[Any, Any]):
        def __getitem__(self, key: Any) -> Any:
            seen.append(len(key))
            return np.asarray(self)[key]

    features = np.random.default_rng(2).normal(size=(len(rows.targets), 3)) + rows.targets[:, :1]
    models = [
        TASK.fit_linear(features.view(Counted), rows.targets, rows.unit_weights, strength=1.0, seed=1) for _ in range(2)
    ]
    assert seen == [2 + 80, 2 + 80]
    one, other = (TASK.linear_weights(model, outputs=2) for model in models)
    assert np.array_equal(one[0], other[0])
    assert np.array_equal(one[1], other[1])


def test_unit_texts() -> None:
    """A unit's text is its token's characters; [CLS] has none."""
    rows = rows_of(questions([("Who?", "Gustave did.", [])]))
    assert TASK.unit_texts(rows) == (["", "Gustave", "did", "."], None)


@pytest.mark.parametrize(
    ("dropped", "message"),
    [
        ("text_pair", "quiz.json: no column of contexts."),
        ("answers", "quiz.json: no column of answers."),
    ],
)
def test_missing_columns_are_refused(dropped: str, message: str) -> None:
    """Without contexts or answers nothing can be scored, and the error says which is missing."""
    asked = questions([("Who?", "Gustave did.", [])])
    bare = Examples(asked.table.drop_columns([dropped]), asked.columns, asked.source)
    with pytest.raises(DataError) as error:
        TASK.require(bare, TASK.labels(bare))
    assert str(error.value) == (
        f"{message}\n  A question needs its context and, to be scored, its answers: a list of texts, empty for none."
    )


def test_missing_values_are_refused() -> None:
    """Rows without a context or without a list of answers are named; an empty list is an answer."""
    asked = questions([("Who?", "Gustave did.", [])] + [("Who?", "Gustave did.", None)] * 7)
    with pytest.raises(DataError) as error:
        TASK.require(asked, TASK.labels(asked))
    assert str(error.value) == (
        "quiz.json: no answers in 7 of 8 rows: quiz.json:2, quiz.json:3, quiz.json:4, quiz.json:5, quiz.json:6 "
        "and 2 more.\n  Fill them in or remove these rows; an empty list of answers says that there is none."
    )
    TASK.require(asked.take(np.array([0])), TASK.labels(asked))


def test_good_answers_have_no_findings() -> None:
    """Nothing is said about answers that stand where they are said to stand."""
    assert answer_findings(questions([("When?", CONTEXT, [("1889", 39)]), ("Who?", CONTEXT, [("Eiffel", 55)])])) == []


def found(examples: Examples) -> dict[str, tuple[str, str, tuple[str, ...]]]:
    """Give severity, message and rows of each finding."""
    return {each.kind: (each.severity, each.message, each.rows) for each in TASK.check(examples)}


def test_findings() -> None:
    """Each thing that is wrong with answers is said once, with its rows."""
    long = " ".join(["word"] * 31)
    asked = questions(
        [
            ("When?", CONTEXT, [("1889", 38)]),
            ("Who?", CONTEXT, [(" ", 3)]),
            ("What?", long, [(long, 0)]),
            ("Where?", CONTEXT, [("Paris", 20)]),
            ("Where?", CONTEXT, [("The Eiffel Tower", 0)]),
            ("Why?", CONTEXT, []),
            ("How?", CONTEXT, None),
        ],
        ids=["a", "b", "c", "d", "e", "f", "a"],
    )
    assert found(asked) == {
        "missing-answer": ("error", "Nothing is said about the answer in 1 of 7 rows (14.3%).", ("quiz.json:7",)),
        "few-unanswerable": ("note", "Questions without an answer: 1 of 7 rows (14.3%).", ("quiz.json:6",)),
        "answer-not-in-context": (
            "error",
            "The answer is not what stands in the context at its start: 1 of 7 rows (14.3%).",
            ("quiz.json:1",),
        ),
        "empty-answer": ("warning", "An answer without text: 1 of 7 rows (14.3%).", ("quiz.json:2",)),
        "long-answer": (
            "warning",
            "Answers of more than 30 words: 1 of 7 rows (14.3%); the longest has 31.",
            ("quiz.json:3",),
        ),
        "conflicting-answers": (
            "warning",
            "The same question about the same context with different answers: 2 of 7 rows (28.6%).",
            ("quiz.json:4", "quiz.json:5"),
        ),
        "repeated-id": ("warning", "The id of an earlier row: 1 of 7 rows (14.3%).", ("quiz.json:7",)),
    }


def test_data_that_cannot_be_learned_from() -> None:
    """No answers at all, no contexts, or only unanswerable questions are errors."""
    asked = questions([("Who?", "Gustave did.", None)])
    assert found(asked) == {"no-answers": ("error", "No answers in any of 1 rows.", ())}
    assert found(questions([("Who?", None, [("x", 0)])])) == {
        "no-contexts": ("error", "No context in any of 1 rows.", ())
    }
    assert found(questions([("Who?", "Gustave did.", [])])) == {
        "all-unanswerable": ("error", "None of 1 questions has an answer.", ())
    }

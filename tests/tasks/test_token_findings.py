"""Findings about tags: whole messages."""

from __future__ import annotations

import dataclasses

import pytest

from bertsmith.examples import Examples
from bertsmith.findings import Finding
from bertsmith.tasks.token_findings import token_findings
from bertsmith.tasks.token_labels import TokenLabels
from tests.tasks.token_rows import examples_of

GOOD = [["B-PER", "I-PER", "O"], ["B-LOC", "O"]] * 10


def found(examples: Examples, kind: str) -> Finding:
    return next(finding for finding in token_findings(examples) if finding.kind == kind)


def test_good_tags_have_no_findings():
    """Valid sequences with frequent types and spans in every row are nothing to find fault with."""
    assert token_findings(examples_of(GOOD)) == []


@pytest.mark.parametrize("without", [True, False])
def test_data_without_tags_is_refused(without: bool):
    """A missing column and a column of nothing are one error."""
    examples = examples_of([None, None])
    if without:
        examples = dataclasses.replace(examples, table=examples.table.drop(["tags"]))
    assert token_findings(examples) == [
        Finding(
            "no-labels",
            "error",
            "No tags in any of 2 rows.",
            "Name the column with --label, or give a file that has one.",
            count=2,
        )
    ]


def test_words_without_a_tag_are_an_error():
    """A row without tags, a null tag and a blank one are counted by rows."""
    examples = examples_of([*GOOD, None, ["O", None], [" ", "O"]])
    assert found(examples, "missing-label") == Finding(
        "missing-label",
        "error",
        "Words without a tag in 3 of 23 rows (13.0%).",
        "Give every word a tag (such as O), or remove these rows.",
        count=3,
        rows=("ner.conll:21", "ner.conll:22", "ner.conll:23"),
    )


def test_numbers_of_words_and_tags_that_differ_are_an_error():
    """The first such row's numbers are told."""
    examples = examples_of([*GOOD, ["O", "O"]], [*[["a"] * len(each) for each in GOOD], ["a", "b", "c"]])
    assert found(examples, "uneven-tags") == Finding(
        "uneven-tags",
        "error",
        "The numbers of words and of tags differ in 1 of 21 rows (4.8%); in the first of them 3 and 2.",
        "Give each of these rows as many tags as it has words.",
        count=1,
        rows=("ner.conll:21",),
    )


def test_sentences_without_words_are_a_warning():
    """A row without words teaches nothing."""
    finding = found(examples_of([*GOOD, []]), "empty-sentence")
    assert (finding.message, finding.rows) == ("No words in 1 of 21 rows (4.8%).", ("ner.conll:21",))


def test_one_tag_for_everything_is_an_error():
    """A tagger needs two tags."""
    assert found(examples_of([["O", "O"], ["O"]]), "one-class") == Finding(
        "one-class",
        "error",
        "All 3 words have the tag 'O'.",
        "A tagger needs at least two tags; is --label the right column?",
        count=3,
    )


def test_broken_sequences_are_told_and_read_as_spans():
    """Tags that break the scheme are counted; the first is told with what it is read as."""
    examples = examples_of([*GOOD, ["O", "I-PER", "I-LOC"], ["I-LOC"]])
    assert found(examples, "broken-tags") == Finding(
        "broken-tags",
        "warning",
        "3 tags break the scheme IOB2, in 2 of 22 rows (9.1%); the first is 'I-PER' after 'O', read as 'B-PER'.",
        "They are repaired as conlleval reads them: a stray tag begins a span; mend those that mean more.",
        count=2,
        rows=("ner.conll:21", "ner.conll:22"),
    )


def test_a_broken_end_is_told():
    """In BIOES a span that is never closed, and an end without a beginning, are broken."""
    examples = examples_of([["E-PER", "O"], *[["S-PER", "B-LOC", "E-LOC", "O"]] * 12, ["B-PER", "O"]])
    assert found(examples, "broken-tags").message == (
        "2 tags break the scheme BIOES, in 2 of 14 rows (14.3%); the first is 'E-PER' at the start, read as 'S-PER'."
    )


def test_iob1_is_noted_and_not_broken():
    """IOB1 is a scheme of its own, of which nothing needs mending."""
    kinds = [finding.kind for finding in token_findings(examples_of([["I-PER", "B-PER", "O"], ["I-LOC", "O"]] * 12))]
    assert kinds == ["tag-scheme"]


def test_spellings_alike_are_told():
    """Types that differ by case only, and an o that is likely an O, are told with the rows of the rarer."""
    examples = examples_of([*GOOD, ["B-per", "O"], ["B-PER", "o"]])
    assert found(examples, "labels-alike") == Finding(
        "labels-alike",
        "warning",
        "Different types of spans that differ only by case or blanks: 'PER' = 'per', 'O' = 'o'; "
        "the rarer spellings are in 2 of 22 rows (9.1%).",
        "Write each in one way if they mean the same.",
        count=2,
        rows=("ner.conll:21", "ner.conll:22"),
    )


def test_rare_types_are_told():
    """Types with fewer than ten spans are told with their numbers."""
    assert found(examples_of([*GOOD, ["B-ORG", "I-ORG"]]), "rare-class").message == (
        "1 of 3 types of spans on fewer than 10 spans: 'ORG' (1)."
    )
    plain = examples_of([["NOUN", "VERB"]] * 12 + [["ADJ", "X", "X"]])
    assert found(plain, "rare-class").message == "2 of 4 tags on fewer than 10 words: 'ADJ' (1), 'X' (2)."


def test_much_outside_is_noted():
    """Rows without spans, and a share of O that makes token accuracy mislead, are notes."""
    examples = examples_of([*GOOD, ["O"] * 970])
    assert found(examples, "no-spans").message == "No span in 1 of 21 rows (4.8%)."
    assert found(examples, "imbalance").message == (
        "97.1% of 1,020 words are outside of all spans, so answering O to everything reaches that token accuracy."
    )


def test_long_sentences_are_noted_and_nothing_is_lost():
    """Documents in place of sentences are read in windows."""
    finding = found(examples_of([*GOOD, ["B-PER", *["I-PER"] * 300]]), "long-sentence")
    assert finding.message == "More than 200 words in 1 of 21 rows (4.8%); the longest has 301."
    assert finding.remedy == "Where a model reads less at once, they are read in overlapping windows; no word is lost."


def test_the_task_checks_its_tags():
    """The task's check is this one."""
    examples = examples_of([["O", "I-PER"], ["B-PER"]])
    assert TokenLabels().check(examples) == token_findings(examples) != []

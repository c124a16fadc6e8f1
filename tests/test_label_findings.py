"""What `label_findings` promises: each mistake is found, worded whole, with its rows; clean labels pass."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from bertsmith.examples import Columns, Examples
from bertsmith.findings import Finding
from bertsmith.tasks.label_findings import label_findings
from bertsmith.tasks.label_wording import listed, of_rows, percent


def labelled(labels: list[str | None] | None) -> Examples:
    """Make rows with these labels; None makes a table without labels."""
    rows = 3 if labels is None else len(labels)
    columns = {"text": [f"text {row}" for row in range(rows)], "file": ["a.csv"] * rows}
    columns |= {"row": np.arange(1, rows + 1)}
    if labels is not None:
        columns["label"] = pa.array(labels, pa.string())
    return Examples(pa.table(columns), Columns("text", "label"), "a.csv")


def only(labels: list[str | None] | None) -> Finding:
    """Return the one finding that there is."""
    (finding,) = label_findings(labelled(labels))
    return finding


def kinds(labels: list[str | None]) -> list[str]:
    return [finding.kind for finding in label_findings(labelled(labels))]


def test_clean_labels_give_no_finding():
    """Two balanced labels of ten rows each are fine."""
    assert label_findings(labelled(["ham", "spam"] * 10)) == []


def test_no_label_column_and_only_null_labels_are_the_same_error():
    """Without any label there is one error and nothing else."""
    expected = Finding(
        "no-labels",
        "error",
        "No label in any of 3 rows.",
        "Name the column with --label, or give a file that has one.",
        count=3,
    )
    assert only(None) == expected
    assert only([None, "", " \t"]) == expected


def test_missing_and_blank_labels_are_errors_at_their_rows():
    """Null, empty and blank labels count as missing."""
    assert only([*["a", "b"] * 10, None, "", "  "]) == Finding(
        "missing-label",
        "error",
        "No label in 3 of 23 rows (13.0%).",
        "Fill the labels in or remove these rows; nothing can be learned from them.",
        count=3,
        rows=("a.csv:21", "a.csv:22", "a.csv:23"),
    )


def test_one_class_is_an_error():
    """A single label cannot be told from anything."""
    assert only(["ham"] * 12) == Finding(
        "one-class",
        "error",
        "All 12 labelled rows have the label 'ham'.",
        "A classifier needs at least two labels; is --label the right column?",
        count=12,
    )


def test_the_label_unknown_is_reserved_in_any_case():
    """UNKNOWN is what a model says when it declines, so no class may be called so."""
    assert only(["a"] * 10 + ["Unknown "] * 10) == Finding(
        "reserved-label",
        "error",
        "A label is called 'Unknown ', in 10 of 20 rows (50.0%), but UNKNOWN is the answer of a model that declines.",
        "Rename the label (such as 'other'), or remove its rows and let the model decline.",
        count=10,
        rows=tuple(f"a.csv:{row}" for row in range(11, 21)),
    )
    assert kinds(["a"] * 10 + ["unknowns"] * 10) == []


def test_labels_alike_are_named_with_the_rows_of_the_rarer_spellings():
    """Case and blanks make different classes, which is said, not mended."""
    labels = ["Spam"] * 12 + ["spam"] * 10 + ["Spam "] * 11 + ["very  good"] * 10 + ["very good"] * 12
    finding = only(labels)
    assert finding.message == (
        "Labels that differ only by case or blanks are different classes: 'Spam' = 'spam' = 'Spam ', "
        "'very  good' = 'very good'; the rarer spellings have 31 of 55 rows (56.4%)."
    )
    assert finding.remedy == "Write each label in one way if they mean the same."
    assert (finding.kind, finding.severity, finding.count) == ("labels-alike", "warning", 31)
    assert finding.rows[0] == "a.csv:13"


def test_classes_with_one_row_and_with_few_rows_are_named():
    """One row cannot be learned and measured; fewer than ten are a matter of luck."""
    single, few = label_findings(labelled(["a"] * 15 + ["b"] * 15 + ["c"] + ["d"] * 9 + ["e"] * 2))
    assert single == Finding(
        "single-row-class",
        "warning",
        "1 of 5 labels on one row only, which can be learned from or measured on but not both: 'c'.",
        "Label more rows, merge these labels into others, or remove them.",
        count=1,
        rows=("a.csv:31",),
    )
    assert few == Finding(
        "rare-class",
        "warning",
        "2 of 5 labels on fewer than 10 rows: 'e' (2), 'd' (9).",
        "Label more rows of these classes; until then their scores are a matter of luck.",
        count=11,
        rows=tuple(f"a.csv:{row}" for row in range(32, 43)),
    )


def test_many_rare_classes_are_counted_but_not_all_named():
    """A message names five labels; the count covers all."""
    labels = [f"c{number % 8}" for number in range(40)] + ["big"] * 60
    (finding,) = label_findings(labelled(labels))
    assert finding.message == (
        "8 of 9 labels on fewer than 10 rows: 'c0' (5), 'c1' (5), 'c2' (5), 'c3' (5), 'c4' (5) and 3 more."
    )
    assert (finding.count, len(finding.rows)) == (40, 20)


def test_imbalance_says_what_accuracy_a_constant_answer_has():
    """More than 90 % of one label, or more than 20 times the smallest, misleads accuracy."""
    assert only(["ham"] * 110 + ["spam"] * 10) == Finding(
        "imbalance",
        "warning",
        "Out of balance: 'ham' has 110 of 120 rows (91.7%) and 'spam' has 10, "
        "so answering 'ham' to everything reaches an accuracy of 91.7%.",
        "Accuracy misleads here: judge by macro-F1, to which every class counts the same.",
        count=110,
    )
    assert kinds(["a"] * 201 + ["b"] * 200 + ["c"] * 10) == ["imbalance"]
    assert kinds(["a"] * 200 + ["b"] * 200 + ["c"] * 10) == []
    assert kinds(["a"] * 90 + ["b"] * 10) == []


def test_labels_that_look_like_ids_are_one_error():
    """When most labels occur once, the column is no label; nothing else is said then."""
    assert only([f"user {row}" for row in range(30)] + ["user 0"]) == Finding(
        "many-labels",
        "error",
        "30 different labels in 31 rows, 1.0 rows a label: this looks like an id, a number or free text.",
        "Is --label the right column? A classifier needs few labels with many rows each.",
        count=30,
    )
    assert kinds(["a", "b", "c"]) == ["single-row-class"]


def test_more_than_a_thousand_labels_are_a_warning_when_rows_are_many():
    """Many labels with ten rows each can be learned, but are seldom meant; with fewer rows they are ids."""
    finding = only([f"c{row % 1001}" for row in range(10_010)])
    assert (finding.severity, finding.message) == (
        "warning",
        "1,001 different labels in 10,010 rows, 10.0 rows a label.",
    )
    assert only([f"c{row % 1001}" for row in range(5_005)]).severity == "error"


@given(st.lists(st.one_of(st.none(), st.text("aAbB \tüÜUNKOWunkow", max_size=4), st.just("unknown")), min_size=1))
def test_counts_of_rows_never_exceed_rows_and_rows_shown_exist(labels):
    """Whatever the labels are, a finding counts no row twice and names rows of the file only."""
    places = {f"a.csv:{row}" for row in range(1, len(labels) + 1)}
    for finding in label_findings(labelled(labels)):
        assert 0 < finding.count <= len(labels)
        assert set(finding.rows) <= places
        assert len(set(finding.rows)) == len(finding.rows) <= finding.count


@given(st.lists(st.sampled_from(["spam", "Spam", " spam", "ham", "HAM", "x"]), min_size=2))
def test_labels_alike_agree_with_pythons_own_folding(labels):
    """The finding is there exactly when two labels are equal after strip and lower."""
    folded = [label.strip().lower() for label in set(labels)]
    assert ("labels-alike" in kinds(labels)) == (len(set(folded)) < len(folded))


def test_shares_are_worded_without_false_nothing_or_all():
    """A little is not 0.0%, almost all is not 100.0%."""
    assert [percent(*pair) for pair in ((0, 0), (0, 9), (1, 9999), (1, 3), (9999, 10000), (9, 9))] == [
        "0.0%",
        "0.0%",
        "<0.1%",
        "33.3%",
        ">99.9%",
        "100.0%",
    ]
    assert of_rows(1234, 1_000_000) == "1,234 of 1,000,000 rows (0.1%)"
    assert listed(list("abcdefg")) == "a, b, c, d, e and 2 more"

"""The parts of the report: pictures, lengths, the model card."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertsmith import telling
from bertsmith.bundle import BundleInfo
from bertsmith.listener import Listener
from bertsmith.report import figures, plots
from bertsmith.report.confusion import Shown, confusion, most_confused, strength
from bertsmith.report.html import render
from bertsmith.report.lengths import length_figures
from bertsmith.report.model_card import model_card
from bertsmith.report.svg import Scale, around, fit, tick_texts, width_of
from bertsmith.tasks import task_named
from tests.report.made import history_of, scores_of


def test_of_many_labels_those_that_are_confused_stand_together():
    """Three planted groups among 150 labels are found, whole, and each as one block."""
    counts = np.diag(np.full(150, 40.0))
    groups = [(3, 77, 120), (10, 11, 12), (50, 140, 149)]
    for group in groups:
        for gold in group:
            for guess in group:
                counts[gold, guess] += 9 * (gold != guess)
    chosen = most_confused(counts, 9).tolist()
    assert {frozenset(chosen[place : place + 3]) for place in (0, 3, 6)} == set(map(frozenset, groups))


def test_few_labels_are_drawn_whole_and_in_their_own_order():
    """Up to twenty labels nothing is left out or moved."""
    labels = [f"l{number}" for number in range(20)]
    counts = np.arange(400).reshape(20, 20)
    shown = Shown.of(labels, counts.tolist())
    assert (shown.labels, shown.whole) == (tuple(labels), True)
    assert (shown.counts == counts).all()


def test_shares_of_the_cropped_matrix_are_of_all_rows():
    """What is left out of the crop counts in a label's rows all the same."""
    counts = np.zeros((40, 40))
    counts[0] = [50, 10, *([1] * 38)]
    counts[1, 0] = 7
    shown = Shown.of([str(each) for each in range(40)], counts.tolist(), most=2)
    assert sorted(zip(shown.labels, shown.support.tolist(), strict=True)) == [("0", 98.0), ("1", 7.0)]


def test_without_a_mistake_there_is_still_a_matrix():
    """A perfect model of 150 labels has a matrix, and its alternative text says that there are no mistakes."""
    picture = confusion([str(each) for each in range(150)], np.eye(150).tolist())
    assert "Most frequent mistakes: none." in picture


def test_mistakes_are_graded_by_their_share():
    """No mistake is 0; larger shares of the row never get a weaker colour."""
    assert [strength(count, 100) for count in (0, 1, 2, 3, 5, 6, 15, 16, 40, 41, 100)] == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]  # fmt: skip


def test_pictures_of_nothing_are_empty():
    """Where a part is missing, nothing is drawn."""
    assert [
        plots.ladder([], metric="accuracy"), plots.label_scores([]), plots.losses([]), plots.reliability({}), plots.risk_coverage({}),
        plots.risk_coverage({"test": None, "risk_coverage": []}), plots.stages({"total": 3.0}), plots.lengths([]), confusion([], []),
        plots.learning([{"epoch": 1.0, "eval_f1": 0.5}], name="f1", shown="F1", best=1),
    ] == [""] * 10  # fmt: skip


def test_a_loss_that_is_constant_or_a_score_that_is_zero_can_be_drawn():
    """Ranges of no width do not break a picture."""
    flat = [{"epoch": float(epoch), "loss": 0.0, "eval_log_loss": 0.0, "eval_f1": 0.0} for epoch in range(4)]
    assert "<svg" in plots.losses(flat)
    assert "<svg" in plots.learning(flat, name="f1", shown="F1", best=2)


def test_long_histories_are_averaged_not_sampled():
    """Ten thousand points become three hundred at most, and their mean stays."""
    points = [(float(x), float(x % 7)) for x in range(10_000)]
    fewer = plots.thinned(points)
    assert len(fewer) <= 300
    assert np.mean([y for _, y in points]) == pytest.approx(np.mean([y for _, y in fewer]), abs=0.02)


def test_the_kept_epoch_is_named():
    """The curve of the metric rings the epoch whose weights were kept, and says so in its alternative text."""
    picture = plots.learning(history_of(), name="accuracy", shown="accuracy", best=4)
    assert "epoch 4 was kept with 0.945" in picture
    assert "kept: 0.945" in picture


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_round_few_and_inside(low, width):
    """Whatever the range, there are one to eight ticks, inside it and all of them different."""
    told = tick_texts(low, low + width)
    assert len(told) <= 8
    assert all(low - 1e-6 * (abs(low) + width) <= value <= low + width + 1e-6 * (abs(low) + width) for value, _ in told)
    assert len({text for _, text in told}) == len(told)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_a_range_around_shares_holds_them_and_stays_between_0_and_1(values):
    """Nothing lies outside its own range, and no axis shows a share above 100 %."""
    low, high = around(values)
    assert 0 <= low <= min(values) <= max(values) <= high <= 1
    assert Scale(low, high, 0, 100)(max(values)) <= 100 + 1e-9


@given(st.text(max_size=60), st.floats(20, 300))
def test_names_are_shortened_to_their_room(name, width):
    """A shortened name takes no more room than it was given, and is a beginning of the name."""
    told = fit(name, width)
    assert width_of(told) <= width + 1e-9
    assert told == name or name.startswith(told.removesuffix("…"))


@given(st.floats(0, 1), st.floats(0.0005, 0.5))
def test_digits_follow_the_interval(value, half):
    """The last digit that is shown is worth no more than the half of the interval, and at least a hundredth of that half."""
    told = figures.metric(value, value - half, value + half)
    last = 10 ** -len(told.partition(".")[2])
    assert half / 100 - 1e-12 <= last <= max(half, 0.01)


def test_lengths_are_summed_up():
    """Quantiles are lengths that occur, shares are of rows and of tokens, and every row is in one bin."""
    tokens = np.array([5] * 50 + [10] * 45 + [20] * 4 + [400])
    cut = np.where(tokens > 20, tokens - 20, 0)
    found = length_figures(tokens, cut)
    assert found is not None
    bins = found.pop("histogram")
    assert found == {
        "rows": 100, "mean": 11.8, "median": 5, "p95": 10, "p99": 20, "longest": 400, "cut": 0.01, "lost": 380 / 1180,
    }  # fmt: skip
    assert sum(each["rows"] for each in bins) == 100
    assert (bins[0]["low"], bins[-1]["high"]) == (5, 400)
    assert length_figures(np.array([], int), np.array([], int)) is None


@given(st.lists(st.integers(1, 600), min_size=1, max_size=80))
def test_bins_of_lengths_meet_and_hold_every_row(lengths):
    """Bins follow each other without a gap, are twelve at most, and each row lies in the bin that names its length."""
    tokens = np.array(lengths)
    found = length_figures(tokens, np.zeros_like(tokens))
    assert found is not None
    bins = found["histogram"]
    assert len(bins) <= 12
    assert [each["low"] for each in bins[1:]] == [each["high"] + 1 for each in bins[:-1]]
    assert [each["rows"] for each in bins] == [((tokens >= each["low"]) & (tokens <= each["high"])).sum() for each in bins]  # fmt: skip


# --- the model card ------------------------------------------------------------------------------------------------


def card(encoder: str = "minilm", task: str = "single-label", **parts: object) -> str:
    info = BundleInfo(
        task=task, labels=("a", "`b`\n# c"), max_length=64, pair=False, encoder=encoder, fingerprint="0" * 64, columns={}, versions={"bertsmith": "1"},
    )  # fmt: skip
    return model_card(info, task_named(task), scores_of(task) | parts)


def test_the_hub_reads_the_card():
    """huggingface_hub, as an oracle, finds base model and scores in the card's metadata."""
    from huggingface_hub import ModelCard

    data = ModelCard(card()).data
    assert data.base_model == "sentence-transformers/all-MiniLM-L6-v2"
    assert [(each.metric_type, each.metric_name, each.metric_value) for each in data.eval_results][:2] == [
        ("accuracy", "accuracy", 0.93), ("f1", "macro f1", 0.926),
    ]  # fmt: skip
    assert ModelCard(card("roberta-base")).data.base_model == "roberta-base"
    assert ModelCard(card("some-org/some-encoder")).data.base_model == "some-org/some-encoder"


@pytest.mark.parametrize("folder", ["/home/me/secret/encoder", "./encoder", "encoder", "C:\\encoder"])
def test_the_card_names_no_folder_as_base_model(folder):
    """A path of this machine is no name on the Hub."""
    assert "base_model" not in card(folder)


def test_the_card_says_when_to_believe_it_and_where_it_is_weak():
    """Promise, calibration, scope and slices stand in the card, where they were measured."""
    told = card()
    assert (
        "- At least 95 % of the answers given are right (a promise that is broken with a chance of at most 5 %); 91.3 % of "
        "calibration rows get an answer.\n"
        "- Its probabilities are calibrated (temperature 1.63, in the weights): their expected error on 3,080 test rows is "
        "0.009; it was 0.051 before.\n"
        "- Texts whose energy score is above -3.412 are called foreign to what it learned.\n"
    ) in told
    assert '- `"texts of 41 to 98 tokens"`: 85.1% of 308 rows are right, of the rest 93.8%.\n' in told
    bare = card(calibration=None, decide=None, out_of_scope=None, slices=None)
    assert re.findall("^## .*", bare, re.MULTILINE) == ["## How good it is", "## What it answers", "## How to use it", "## Where it comes from"]  # fmt: skip


@pytest.mark.parametrize(
    ("figures", "sentence"),
    [
        (dict(ece_after=0.09, log_loss_after=0.51, ece_after_low=0.03, ece_after_high=0.12),
         "On test rows it did not help but made the probabilities worse; on 3,080 rows that may be chance."),
        (dict(ece_after=0.09, log_loss_after=0.51, ece_after_low=0.06, ece_after_high=0.12),
         "On test rows it did not help but made the probabilities worse."),
        (dict(ece_after=0.09, log_loss_after=0.41, ece_after_low=0.06, ece_after_high=0.12),
         "On test rows it did not clearly help: what one figure gained, the other lost."),
        (dict(ece_after=0.0513, log_loss_after=0.4814), "On test rows it changed next to nothing."),
        (dict(ece_after=0.02, log_loss_after=0.4816), ""),
    ],
)  # fmt: skip
def test_calibration_that_did_not_help_is_told(figures, sentence):
    """Where error and log loss on test rows did not fall, terminal, report and card say so; else only the report speaks."""
    found = scores_of()["calibration"] | figures
    assert (" 0.051 before." + f" {sentence}" * bool(sentence) + "\n") in card(calibration=found)
    shown = sentence or "On test rows it helped."
    assert f"the same wherever it runs. {shown} Measured on 3,080 test rows:" in render(
        scores_of() | {"calibration": found}
    )
    lines: list[str] = []
    assessed = {"calibration": found, "decide": None, "out_of_scope": None, "slices": [], "suspects": None}
    telling.trust(cast(Listener, SimpleNamespace(tell=lambda _, line: lines.append(line))), assessed)
    told = f"; {sentence[0].lower()}{sentence[1:-1]}" if sentence else ""
    assert lines[0].endswith(f", before by 5.1%{told}")


def test_the_card_speaks_in_sentences() -> None:
    """The verdict is a sentence, and metrics are called as everywhere else."""
    told = card(verdict="fine-tuning is better than tfidf by 3.0 points of accuracy [1.0, 5.0]")
    assert "\n\nFine-tuning is better than tfidf by 3.0 points of accuracy [1.0, 5.0].\n\n" in told
    assert "\n| macro-F1 | " in told
    assert "\n| MCC | " in told


def test_without_a_threshold_the_report_shows_no_figures_of_one() -> None:
    """A run that can call nothing foreign, and gives every answer, says so; 0 % of false alarms would be a praise."""
    scope = {"score": "s", "threshold": None, "sentence": "text from elsewhere is not told: 70 rows are too few.",
             "validation": {"rows": 70, "alarms": 0.0}, "test": {"rows": 70, "alarms": 0.0}}  # fmt: skip
    decide = scores_of()["decide"] | {"threshold": 0.0, "by_label": None}
    page = render(scores_of() | {"out_of_scope": scope, "decide": decide})
    assert "<p>Text from elsewhere is not told: 70 rows are too few.</p>" in page
    assert "false alarms" not in page
    assert "<dt>threshold</dt><dd>none: every answer is given</dd>" in page
    assert "false alarms" in render(scores_of())


HOSTILE = [
    "<script>alert(1)</script>", "\n\n# A heading", "[x](javascript:alert(1))", "`<b>`", "![x](y)", "\n---\n", "a\\", '"', "**",
    "&lt;b&gt;", "\x1b[2J",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("quoted", [True, False])
def test_no_label_writes_markup_into_the_card(name, quoted):
    """By an oracle that reads Markdown, a promise that names such a label stays one item of plain text and code."""
    from markdown_it import MarkdownIt

    shown = json.dumps(name) if quoted else name
    told = card(decide={"sentence": f"at most 5% of texts are refused; always refused: {shown}, so"})
    trust = told.partition("## When it may be believed\n\n")[2].partition("\n- Its probabilities")[0]
    kinds = [each.type for each in MarkdownIt("gfm-like", {"linkify": False}).parse(trust)]
    assert kinds == ["bullet_list_open", "list_item_open", "paragraph_open", "inline", "paragraph_close", "list_item_close", "bullet_list_close"]  # fmt: skip
    (inline,) = MarkdownIt("gfm-like", {"linkify": False}).parseInline(trust.removeprefix("- "))
    assert {each.type for each in inline.children or []} <= {"text", "text_special", "code_inline"}
    plain = "".join(each.content for each in inline.children or [])
    assert (
        plain.split()
        == f"At most 5% of texts are refused; always refused: {shown}, so.".replace("`", "'" if quoted else "`").split()
    )
    assert trust.replace("\x1b", "").isprintable()


def test_a_card_without_test_rows_claims_no_score():
    """Without test rows the metadata have no results, and the card says why."""
    told = card(test=None)
    assert "model-index" not in told
    assert "There were no test rows: nothing honest can be said about how good it is." in told

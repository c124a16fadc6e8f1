"""What `split` promises, row by row."""

import itertools
import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedShuffleSplit

from bertsmith.data.near_duplicates import TextGroups, renumbered
from bertsmith.data.split import split
from bertsmith.errors import DataError
from bertsmith.examples import SIDES, Columns, Examples
from bertsmith.tasks import task_named

SHARES = (0.7, 0.1, 0.1, 0.1)


def table(rows, **columns):
    known = {"file": ["reviews.csv"] * rows, "row": np.arange(1, rows + 1)}
    named = Columns("text", time="when" if "time" in columns else None, group="user" if "group" in columns else None)
    return Examples(pa.table({**known, **columns}), named, "reviews.csv")


def shared_out(strata, near=None, *, shares=SHARES, seed=0, sampled=None, **columns):
    """Split made-up rows; returns the splits and each row's side."""
    strata = np.asarray(strata, dtype=np.int64)
    near = np.arange(len(strata)) if near is None else renumbered(np.asarray(near, dtype=np.int64))
    groups = TextGroups(near, near, sampled)
    splits = split(table(len(strata), **columns), strata=strata, groups=groups, shares=shares, seed=seed)
    return splits, splits.side_of(len(strata))


def counts(strata, sides):
    """Count rows, `(classes, sides)`."""
    return np.array([[np.sum((sides == side) & (strata == one)) for side in SIDES] for one in np.unique(strata)])


def on_one_side(sides, numbers):
    return all(len(set(sides[numbers == number])) == 1 for number in np.unique(numbers))


@st.composite
def labelled_rows(draw):
    """Rows with classes, near-duplicate groups, users and given sides; any of them odd."""
    rows = draw(st.integers(1, 150))
    whole = draw(st.randoms(use_true_random=False))

    def numbers(most):
        return np.array([whole.randint(0, most) for _ in range(rows)])

    given_sides = [whole.choice([None, None, None, "validation", "test"]) for _ in range(rows)]
    if draw(st.booleans()):
        given_sides = [side if side == "test" else None for side in given_sides]
    return {
        "strata": numbers(draw(st.integers(0, 12))),
        "near": numbers(draw(st.sampled_from([3, 40, 2_000]))),
        "group": numbers(draw(st.sampled_from([5, 100, 2_000]))) if draw(st.booleans()) else None,
        "given": given_sides if draw(st.booleans()) and None in given_sides else None,
        "shares": draw(st.sampled_from([SHARES, (0.4, 0.2, 0.2, 0.2), (0.1, 0.1, 0.4, 0.4), (0.5, 0, 0.25, 0.25)])),
        "seed": draw(st.integers(0, 5)),
    }


@given(labelled_rows())
@settings(max_examples=250, deadline=None)
def test_every_row_has_one_side_and_what_belongs_together_stays_together(made):
    """No row is lost or taken twice, given sides are kept, and no group stands on two sides."""
    columns = {name: pa.array(made[name]) for name in ("group", "given") if made[name] is not None}
    splits, sides = shared_out(made["strata"], made["near"], shares=made["shares"], seed=made["seed"], **columns)
    rows = np.concatenate([splits.sides[side] for side in SIDES])
    assert sorted(rows.tolist()) == list(range(len(made["strata"])))
    assert splits.sizes() == {side: int((sides == side).sum()) for side in SIDES}
    chosen = np.ones(len(sides), dtype=bool)
    if made["given"] is not None:
        chosen = np.array([side is None for side in made["given"]])
        assert [side for side in made["given"] if side] == sides[~chosen].tolist()
        assert not (set(sides[chosen]) & set(sides[~chosen]))
    assert on_one_side(sides[chosen], made["near"][chosen])
    assert made["group"] is None or on_one_side(sides[chosen], made["group"][chosen])
    assert set(made["strata"][chosen]) == set(made["strata"][chosen & (sides == "train")])


@given(st.integers(0, 1000), st.integers(2, 12), st.integers(400, 1500))
@settings(max_examples=40, deadline=None)
def test_shares_are_kept_in_every_class(seed, classes, rows):
    """Without groups each class is off its shares by less than a row, and each side by a few rows in all."""
    draw = np.random.default_rng(seed)
    strata = np.concatenate([np.repeat(np.arange(classes), 10), (draw.random(rows) ** 2 * classes).astype(int)])
    _, sides = shared_out(strata, seed=seed)
    found = counts(strata, sides)
    assert np.abs(found - found.sum(axis=1, keepdims=True) * np.array(SHARES)).max() < 1
    assert np.abs(found.sum(axis=0) - len(strata) * np.array(SHARES)).max() < 2


def test_many_small_classes_starve_no_side():
    """77 classes of 5 rows fill every side to its share, though no class has a whole row for it."""
    _, sides = shared_out(np.repeat(np.arange(77), 5), shares=(0.6, 0.1, 0.2, 0.1))
    totals = counts(np.zeros(385), sides)[0]
    assert np.abs(totals - 385 * np.array([0.6, 0.1, 0.2, 0.1])).max() < 2


@pytest.mark.parametrize("seed", range(5))
def test_classes_are_shared_out_as_scikit_learn_does(seed):
    """The test side has, to a row, the classes that StratifiedShuffleSplit draws."""
    draw = np.random.default_rng(seed)
    strata = renumbered((draw.random(1_000) ** 3 * 20).astype(int))
    _, sides = shared_out(strata, shares=(0.8, 0, 0, 0.2), seed=seed)
    shuffle = StratifiedShuffleSplit(n_splits=1, test_size=0.2, random_state=seed)
    _, oracle = next(shuffle.split(strata, strata))
    ours, theirs = np.bincount(strata[sides == "test"]), np.bincount(strata[oracle])
    assert (sides == "test").sum() == len(oracle)
    assert np.abs(ours - theirs).max() <= 1


def test_groups_of_duplicates_are_shared_out_like_the_rest():
    """Where every text stands there twice, shares hold, and duplicates do not all train."""
    strata = np.repeat(np.tile(np.arange(4), 250), 2)
    near = np.arange(2_000) // 2
    near[1000:] = np.arange(5_000, 6_000)
    _, sides = shared_out(strata, near)
    assert on_one_side(sides, near)
    assert counts(np.zeros(2_000), sides)[0].tolist() == [1400, 200, 200, 200]
    twice = counts(np.zeros(1_000), sides[:1000])[0]
    assert np.abs(twice - [700, 100, 100, 100]).max() < 60


def test_a_text_that_fills_a_class_trains():
    """Sixty copies of one text go to train, not to a side that needs ten rows of the class."""
    near = np.concatenate([np.zeros(60), np.arange(1, 441)])
    strata = np.repeat([0, 1], [100, 400])
    _, sides = shared_out(strata, near)
    assert set(sides[:60]) == {"train"}
    assert counts(strata, sides).tolist() == [[70, 10, 10, 10], [280, 40, 40, 40]]


def test_texts_and_users_are_joined_over_both():
    """A chain of the same text and the same user stays together."""
    near = np.arange(300)
    near[[1, 2]] = 1
    users = [f"user {number}" for number in range(300)]
    users[2] = users[3] = "anna"
    for seed in range(20):
        _, sides = shared_out(np.zeros(300), near, seed=seed, group=pa.array(users))
        assert len({sides[1], sides[2], sides[3]}) == 1


def test_rows_without_a_group_value_are_not_one_group():
    """Empty values of the group column bind no rows together."""
    values = pa.array([None, "", " "] * 100)
    splits, _ = shared_out(np.zeros(300), group=values)
    assert splits.sizes() == {"train": 210, "validation": 30, "calibration": 30, "test": 30}


def test_a_class_with_one_row_trains():
    """Whatever the seed, a class of one row is in train, also where train's share is small."""
    strata = np.concatenate([np.zeros(200), [1], [2], [3]])
    for seed in range(20):
        _, sides = shared_out(strata, shares=(0.25, 0.25, 0.25, 0.25), seed=seed)
        assert sides[200:].tolist() == ["train"] * 3


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (1, [1, 0, 0, 0]),
        (2, [2, 0, 0, 0]),
        (3, [2, 0, 0, 1]),
        (5, [4, 0, 0, 1]),
        (6, [4, 1, 0, 1]),
        (8, [5, 1, 1, 1]),
    ],
)
def test_odd_rows_go_to_train_then_test_then_validation(rows, expected):
    """What cannot be halved goes to train first, then test, validation, calibration."""
    strata = np.concatenate([np.zeros(1_000), np.ones(rows)])
    _, sides = shared_out(strata)
    assert counts(strata, sides)[1].tolist() == expected


def test_the_seed_decides():
    """The same seed gives the same split, another seed another one."""
    strata = np.tile([0, 1, 2], 100)
    sides = [shared_out(strata, seed=seed)[1].tolist() for seed in (3, 3, 4)]
    assert sides[0] == sides[1] != sides[2]


def test_the_split_is_the_same_on_every_machine():
    """A split that was written down comes out again."""
    near = [*range(50), *[50] * 10]
    splits, _ = shared_out(np.tile([0, 1, 2], 20), near, seed=7, shares=(0.5, 0.3, 0, 0.2))
    assert splits.sides["validation"].tolist() == [
        1,
        2,
        3,
        5,
        10,
        11,
        14,
        16,
        17,
        18,
        19,
        24,
        30,
        35,
        39,
        42,
        46,
        49,
    ]
    assert splits.sides["test"].tolist() == [6, 8, 25, 29, 31, 33, 34, 36, 38, 40, 44, 48]


def test_a_given_test_file_leaves_its_share_to_train():
    """With a test file the main file is shared out as 80/10/10, and a row with a test row's text stays."""
    given_sides = pa.array([None] * 1_000 + ["test"] * 100)
    near = np.concatenate([np.arange(1_000), np.arange(100)])
    splits, sides = shared_out(np.tile([0, 1], 550), near, given=given_sides)
    assert splits.sizes() == {"train": 800, "validation": 100, "calibration": 100, "test": 100}
    assert set(sides[1000:]) == {"test"}
    stay = int((sides[:100] == "train").sum())
    assert splits.notes == (
        f"{stay} rows stay in train although they have the same or nearly the same text as a given test row: "
        "test scores may be too good.",
    )


def test_users_that_cross_a_given_side_are_reported():
    """Rows that share a user with a given validation row stay in train and are counted."""
    users = pa.array(["anna"] * 2 + [f"user {number}" for number in range(998)] + ["anna"])
    given_sides = pa.array([None] * 1_000 + ["validation"])
    splits, _ = shared_out(np.zeros(1_001), shares=(0.7, 0.1, 0.1, 0.1), seed=1, group=users, given=given_sides)
    assert splits.notes == (
        "2 rows stay in train although they have the same value of column 'user' as a given validation row: "
        "validation scores may be too good.",
    )


def test_tiny_data_only_trains():
    """Under 40 rows no side but train is filled, and each missing one says what it costs."""
    splits, _ = shared_out(np.tile([0, 1, 2], 13))
    assert splits.sizes() == {"train": 39, "validation": 0, "calibration": 0, "test": 0}
    assert splits.notes == (
        "No calibration rows (its share of 39 rows would be 3, which train instead; it needs 30): "
        "nothing can be promised of the answers.",
        "No validation rows (its share of 39 rows would be 3, which train instead; it needs 10): "
        "no early stopping, no choice of the best epoch.",
        "No test rows (its share of 39 rows would be 3, which train instead; it needs 4): no honest score.",
    )


@pytest.mark.parametrize(
    ("rows", "filled"),
    [
        (40, {"train", "test"}),
        (98, {"train", "test"}),
        (100, {"train", "test", "validation"}),
        (298, {"train", "test", "validation"}),
        (300, set(SIDES)),
    ],
)
def test_calibration_is_dropped_first_then_validation_then_test(rows, filled):
    """A side comes in as soon as its share is big enough to be of use."""
    splits, _ = shared_out(np.tile([0, 1], rows // 2))
    assert {side for side, size in splits.sizes().items() if size} == filled


def test_a_share_of_0_drops_the_side():
    """Who gives a share of 0 is told what goes with it."""
    splits, _ = shared_out(np.zeros(1_000), shares=(0.9, 0.1, 0, 0))
    assert splits.sizes() == {"train": 900, "validation": 100, "calibration": 0, "test": 0}
    assert splits.notes == (
        "No calibration rows (its share is 0): nothing can be promised of the answers.",
        "No test rows (its share is 0): no honest score.",
    )


@pytest.mark.parametrize(
    ("name", "lost"),
    [
        ("single-label", "UNKNOWN thresholds cannot be promised"),
        ("ordered", "UNKNOWN thresholds cannot be promised"),
        ("multi-label", "no threshold is tuned, each label is given from 0.5 on"),
        ("regression", "numbers need none"),
        ("token-labels", "tags and spans need none"),
        ("question-answering", "how sure an answer must be is not tuned"),
    ],
)
def test_what_is_lost_without_calibration_rows_depends_on_the_task(name, lost):
    """UNKNOWN is named only where answers are declined."""
    rows = np.arange(100)
    found = split(
        table(100), strata=rows * 0, groups=TextGroups(rows, rows, None), shares=(0.8, 0.1, 0, 0.1), seed=1,
        calibrates=task_named(name).calibrates,
    )  # fmt: skip
    assert found.notes == (f"No calibration rows (its share is 0): {lost}.",)


def test_one_group_of_everything_trains_and_says_so():
    """Where nothing can be divided, all rows train and every promise is taken back."""
    splits, _ = shared_out(np.zeros(1_000), np.zeros(1_000))
    together = "rows (the rows that must stay together leave none over)"
    assert splits.sizes() == {"train": 1_000, "validation": 0, "calibration": 0, "test": 0}
    assert splits.notes == (
        f"No validation {together}: no early stopping, no choice of the best epoch.",
        f"No calibration {together}: nothing can be promised of the answers.",
        f"No test {together}: no honest score.",
        "Train has 100.0% of the rows instead of 70.0%: rows that must stay together, or rare classes, "
        "allow no better.",
    )


def test_a_sampled_search_is_told():
    """Where near duplicates were looked for in a sample only, others may stand on two sides."""
    splits, _ = shared_out(np.zeros(1_000), sampled=500)
    assert splits.notes == (
        "Near duplicates were looked for among 500 of 1000 rows only: others may stand on two sides.",
    )


@given(st.integers(0, 10_000), st.sampled_from([5, 60, 100_000]), st.sampled_from([30, 5_000]))
@settings(max_examples=60, deadline=None)
def test_nothing_from_the_future_leaks_into_an_earlier_side(seed, moments, texts):
    """A group's latest row decides: all of an earlier side is older than any later side's groups end."""
    draw = np.random.default_rng(seed)
    times, near = draw.integers(0, moments, 500), draw.integers(0, texts, 500)
    splits, sides = shared_out(draw.integers(0, 3, 500), near, time=pa.array(times))
    assert on_one_side(sides, near)
    latest = np.array([times[near == text].max() for text in near])
    filled = [side for side in SIDES if splits.sizes()[side]]
    assert filled[0] == "train"
    for earlier, later in itertools.pairwise(filled):
        assert times[sides == earlier].max() < latest[sides == later].min()


def test_time_keeps_the_shares():
    """With distinct times and texts the sides are cut at their shares, oldest first."""
    order = np.random.default_rng(0).permutation(1_000)
    splits, sides = shared_out(np.zeros(1_000), time=pa.array(order))
    assert sides[np.argsort(order)].tolist() == [
        *["train"] * 700, *["validation"] * 100, *["calibration"] * 100, *["test"] * 100
    ]  # fmt: skip
    assert splits.notes == ("Rows were split in order of column 'when': the oldest train.",)


def test_a_class_that_comes_up_late_is_reported():
    """A split by time does not move a new class back in time, but says that it was not learned."""
    splits, _ = shared_out(np.repeat([0, 1, 2], [900, 50, 50]), time=pa.array(np.arange(1_000)))
    assert splits.notes == (
        "Rows were split in order of column 'when': the oldest train.",
        "2 of 3 classes have no training row: the model cannot learn them.",
    )


def test_the_times_of_given_rows_do_not_matter():
    """Only the main file is split by time, so a test file needs no times."""
    times = pa.array([*range(500), None])
    splits, _ = shared_out(np.zeros(501), time=times, given=pa.array([None] * 500 + ["test"]))
    assert splits.sizes() == {"train": 400, "validation": 50, "calibration": 50, "test": 1}


def test_a_row_without_a_class_is_refused():
    """Rows without a label are named, not split."""
    with pytest.raises(DataError, match=re.escape("row 3")) as caught:
        shared_out([0, 1, -1, 0, -1])
    assert str(caught.value) == (
        "reviews.csv: row 3: no label, so the row belongs to no class that could be split.\n"
        "  2 rows are so. Give them labels, or leave them out."
    )


def test_given_rows_alone_cannot_be_trained_with():
    """Without a main file there is nothing to train with."""
    with pytest.raises(DataError, match=r".") as caught:
        shared_out([0, 1], given=pa.array(["test", "validation"]))
    assert str(caught.value) == (
        "reviews.csv: no rows to train with.\n"
        "  Rows of a validation or test file are never trained with: give the training rows as DATA."
    )


def shared_out_labels(labels, near=None, *, shares=SHARES, seed=0, **columns):
    """Split made-up rows that have several labels; returns the splits and each row's side."""
    labels = np.asarray(labels, dtype=bool)
    near = np.arange(len(labels)) if near is None else renumbered(np.asarray(near, dtype=np.int64))
    groups = TextGroups(near, near, None)
    splits = split(table(len(labels), **columns), strata=labels, groups=groups, shares=shares, seed=seed)
    return splits, splits.side_of(len(labels))


def label_shares(labels, sides):
    """Share of each label's rows on each side, `(labels, sides)`."""
    return np.array([labels[sides == side].sum(axis=0) for side in SIDES]).T / labels.sum(axis=0)[:, None]


@given(st.integers(0, 10_000), st.integers(1, 120), st.integers(1, 6), st.sampled_from([3, 40, 2_000]))
@settings(max_examples=100, deadline=None)
def test_rows_with_several_labels_keep_all_promises(seed, rows, count, texts):
    """Every row has one side, groups stay together, and each label trains, rows without any label included."""
    draw = np.random.default_rng(seed)
    labels, near = draw.random((rows, count)) < draw.random(count), draw.integers(0, texts, rows)
    splits, sides = shared_out_labels(labels, near, seed=seed)
    assert sorted(np.concatenate(list(splits.sides.values())).tolist()) == list(range(rows))
    assert on_one_side(sides, near)
    assert (labels[sides == "train"].any(axis=0) == labels.any(axis=0)).all()


@pytest.mark.parametrize("seed", range(3))
def test_every_label_has_its_share_on_every_side(seed):
    """Common and rare labels, alone and together, are shared out as the whole is."""
    draw = np.random.default_rng(seed)
    labels = draw.random((2_000, 8)) < [0.5, 0.3, 0.2, 0.1, 0.05, 0.03, 0.02, 0.01]
    labels[:, 1] |= labels[:, 0] & (draw.random(2_000) < 0.5)
    splits, sides = shared_out_labels(labels, seed=seed)
    assert (
        np.abs(label_shares(labels, sides) * labels.sum(axis=0)[:, None] - labels.sum(axis=0)[:, None] * SHARES).max()
        <= 4
    )
    assert np.abs(np.array(list(splits.sizes().values())) / 2_000 - SHARES).max() < 0.01
    assert splits.notes == ()


def test_groups_of_rows_with_labels_do_not_upset_the_shares():
    """Groups of many sizes stay together, and single rows make up for them."""
    draw = np.random.default_rng(0)
    labels = draw.random((1_200, 4)) < [0.4, 0.2, 0.1, 0.05]
    near = np.concatenate([np.zeros(60), np.repeat(np.arange(1, 101), 4), np.arange(200, 940)])
    splits, sides = shared_out_labels(labels, near)
    assert on_one_side(sides, near)
    assert np.abs(np.array(list(splits.sizes().values())) / 1_200 - SHARES).max() < 0.01
    assert np.abs(label_shares(labels, sides) - SHARES).max() < 0.06


def test_the_seed_decides_over_rows_with_labels():
    """The same seed gives the same split, another seed another one."""
    labels = np.random.default_rng(0).random((300, 3)) < 0.3
    sides = [shared_out_labels(labels, seed=seed)[1].tolist() for seed in (3, 3, 4)]
    assert sides[0] == sides[1] != sides[2]


def test_a_label_with_one_row_trains():
    """Whatever the seed, and also where train's share is small."""
    labels = np.zeros((200, 3), dtype=bool)
    labels[:100, 0] = labels[7, 1] = labels[150, 2] = True
    for seed in range(10):
        _, sides = shared_out_labels(labels, shares=(0.25, 0.25, 0.25, 0.25), seed=seed)
        assert (sides[7], sides[150]) == ("train", "train")


def test_of_very_many_rows_the_rarest_label_counts(monkeypatch):
    """Above the limit the split is by one class a row, and rare labels still have their shares."""
    monkeypatch.setattr("bertsmith.data.split.MOST_ROWS", 1_000)
    labels = np.random.default_rng(0).random((1_500, 4)) < [0.5, 0.3, 0.1, 0.04]
    splits, sides = shared_out_labels(labels)
    assert np.abs(label_shares(labels, sides)[3] * labels[:, 3].sum() - labels[:, 3].sum() * np.array(SHARES)).max() < 1
    assert np.abs(np.array(list(splits.sizes().values())) - np.array(SHARES) * 1_500).max() < 3


def test_given_sides_of_rows_with_labels_are_kept():
    """A test file stays the test side, and a label that only it has is reported."""
    labels = np.zeros((450, 3), dtype=bool)
    labels[:200, 0] = labels[200:, 1] = labels[449, 2] = True
    splits, sides = shared_out_labels(labels, given=pa.array([None] * 400 + ["test"] * 50))
    assert set(sides[400:]) == {"test"}
    assert splits.sizes() == {"train": 320, "validation": 40, "calibration": 40, "test": 50}
    assert splits.notes == ("1 of 3 classes have no training row: the model cannot learn them.",)


def test_rows_without_any_label_are_shared_out_too():
    """Where no row has a label the shares of the sides hold all the same."""
    splits, _ = shared_out_labels(np.zeros((1_000, 2)))
    assert splits.sizes() == {"train": 700, "validation": 100, "calibration": 100, "test": 100}

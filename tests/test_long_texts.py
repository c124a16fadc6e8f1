"""How long texts are read is chosen by trial: the same choice each time, and never above the budget."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

import bertsmith
from bertsmith import encoders
from bertsmith.data.encode import TokenEncoder
from bertsmith.data.read import read
from bertsmith.flops import train_flops
from bertsmith.long_texts import FEW, TRIED, WAYS, choose, trial_rows
from bertsmith.recipe import Read
from bertsmith.tasks import Rows, task_named
from tests import task_rows
from tests.cli.finished import QUICK
from tests.training.steps import fresh_model

MAX_LENGTH = 16
TASK = task_named("single-label")


def far_rows(count: int, *, seed: int) -> list[tuple[str, str]]:
    """Texts of about 40 words, whose label is told near the end."""
    generator = np.random.default_rng(seed)
    return [
        (" ".join([*generator.choice(["the", "film", "was", "room", "it"], 30), row["text"]]), f"star{row['label']}")
        for row in task_rows.stars(count, seed=seed)
    ]


def encode(folder, way, side) -> Rows:
    count, seed = {"train": (120, 1), "validation": (60, 2)}[side]
    examples = read(far_rows(count, seed=seed), Read())
    tokens = TokenEncoder(encoders.find(str(folder)).tokenizer(), MAX_LENGTH, 0, long=way)
    encoded = tokens.encode(examples.column("text"))
    labels = TASK.labels(examples)
    return Rows(examples, encoded, TASK.targets(examples, encoded, labels), np.ones(count), labels)


@pytest.fixture(scope="module")
def tried(tiny_encoder):
    """A model, and how to encode the trial rows for it."""
    encoded = partial(encode, tiny_encoder)
    return fresh_model(tiny_encoder, TASK, encoded("head", "train")), encoded


def test_the_choice_repeats_itself(tried):
    """Chosen again, the way, every score and every figure of work are the same to the last digit."""
    model, encoded = tried
    before = [each.detach().clone() for each in model.parameters()]
    first, second = (choose(model, TASK, encoded, budget=2.0, seed=3) for _ in range(2))
    assert first == second
    assert [each.way for each in first.choices] == list(WAYS)
    assert len({each.score for each in first.choices}) > 1
    assert all((one == other).all() for one, other in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize("budget", [1.0, 1.5, 2.0, 3.0, 10.0])
def test_no_way_above_the_budget_is_chosen(tried, budget):
    """Of the ways whose work is within the budget the one that scores best is taken; the others are told, not taken."""
    model, encoded = tried
    found = choose(model, TASK, encoded, budget=budget, seed=3)
    work = {way: train_flops(model.config.to_dict(), encoded(way, "train").encoded.window_lengths, outputs=3)
            for way in WAYS}  # fmt: skip
    for each in found.choices:
        assert each.work == pytest.approx(work[each.way] / work["head"])
        assert each.allowed == (each.work <= budget)
    chosen = next(each for each in found.choices if each.way == found.way)
    assert chosen.work <= budget
    assert chosen.score == max(each.score for each in found.choices if each.work <= budget)
    told = found.as_json()
    assert (told["chosen"], told["metric"]) == (found.way, "macro_f1")
    assert {way: each["allowed"] for way, each in told["choices"].items()} == {
        way: work[way] / work["head"] <= budget for way in WAYS
    }


def test_trial_rows_are_a_sample_of_the_side():
    """A small side is looked at whole, a large one by a sample in its order, the same for the same seed."""
    rows = np.arange(0, 9_000, 3)
    assert trial_rows(rows[: TRIED["train"]], "train", seed=1).tolist() == rows[: TRIED["train"]].tolist()
    drawn = trial_rows(rows, "train", seed=1)
    assert len(set(drawn.tolist())) == len(drawn) == TRIED["train"]
    assert set(drawn.tolist()) <= set(rows.tolist())
    assert (np.diff(drawn) > 0).all()
    assert drawn.tolist() == trial_rows(rows, "train", seed=1).tolist()
    assert drawn.tolist() != trial_rows(rows, "train", seed=2).tolist()


@pytest.mark.parametrize(("long", "way"), [(2, "head"), (60, None)])
def test_the_head_is_kept_without_a_trial_where_few_texts_are_long(tiny_encoder, tmp_path, long, way):
    """Up to one text of a hundred that is longer than the max length, nothing is tried; beyond that, all ways are."""
    short = [(row["text"], f"star{row['label']}") for row in task_rows.stars(300 - long, seed=7)]
    settings = {**QUICK, "encoder": str(tiny_encoder), "max_length": MAX_LENGTH, "epochs": 1}
    run = bertsmith.train([*short, *far_rows(long, seed=8)], out=tmp_path / "run", **settings)
    told = run.scores.get("long") or {}
    assert (long / 300 <= FEW) == (way == "head")
    assert set(told.get("choices", {})) == (set() if way else set(WAYS))
    assert bertsmith.Recipe.load(run.path / "recipe.toml").text.long == (way or told["chosen"])

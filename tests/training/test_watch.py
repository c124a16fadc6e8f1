"""Watching: real runs that are made to fail are named as such, healthy ones are not, and each threshold is where the page says."""

from __future__ import annotations

import json
import math
import random
import re
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score, log_loss

from bertsmith.listener import Silent
from bertsmith.run_folder import create
from bertsmith.tasks import task_named
from bertsmith.training import watch
from bertsmith.training.facts import Facts, answer_blindly, facts_of
from bertsmith.training.fit import fit
from bertsmith.training.watch import look, look_back
from tests.conftest import toy_rows
from tests.training.steps import fresh_model, recipe, rows_of

TASK = task_named("single-label")
PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "watching.md"


def mislabelled(rows, share: float):
    """Give some rows any label."""
    generator = random.Random(1)
    labels = sorted({label for _, label in rows})
    return [(text, generator.choice(labels) if generator.random() < share else label) for text, label in rows]


def history_of(encoder: Path, folder: Path, learned, held, **settings):
    """Train from a random head; give the history and the facts."""
    rows, validation = rows_of(encoder, TASK, learned), rows_of(encoder, TASK, held)
    chosen = recipe(**settings)
    steps = chosen.fit.epochs * math.ceil(len(rows) / chosen.fit.batch_size)
    run = create(folder / "run", force=False)
    fit(fresh_model(encoder, TASK, rows), rows, validation, task=TASK, recipe=chosen, run=run, listener=Silent())
    history = [json.loads(line) for line in run.history.read_text(encoding="utf-8").splitlines()]
    return history, facts_of(TASK, rows, validation, recipe=chosen, steps=steps)


@pytest.fixture(scope="module")
def healthy(tiny_encoder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("healthy")
    return history_of(tiny_encoder, folder, toy_rows(300), toy_rows(80, seed=5), epochs=6, learning_rate=2e-3)


def test_a_healthy_run_raises_no_alarm(healthy):
    """A run that learns, even one that stays at chance for its first fifty steps, is left in peace."""
    history, facts = healthy
    assert history[-1]["eval_log_loss"] < 0.6 * facts.chance
    assert look_back(history, facts) == []


def test_a_huge_learning_rate_diverges(tiny_encoder, tmp_path):
    """At a learning rate near 1 the loss runs away, and that is said before the half of the run is over."""
    history, facts = history_of(
        tiny_encoder, tmp_path, toy_rows(200), toy_rows(60, seed=5), epochs=4, learning_rate=0.9, clip=0.0
    )
    alarms = look_back(history[: len(history) // 2 + 1], facts)
    assert [alarm.kind for alarm in alarms] == ["diverging"]
    assert alarms[0].remedy == "Lower --learning-rate, now 0.9, by ten times; 2e-5 is usual for large encoders."


def test_a_tiny_learning_rate_does_not_learn(tiny_encoder, tmp_path):
    """At a learning rate of 1e-9 nothing moves; the remedy is a higher one."""
    history, facts = history_of(
        tiny_encoder, tmp_path, toy_rows(200), toy_rows(60, seed=5), epochs=5, learning_rate=1e-9
    )
    alarms = look_back(history, facts)
    assert [alarm.kind for alarm in alarms] == ["not-learning"]
    assert alarms[0].remedy == "Raise --learning-rate: 1e-09 is too low to move anything."


def test_noise_is_learned_by_heart(tiny_encoder, tmp_path):
    """Twenty epochs on thirty rows whose labels are half noise over-fit."""
    learned, held = mislabelled(toy_rows(30), 0.5), mislabelled(toy_rows(60, seed=5), 0.3)
    history, facts = history_of(
        tiny_encoder, tmp_path, learned, held, epochs=20, batch_size=4, learning_rate=5e-3, patience=0
    )
    assert "over-fitting" in [alarm.kind for alarm in look_back(history, facts)]


def test_a_slow_clock_is_too_slow(healthy):
    """The same healthy run on a clock that runs ten thousand times slower has hours left, and only that is said."""
    history, facts = healthy
    slowed = [{**line, "seconds": line["seconds"] * 10_000} for line in history]
    assert [alarm.kind for alarm in look_back(slowed, facts)] == ["too-slow"]


def loss_lines(losses, *, every: int = 10, seconds: float = 1.0):
    return [
        {
            "step": every * (at + 1),
            "epoch": (at + 1) / 10,
            "loss": loss,
            "grad_norm": 1.0,
            "seconds": seconds * (at + 1),
        }
        for at, loss in enumerate(losses)
    ]


def epochs_of(*epochs: tuple[float, float, float]):
    """A history of one loss line and one validation an epoch: training loss, validation loss, metric."""
    history = []
    for at, (loss, eval_loss, metric) in enumerate(epochs, start=1):
        history.append({"step": 100 * at, "epoch": float(at), "loss": loss, "seconds": float(at)})
        history.append({"step": 100 * at, "epoch": float(at), "eval_log_loss": eval_loss, "eval_accuracy": metric})
    return history


def facts(**changes):
    given = {
        "steps": 500, "learning_rate": 2e-5, "metric": "accuracy", "loss": "log_loss", "baseline": 0.5, "chance": 0.7,
    }  # fmt: skip
    return Facts(**{**given, **changes})


def kinds(history, known: Facts):
    return [alarm.kind for alarm in look(history, known)]


@pytest.mark.parametrize(
    ("losses", "chance", "expected"),
    [
        ([0.7, 1.06, 1.06, 1.06], 0.7, ["diverging"]),
        ([0.7, 1.04, 1.06, 1.06], 0.7, []),
        ([0.7, 1.2, 1.1, 1.1], 0.7, []),
        ([0.1, 0.31, 0.31, 0.31], None, ["diverging"]),
        ([0.1, 0.29, 0.31, 0.31], None, []),
        ([0.7, 0.48, 0.48, 0.48, 0.67, 0.67, 0.67], 0.7, ["diverging"]),
        ([0.7, 0.50, 0.50, 0.50, 0.67, 0.67, 0.67], 0.7, []),
        ([0.7, 0.48, 0.48, 0.48, 0.66, 0.67, 0.67], 0.7, []),
        ([0.02, 0.02, 0.02, 0.2, 0.2, 0.2], 0.7, []),
        ([2.0], 0.7, []),
    ],
)
def test_when_a_loss_runs_away(losses, chance, expected):
    """Three lines above the bound and not falling, or back at chance after something was learned; no less."""
    assert kinds(loss_lines(losses), facts(chance=chance)) == expected


@pytest.mark.parametrize("broken", [{"loss": math.nan}, {"loss": math.inf}, {"grad_norm": math.inf}])
def test_a_number_that_is_none_diverges(broken):
    """A loss or a norm that is not finite is named at once."""
    history = loss_lines([0.7, 0.6])
    history[-1] |= broken
    (alarm,) = look(history, facts())
    assert alarm.message == "at step 20 the loss or the gradient's norm is no finite number."
    assert alarm.remedy == "Lower --learning-rate, now 2e-05, by ten times."


@pytest.mark.parametrize(
    ("epochs", "changes", "expected"),
    [
        ([(0.69, 0.69, 0.5), (0.69, 0.69, 0.5)], {}, ["not-learning"]),
        ([(0.69, 0.69, 0.5)], {}, []),
        ([(0.69, 0.69, 0.5)], {"steps": 200}, ["not-learning"]),
        ([(0.69, 0.69, 0.5), (0.67, 0.69, 0.5)], {}, []),
        ([(0.69, 0.67, 0.5), (0.69, 0.69, 0.5)], {}, []),
        ([(0.69, 0.69, 0.5), (0.69, 0.69, 0.5)], {"steps": 2000}, []),
        ([(0.69, 0.69, 0.5), (0.69, 0.69, 0.5)], {"steps": 2000, "learning_rate": 1e-6}, ["not-learning"]),
        ([(0.69, 0.69, 0.5), (0.69, 0.69, 0.5)], {"steps": 2000, "patience": 1}, ["not-learning"]),
        ([(0.69, 0.69, 0.5), (0.69, 0.69, 0.51)], {"steps": 2000, "patience": 1}, []),
        ([(0.30, 0.300, 0.9), (0.299, 0.301, 0.9)], {}, ["not-learning"]),
        ([(0.30, 0.300, 0.9), (0.29, 0.301, 0.9)], {}, []),
        ([(0.30, 0.300, 0.9), (0.299, 0.304, 0.9)], {}, []),
        ([(2.0, 0.7, 0.5), (1.99, 0.6, 0.5)], {"chance": None}, ["not-learning"]),
        ([(2.0, 0.7, 0.5), (1.99, 0.6, 0.51)], {"chance": None}, []),
        ([(2.0, 0.7, 0.5), (1.90, 0.6, 0.5)], {"chance": None}, []),
    ],
)  # fmt: skip
def test_when_nothing_is_learned(epochs, changes, expected):
    """At chance or unmoved: after two validations and three tenths of the steps, sooner where the run stops or the rate is low."""
    assert kinds(epochs_of(*epochs), facts(**changes)) == expected


@pytest.mark.parametrize(
    ("rate", "strategy", "remedy"),
    [
        (1e-6, "full", "Raise --learning-rate: 1e-06 is too low to move anything."),
        (0.01, "full", "Lower --learning-rate: 0.01 throws away what the encoder knows."),
        (2e-4, "head", "Take --strategy full: the encoder as it comes does not tell these labels apart any better."),
        (2e-5, "full", "Look at the labels (bertsmith check DATA); if they are right, try another --learning-rate or --encoder."),
    ],
)  # fmt: skip
def test_what_helps_depends_on_the_rate(rate, strategy, remedy):
    """A low rate is raised, a high one lowered, a frozen encoder thawed; else the labels are looked at."""
    history = epochs_of((0.69, 0.69, 0.5), (0.69, 0.69, 0.5))
    (alarm,) = look(history, facts(learning_rate=rate, strategy=strategy))
    assert alarm.remedy == remedy
    assert alarm.message == (
        "after 200 steps the training loss is 0.69, no lower than that of answering without reading (0.7); accuracy on "
        "validation is 0.500, without reading 0.500."
    )


@pytest.mark.parametrize(("last", "expected"), [(0.69, ["not-learning"]), (0.68, [])])
def test_without_validation_rows_the_loss_itself_has_to_fall(last, expected):
    """The last quarter's losses are held against the first quarter's, in the second half of the run."""
    history = loss_lines([0.7] * 9 + [last] * 3)
    assert kinds(history, Facts(steps=200, learning_rate=2e-5)) == expected
    assert kinds(history, Facts(steps=300, learning_rate=2e-5)) == []


OVER = [(0.5, 0.50, 0.80), (0.44, 0.53, 0.79), (0.4, 0.56, 0.79)]


@pytest.mark.parametrize(
    ("epochs", "changes", "expected"),
    [
        (OVER, {}, ["over-fitting"]),
        (OVER[:2], {}, []),
        ([*OVER[:2], (0.4, 0.54, 0.79)], {}, []),
        ([*OVER[:2], (0.46, 0.56, 0.79)], {}, []),
        ([*OVER[:2], (0.4, 0.56, 0.81)], {}, []),
        (OVER, {"loss": None, "chance": None}, []),
        ([*OVER[:2], (0.4, 0.56, 0.78)], {"loss": None, "chance": None}, ["over-fitting"]),
        ([(0.6, 0.69, 0.55), (0.34, 1.41, 0.56)], {}, ["over-fitting"]),
        ([(0.6, 0.69, 0.55), (0.36, 1.41, 0.56)], {}, []),
        ([(0.6, 0.69, 0.55), (0.34, 1.39, 0.56)], {}, []),
    ],
)
def test_when_rows_are_learned_by_heart(epochs, changes, expected):
    """The metric was best two validations ago while the training loss fell and the validation loss rose by a tenth, or that is far off."""
    assert kinds(epochs_of(*epochs), facts(**changes)) == expected


def test_an_over_fitting_run_is_told_which_epoch_was_best():
    """The alarm has the losses, the best epoch and what to try."""
    (alarm,) = look(epochs_of(*OVER), facts())
    assert alarm.as_json() == {
        "kind": "over-fitting",
        "message": "the training loss is down at 0.4, the validation loss is 0.56 (at its lowest 0.5); accuracy was best at "
        "epoch 1 (0.8000, now 0.7900).",
        "remedy": "The best epoch is kept. Try --epochs 1, more --dropout (0.2), --freeze embeddings, or a lower "
        "--learning-rate; more rows help most.",
    }


def test_a_metric_that_is_a_loss_is_best_when_lowest():
    """Where the loss chooses the epoch, its lowest value is the best one."""
    known = facts(metric="log_loss", greater_is_better=False, baseline=0.7)
    assert kinds(epochs_of(*OVER), known) == ["over-fitting"]
    assert kinds(epochs_of(*reversed(OVER)), known) == []


@pytest.mark.parametrize(
    ("seconds", "steps", "possible", "expected"),
    [
        (80.0, 1000, None, "at 4 examples/s up to 2.1 hours are left."),
        (70.0, 1000, None, None),
        (80.0, 900, None, None),
        (10.0, 1000, 321.0, "32 examples/s; the matrix products of this machine would allow 321. Up to 16 minutes are left."),
        (10.0, 1000, 319.0, None),
        (6.0, 1000, 5321.0, None),
    ],
)  # fmt: skip
def test_when_a_run_is_too_slow(seconds, steps, possible, expected):
    """Two hours are left, or ten minutes on a machine that could do ten times as much."""
    history = loss_lines([0.6, 0.5, 0.4, 0.3], seconds=seconds)
    known = facts(steps=steps, rows_per_step=32, possible=possible)
    assert [alarm.message for alarm in look(history, known)] == ([] if expected is None else [expected])
    assert look(history[:2], known) == []


def test_a_clock_that_begins_anew_is_no_speed():
    """After a resumed run's seconds begin at 0 again, the step across that border is left out."""
    history = loss_lines([0.6, 0.5, 0.4, 0.3], seconds=80.0)
    again = [{**line, "seconds": 800.0} for line in history[:1]] + history[1:]
    assert [alarm.kind for alarm in look(again, facts(steps=1000))] == ["too-slow"]


def test_each_kind_is_said_once():
    """What was said is not said again, and after diverging nothing else is asked but the speed."""
    history = loss_lines([1.0, 2.0, 3.0, 4.0], seconds=1000.0)
    assert kinds(history, facts()) == ["diverging", "too-slow"]
    assert [alarm.kind for alarm in look(history, facts(), said={"diverging"})] == ["too-slow"]
    assert look(history, facts(), said={"diverging", "too-slow"}) == []
    assert look([], facts()) == []
    flat = [*history, *epochs_of((0.69, 0.69, 0.5), (0.69, 0.69, 0.5))]
    assert look(flat, facts(), said={"diverging", "too-slow"}) == []


def test_the_yardstick_is_scikit_learns(tiny_encoder):
    """Answering without reading scores what scikit-learn says of the training rows' label shares."""
    learned, held = toy_rows(50), toy_rows(31, seed=3)
    rows, validation = rows_of(tiny_encoder, TASK, learned), rows_of(tiny_encoder, TASK, held)
    shares = np.bincount(rows.targets, minlength=3) / len(rows)
    found = facts_of(TASK, rows, validation, recipe=recipe(patience=3), steps=14, possible=3.5)
    truth = validation.targets
    assert found.baseline == pytest.approx(f1_score(truth, np.full(31, shares.argmax()), average="macro"))
    assert found.chance == pytest.approx(log_loss(truth, np.tile(shares, (31, 1)), labels=[0, 1, 2]))
    assert (found.steps, found.patience, found.rows_per_step, found.possible) == (14, 3, 8, 3.5)
    assert (found.metric, found.greater_is_better, found.loss) == ("macro_f1", True, "log_loss")


@pytest.mark.parametrize("bent", [{"label_smoothing": 0.1}, {"class_weights": "balanced"}])
def test_bent_losses_have_no_yardstick(tiny_encoder, bent):
    """A smoothed or weighted training loss is not held against a plain one."""
    rows = rows_of(tiny_encoder, TASK, toy_rows(20))
    found = facts_of(TASK, rows, rows, recipe=recipe(**bent), steps=10)
    assert found.chance is None
    assert found.baseline is not None


def test_numbers_have_the_mean_as_their_yardstick(tiny_encoder):
    """Without reading, a regression answers the mean; its loss is the variance, and lower is better."""
    task = task_named("regression")
    values = np.arange(20) / 7
    rows = rows_of(
        tiny_encoder, task, [(text, str(value)) for (text, _), value in zip(toy_rows(20), values, strict=True)]
    )
    found = facts_of(task, rows, rows, recipe=recipe(metric="mse"), steps=10)
    assert found.chance == found.baseline == pytest.approx(values.var())
    assert (found.loss, found.greater_is_better) == ("mse", False)


def test_without_validation_rows_there_is_no_yardstick(tiny_encoder):
    """Nothing is measured where there is nothing to measure on."""
    rows = rows_of(tiny_encoder, TASK, toy_rows(20))
    for validation in (None, rows.take(np.arange(0))):
        found = facts_of(TASK, rows, validation, recipe=recipe(), steps=10)
        assert (found.baseline, found.chance, found.loss) == (None, None, None)
    assert answer_blindly(task_named("question-answering"), rows, rows) == {}


def test_the_page_has_the_thresholds_of_the_code():
    """docs/explanation/watching.md lists every threshold with its value, and its prose quotes each value."""
    text = PAGE.read_text(encoding="utf-8")
    listed = {name: float(value) for name, value in re.findall(r"^\| `([A-Z_]+)` \| (\S+) \|$", text, re.MULTILINE)}
    held = {name: float(value) for name, value in vars(watch).items() if name.isupper() and name[0] != "_"}
    assert listed == held
    prose = set(map(float, re.findall(r"\d+(?:\.\d+)?(?:e-\d+)?", text.partition("## The thresholds")[0])))
    assert set(held.values()) - prose == set()


def test_the_page_has_every_kind():
    """Each kind of alarm has a section of its own."""
    titles = re.findall(r"^## (.*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert titles == [*watch.Kind.__args__, "The thresholds"]

"""Tuning: trials on train and validation rows alone, one study that goes on, and a recipe that repeats its best trial."""

from __future__ import annotations

import importlib.util
import json
import shutil

import pytest

from bertsmith import pipeline
from bertsmith.data.encode import TokenEncoder
from bertsmith.errors import BertsmithError, DataError, MissingExtraError, StoppedError, UsageError
from bertsmith.recipe import Recipe
from bertsmith.tuning.space import SEARCHED
from bertsmith.tuning.tune import Budget, tune
from tests.conftest import toy_rows
from tests.tuning.fakes import FakeFit

ROWS = toy_rows(120)


def base(encoder, **changes) -> Recipe:
    given = {"encoder": str(encoder), "device": "cpu", "threads": 1, "precision": "fp32", "max_length": 32, "epochs": 3}
    return Recipe.of(**{**given, **changes})


@pytest.fixture
def fake(monkeypatch):
    found = FakeFit()
    monkeypatch.setattr("bertsmith.training.fit.fit", found)
    return found


def chosen(tuned):
    """What the trials chose and came to, without clocks."""
    return [(each.state, each.value, dict(each.settings), each.epochs) for each in tuned.trials]


def test_the_recipe_repeats_the_best_trial(tiny_encoder, tmp_path):
    """`train --recipe DIR/recipe.toml` scores on validation rows exactly what the best trial scored."""
    given = base(tiny_encoder, learning_rate=2e-3, epochs=2, batch_size=16)
    tuned = tune(ROWS, out=tmp_path / "study", recipe=given, fixed=["learning_rate", "epochs"], budget=Budget(2))
    recipe = Recipe.load(tmp_path / "study" / "recipe.toml")
    assert recipe == tuned.recipe
    assert (recipe.fit.learning_rate, recipe.fit.epochs, recipe.fit.metric) == (2e-3, 2, "macro_f1")
    trained = pipeline.train(ROWS, out=tmp_path / "run", recipe=recipe)
    lines = [json.loads(line) for line in trained.run.history.read_text(encoding="utf-8").splitlines()]
    values = [line["eval_macro_f1"] for line in lines if "eval_macro_f1" in line]
    assert max(values) == tuned.best.value
    assert tuple(values) == tuned.best.epochs
    assert sorted(path.name for path in (tmp_path / "study").iterdir()) == [
        "material", "recipe.toml", "study.db", "trials", "trials.jsonl",
    ]  # fmt: skip
    assert [path for path in (tmp_path / "study").rglob("*") if path.suffix in {".arrow", ".safetensors"}] == []


def test_the_first_trial_is_what_train_would_do(tiny_encoder, tmp_path, fake):
    """Nothing found is worse than the defaults: they are the first trial."""
    tune(ROWS, out=tmp_path / "study", recipe=base(tiny_encoder), budget=Budget(1))
    ((recipe, *_),) = fake.calls
    assert (recipe.fit.learning_rate, recipe.fit.epochs, recipe.fit.batch_size, recipe.fit.freeze) == (1e-4, 3, 32, "")


def test_test_rows_are_never_touched(tiny_encoder, tmp_path, fake, monkeypatch):
    """Neither test nor calibration rows are encoded, and poisoned test rows change nothing."""
    seen = []
    encode = TokenEncoder.encode

    def remember(self, texts, *rest, **named):
        seen.extend(texts.to_pylist())
        return encode(self, texts, *rest, **named)

    monkeypatch.setattr(TokenEncoder, "encode", remember)
    other = toy_rows(90, seed=7)
    found = []
    for name, test in (("good", other[:40]), ("poison", [(text + " no no", "positive") for text, _ in other[40:]])):
        file = tmp_path / f"{name}.csv"
        file.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in test), encoding="utf-8")
        out = tmp_path / f"study-{name}"
        found.append(
            tune(ROWS, out=out, recipe=base(tiny_encoder, test=str(file), shares="50/20/30/0"), budget=Budget(2))
        )
        assert not set(seen) & {text for text, _ in test}
    assert len(set(seen)) == sum(len(rows) for rows in fake.calls[0][1:]) < len(ROWS)
    assert chosen(found[0]) == chosen(found[1])


def test_a_study_goes_on(tiny_encoder, tmp_path, fake):
    """Two calls of two and four trials try the same as one call of four."""
    given = base(tiny_encoder)
    whole = tune(ROWS, out=tmp_path / "whole", recipe=given, budget=Budget(4))
    tune(ROWS, out=tmp_path / "parts", recipe=given, budget=Budget(2))
    parts = tune(ROWS, out=tmp_path / "parts", recipe=given, budget=Budget(4))
    assert chosen(parts) == chosen(whole)
    assert len({str(each.settings) for each in whole.trials}) == 4
    assert len(fake.calls) == 8
    again = tune(ROWS, out=tmp_path / "parts", recipe=given, budget=Budget(4))
    assert len(fake.calls) == 8
    assert again.as_json() == parts.as_json()
    lines = (tmp_path / "parts" / "trials.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [each.as_json() for each in parts.trials]


def test_a_killed_trial_is_marked_and_tried_again(tiny_encoder, tmp_path, fake):
    """What was killed is written down as killed; the study tries the same once more and ends as if nothing had been."""
    given = base(tiny_encoder)
    whole = tune(ROWS, out=tmp_path / "whole", recipe=given, budget=Budget(3))

    def kill(call: int, epoch: int) -> None:
        if call == 5 and epoch == 2:
            raise KeyboardInterrupt

    fake.before = kill
    with pytest.raises(KeyboardInterrupt):
        tune(ROWS, out=tmp_path / "killed", recipe=given, budget=Budget(3))
    killed = tune(ROWS, out=tmp_path / "killed", recipe=given, budget=Budget(3))
    assert [each.state for each in killed.trials] == ["complete", "killed", "complete", "complete"]
    assert killed.trials[1].settings == killed.trials[2].settings
    assert [each for each in chosen(killed) if each[0] != "killed"] == chosen(whole)
    assert killed.recipe == whole.recipe


def test_what_is_killed_twice_is_let_alone(tiny_encoder, tmp_path, fake):
    """A choice that kills the process each time does not keep the study from going on."""
    attempts = []

    def kill(call: int, epoch: int) -> None:
        if fake.calls[-1][0].fit.freeze == "" and fake.calls[-1][0].fit.learning_rate == 1e-4:
            attempts.append(call)
            raise KeyboardInterrupt

    fake.before = kill
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            tune(ROWS, out=tmp_path / "study", recipe=base(tiny_encoder), budget=Budget(2))
    tuned = tune(ROWS, out=tmp_path / "study", recipe=base(tiny_encoder), budget=Budget(2))
    assert [each.state for each in tuned.trials] == ["killed", "killed", "complete"]
    assert attempts == [1, 2]


def test_ctrl_c_says_how_to_go_on(tiny_encoder, tmp_path, fake):
    """An interrupted trial keeps its checkpoints and the message names the way on."""

    def stop(call: int, epoch: int) -> None:
        raise StoppedError("interrupted at step 3 of 9.", tip="Go on with: bertsmith train --resume X")

    fake.before = stop
    with pytest.raises(StoppedError) as caught:
        tune(ROWS, out=tmp_path / "study", recipe=base(tiny_encoder), budget=Budget(2))
    assert str(caught.value) == "interrupted in trial 1.\n  The same command goes on where it stopped."


def test_a_failed_trial_does_not_end_the_study(tiny_encoder, tmp_path, fake):
    """A training that blows up is a trial that failed; the next one begins."""

    def blow_up(call: int, epoch: int) -> None:
        if call == 1:
            raise BertsmithError("training blew up.", tip="Lower the rate.")
        if call == 2:
            raise MemoryError

    fake.before = blow_up
    tuned = tune(ROWS, out=tmp_path / "study", recipe=base(tiny_encoder), budget=Budget(3))
    assert [(each.state, each.value is None, each.why) for each in tuned.trials] == [
        ("failed", True, "training blew up.\n  Lower the rate."), ("failed", True, "out of memory"), ("complete", False, ""),
    ]  # fmt: skip
    assert tuned.best.trial == 3


def test_when_every_trial_fails(tiny_encoder, tmp_path, fake):
    """Then there is no recipe, and the last failure is told."""

    def blow_up(call: int, epoch: int) -> None:
        raise BertsmithError("training blew up.")

    fake.before = blow_up
    with pytest.raises(BertsmithError) as caught:
        tune(ROWS, out=tmp_path / "study", recipe=base(tiny_encoder), budget=Budget(2))
    assert str(caught.value) == (
        f"{tmp_path / 'study'}: none of 2 trials came to its end. The last one: training blew up.\n"
        "  Does `bertsmith train` with the same settings?"
    )
    assert not (tmp_path / "study" / "recipe.toml").exists()


def test_hopeless_trials_are_cut_short(tiny_encoder, tmp_path, fake):
    """After four whole trials one below the median ends after its second epoch, never after its first or last."""
    fake.metric = lambda recipe, epoch: (0.8 if len(fake.calls) <= 4 else 0.3) + epoch / 100
    tuned = tune(ROWS, out=tmp_path / "study", recipe=base(tiny_encoder, epochs=3), fixed=["epochs"], budget=Budget(6))
    assert [(each.state, len(each.epochs)) for each in tuned.trials] == [("complete", 3)] * 4 + [("pruned", 2)] * 2
    assert tuned.trials[5].why == "below the median"
    assert tuned.trials[5].value == pytest.approx(0.32)
    assert tuned.best.state == "complete"


def test_the_timeout_lets_one_trial_come_to_its_end(tiny_encoder, tmp_path, fake, monkeypatch):
    """However short the time, there is a result; a trial that is under way then ends with its epoch."""
    given, out = base(tiny_encoder), tmp_path / "study"
    short = tune(ROWS, out=out, recipe=given, budget=Budget(9, timeout=1e-9))
    assert [each.state for each in short.trials] == ["complete"]
    begun: list[int] = []
    fake.before = lambda call, epoch: begun.append(epoch)
    monkeypatch.setattr("bertsmith.tuning.tune._is_over", lambda until: until is not None and len(begun) >= 2)
    longer = tune(ROWS, out=out, recipe=given, budget=Budget(9, timeout=60.0))
    assert [(each.state, each.why, len(each.epochs)) for each in longer.trials] == [
        ("complete", "", 3), ("pruned", "the time is up", 2),
    ]  # fmt: skip


def test_a_loss_is_searched_downwards(tiny_encoder, tmp_path, fake):
    """Where the metric is a loss, the best trial is that with the lowest."""
    tuned = tune(ROWS, out=tmp_path / "study", recipe=base(tiny_encoder, metric="log_loss"), budget=Budget(3))
    done = [each for each in tuned.trials if each.state == "complete"]
    assert tuned.best.value == min(each.value for each in done) < max(each.value for each in done)
    assert not tuned.greater_is_better


def test_encoders_are_a_choice(tiny_encoder, tmp_path, fake):
    """Each encoder is encoded for when it is first chosen, and the recipe names the best trial's."""
    other = tmp_path / "other"
    shutil.copytree(tiny_encoder, other)
    names = [str(tiny_encoder), str(other)]
    fake.metric = lambda recipe, epoch: 0.9 if recipe.fit.encoder == names[1] else 0.1
    fixed = ["learning_rate", "epochs", "batch_size", "freeze"]
    tuned = tune(ROWS, out=tmp_path / "study", recipe=base(tiny_encoder), fixed=fixed, among=names, budget=Budget(3))
    assert [each.settings["encoder"] for each in tuned.trials][:2] == names
    assert tuned.recipe.fit.encoder == names[1]


@pytest.mark.parametrize(
    ("rows", "changes", "what"),
    [(toy_rows(100, seed=3), {}, "data"), (ROWS, {"weight_decay": 0.1}, "settings"), (ROWS, {"epochs": 5}, "choices")],
)
def test_another_study_is_not_gone_on_with(tiny_encoder, tmp_path, fake, rows, changes, what):
    """Trials with other data or settings cannot be compared, so they are refused; threads may change."""
    out = tmp_path / "study"
    tune(ROWS, out=out, recipe=base(tiny_encoder, epochs=3), fixed=["learning_rate"], budget=Budget(1))
    tune(ROWS, out=out, recipe=base(tiny_encoder, epochs=3, threads=2), fixed=["learning_rate"], budget=Budget(1))
    fixed = ["learning_rate", "batch_size"] if what == "choices" else ["learning_rate"]
    again = base(tiny_encoder, **({"epochs": 3} if what == "choices" else changes))
    with pytest.raises(UsageError) as caught:
        tune(rows, out=out, recipe=again, fixed=fixed, budget=Budget(2))
    named = "settings and choices" if what == "choices" else what
    assert str(caught.value).startswith(f"the study was begun with other {named}: ") or what == "data"
    assert caught.value.tip == "Choose another --out, or begin anew with --force."
    tuned = tune(rows, out=out, recipe=again, fixed=fixed, budget=Budget(1), force=True)
    assert len(tuned.trials) == 1


def test_a_folder_that_is_no_study_is_let_alone(tiny_encoder, tmp_path):
    """Nothing is written where anything else lies, not even with --force."""
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    for force in (False, True):
        with pytest.raises(UsageError) as caught:
            tune(ROWS, out=tmp_path, recipe=base(tiny_encoder), force=force)
        assert str(caught.value) == (
            f"{tmp_path}: exists and is no study of bertsmith, so nothing is written there.\n"
            "  Choose another --out, or an empty folder."
        )
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_without_validation_rows_nothing_can_be_compared(tiny_encoder, tmp_path):
    """Then it is refused before anything is written."""
    with pytest.raises(DataError) as caught:
        tune(ROWS, out=tmp_path / "study", recipe=base(tiny_encoder, shares="80/0/10/10"))
    assert str(caught.value).endswith(
        "the split leaves no validation rows, and trials are scored on them.\n"
        "  Use --shares 70/10/10/10, or give a file: --validation FILE."
    )
    assert not (tmp_path / "study").exists()


def test_nothing_to_search(tiny_encoder, tmp_path):
    """When every setting was given, there is nothing to do."""
    with pytest.raises(UsageError) as caught:
        tune(ROWS, out=tmp_path / "study", recipe=base(tiny_encoder), fixed=SEARCHED)
    assert str(caught.value) == (
        "nothing is left to search: every setting that tune chooses was given.\n"
        "  Leave one of them out: encoder, learning_rate, epochs, batch_size, freeze."
    )


def test_a_budget_of_nothing(tiny_encoder, tmp_path):
    """Both limits are checked, and both mistakes are named at once."""
    with pytest.raises(UsageError) as caught:
        tune(ROWS, out=tmp_path / "study", recipe=base(tiny_encoder), budget=Budget(0, timeout=0.0))
    assert str(caught.value) == (
        "'--trials' must be a whole number of at least 1. Got 0 instead.\n"
        "'--timeout' must be a number of seconds above 0. Got 0 instead."
    )


def test_optuna_may_be_missing(tiny_encoder, tmp_path, monkeypatch):
    """The extra that brings it is named."""
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *rest: None if name == "optuna" else found(name, *rest)
    )
    with pytest.raises(MissingExtraError) as caught:
        tune(ROWS, out=tmp_path / "study", recipe=base(tiny_encoder))
    assert str(caught.value) == (
        "tune needs the package 'optuna', which is not installed.\n  Install it with: pip install 'bertsmith[tune]'"
    )

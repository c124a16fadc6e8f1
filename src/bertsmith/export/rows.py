"""The rows that an export is judged by: the run's own, with the side that each had in training.

The run's data are read again, as `train --resume` does. Where they are gone or have changed, the texts that the run
keeps of its validation, calibration and test rows (predictions.parquet) serve as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bertsmith import record
from bertsmith.data.foreign import share_out
from bertsmith.data.near_duplicates import group_texts
from bertsmith.deciding import Foreign
from bertsmith.errors import DataError, UsageError
from bertsmith.examples import Columns, Examples
from bertsmith.inference.predictor import Predictor
from bertsmith.listener import Listener
from bertsmith.prepare import Prepared, prepare
from bertsmith.recipe import Recipe
from bertsmith.run_folder import RunFolder
from bertsmith.tasks import Rows

Array = np.ndarray[Any, Any]
SIDES = ("validation", "calibration", "test")


@dataclass(frozen=True)
class Judging:
    """Rows of a run that the model did not learn from.

    Attributes:
        sides: `validation`, `calibration` and `test`; each may be empty.
        foreign: Rows that belong to none of the labels, where the run learned to tell them.
        together: Side → number of the group that each row belongs to; see `deciding.decide`.
        source: Where they come from, in words.
    """

    sides: Mapping[str, Rows]
    foreign: Foreign | None
    together: Mapping[str, Array]
    source: str

    def sizes(self) -> dict[str, int]:
        """Return the number of rows of each side."""
        return {side: len(rows) for side, rows in self.sides.items()}


def joined(judging: Judging, predictor: Predictor) -> Rows:
    """Put validation and calibration rows below each other: those that an export is judged by."""
    sides = [judging.sides[side].examples for side in ("validation", "calibration")]
    table = pa.concat_tables([each.table for each in sides], promote_options="default")
    return _rows(predictor, replace(sides[0], table=table, extra=None))


def judging_rows(
    run: RunFolder, predictor: Predictor, *, recipe: Recipe, data: Path | None, listener: Listener
) -> Judging:
    """Read the rows that a run's export is judged by.

    Args:
        run: A finished run.
        predictor: Its model, which makes token ids.
        recipe: The run's.
        data: Where the data lie now; None where they are where the run found them.
        listener: Warned where the rows are not read from the data.

    Raises:
        DataError: The data are not those of the run, or gone, and the run keeps no texts.
        UsageError: `data` is no file.
    """
    try:
        return _from_data(run, predictor, recipe, data)
    except (DataError, UsageError) as error:
        if data is not None:
            raise
        lacking = _lacking(run, predictor, recipe)
        if lacking:
            raise DataError(
                f"{error.message} {lacking}", tip=f"Say where the data lie now: bertsmith export {run.path} DATA"
            ) from error
        listener.warn(f"{error.message} The texts that the run keeps are used in their place.")
    return _from_predictions(run, predictor, seed=recipe.run.seed)


def _from_data(run: RunFolder, predictor: Predictor, recipe: Recipe, data: Path | None) -> Judging:
    # The max length is the bundle's; that of the recipe may be beyond what is known without the encoder.
    recipe = recipe.changed({"max_length": "auto"})
    prepared = prepare(data if data is not None else recipe.read.data or None, recipe=recipe)
    record.require_same(prepared.examples, run.read_json(run.data)["fingerprint"], run)
    places = _recorded(run)
    return Judging(
        {side: _rows(predictor, prepared.examples.take(places[side])) for side in SIDES},
        _foreign(prepared, predictor, places, seed=recipe.run.seed),
        {side: prepared.splits.together[places[side]] for side in SIDES},
        prepared.examples.source,
    )


def _recorded(run: RunFolder) -> dict[str, Array]:
    """Read which rows were on which side; positions are those of the data."""
    side = pq.read_table(run.split, columns=["side"]).column("side").cast(pa.string())
    return {name: np.flatnonzero(pc.equal(side, name).to_numpy(zero_copy_only=False)) for name in ("train", *SIDES)}


def _foreign(prepared: Prepared, predictor: Predictor, places: Mapping[str, Array], *, seed: int) -> Foreign | None:
    """Share out the rows that belong to none of the labels as training did."""
    if prepared.foreign is None:
        return None
    free = np.array(prepared.examples.column("given").is_null().to_numpy())
    own = {side: int(free[rows].sum()) for side, rows in places.items()}
    shares = share_out(prepared.foreign, own, seed=seed)
    parts = (prepared.foreign.take(rows) for rows in (shares.sets, shares.calibration, shares.test))
    return Foreign(*(_rows(predictor, part, labelled=False) for part in parts))


def _rows(predictor: Predictor, examples: Examples, *, labelled: bool = True) -> Rows:
    """Turn rows into token ids and targets, as the bundle does."""
    pairs, words = (examples.column(name) if name in examples else None for name in ("text_pair", "words"))
    encoded = predictor.encode(examples.column("text"), pairs if predictor.info.pair else None, words=words)
    weights = examples.column("weight").to_numpy() if "weight" in examples else np.ones(len(examples))
    labels = predictor.labels
    targets = predictor.task.targets(examples, encoded, labels) if labelled else np.zeros(0)
    return Rows(examples, encoded, targets, weights, labels)


# --- the texts that a run keeps -------------------------------------------------------------------------------------


def _lacking(run: RunFolder, predictor: Predictor, recipe: Recipe) -> str:
    """Say why the texts that the run keeps are not enough; "" where they are."""
    held = pq.read_schema(run.predictions).names if run.predictions.is_file() else []
    known = run.read_json(run.data)["columns"]
    if "text" not in held:
        return "The run keeps no texts (--no-texts) that could take their place."
    if recipe.decide.out_of_scope_label:
        return "The run keeps no rows of the out_of_scope_label, which set the threshold."
    if predictor.task.confident and "group" in known:
        return f"The run does not keep the column '{known['group']}', by which rows count for the promise."
    if predictor.task.unit == "word":
        return "The run does not keep where the words of its texts are."
    return ""


def _from_predictions(run: RunFolder, predictor: Predictor, *, seed: int) -> Judging:
    table = pq.read_table(run.predictions)
    kept = {side: _kept(table.filter(pc.equal(table.column("side"), side)), predictor, run) for side in SIDES}
    return Judging(
        {side: _rows(predictor, examples) for side, examples in kept.items()},
        None,
        {
            side: group_texts(each, seed=seed).near if len(each) else np.zeros(0, np.int64)
            for side, each in kept.items()
        },
        str(run.predictions),
    )


def _kept(table: pa.Table, predictor: Predictor, run: RunFolder) -> Examples:
    """Make examples of one side of predictions.parquet."""
    names = {"text": "text", "text_pair": "text_pair", "gold": predictor.task.role, "file": "file", "row": "row"}
    wanted = {new: table.column(old) for old, new in names.items() if old in table.column_names}
    wanted["given"] = pa.nulls(len(table), pa.string())
    pair = "text_pair" if "text_pair" in wanted else None
    return Examples(pa.table(wanted), Columns("text", text_pair=pair), str(run.predictions))

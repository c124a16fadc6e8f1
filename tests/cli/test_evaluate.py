"""bertsmith evaluate RUN DATA: what is wrong with DATA is said at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.cli.finished import finished_run, say

pytestmark = pytest.mark.usefixtures("one_thread")


UNKNOWN = (
    "1 row has a label that the model does not know, such as 'so': {file}:1. It knows negative, neutral, positive.\n"
    "TIP    Rows to be scored need the labels that the model was trained with."
)
WRONG = {
    None: (2, "does not exist.\nTIP    Is it in another folder? '{folder}' was looked in."),
    "text,label\n": (1, "no rows, only column names.\nTIP    Is it the right file?"),
    "text,label\nfine,so\n": (1, UNKNOWN),
    "text\nfine\n": (1, "no label column was found.\nTIP    Name it with --label COLUMN."),
}


@pytest.fixture
def run(tiny_encoder: Path, toy_csv: Path) -> Path:
    """A finished run of three labels."""
    return finished_run(tiny_encoder, toy_csv).path


@pytest.mark.parametrize("rows", WRONG)
def test_wrong_rows_are_refused_before_a_model_is_loaded(
    run: Path, tmp_path: Path, capsys: Any, monkeypatch: Any, rows: str | None
) -> None:
    """No file, no rows, a label that the model does not know, no label: each is one error, and no model was loaded."""
    file = tmp_path / "new.csv"
    if rows is not None:
        file.write_text(rows)
    monkeypatch.setattr("bertsmith.rescore.load", None)
    found = say(capsys, "evaluate", run, file)
    code, said = WRONG[rows]
    assert (found.code, found.err) == (code, f"ERROR  {file}: {said.format(file=file, folder=tmp_path)}\n")

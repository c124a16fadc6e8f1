"""bertsmith export: lines of what was found, one JSON object, and exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bertsmith.cli.export import export
from bertsmith.errors import ExportError, UsageError
from bertsmith.export.export import Exported

FIGURES = {"kind": "int8", "accepted": False, "reason": "its accuracy is 0.9 where torch has 1.0"}


def found(monkeypatch: pytest.MonkeyPatch, *, accepted: bool) -> list[dict[str, Any]]:
    """Let the export end so, and remember how it was called."""
    calls: list[dict[str, Any]] = []

    def stand_in(run: Path, data: Path | None = None, **settings: Any) -> Exported:
        calls.append({"run": run, "data": data, **settings})
        return Exported(None, {**FIGURES, "accepted": accepted})

    monkeypatch.setattr("bertsmith.export.export.export", stand_in)
    return calls


def test_flags_become_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run, where its data lie, the kind, the drop and the threads reach the export."""
    calls = found(monkeypatch, accepted=True)
    assert export(Path("RUN"), Path("DATA"), int8=True, allow_drop=0.01, threads="2") == 0
    assert {name: value for name, value in calls[0].items() if name != "listener"} == {
        "run": Path("RUN"), "data": Path("DATA"), "int8": True, "allow_drop": 0.01, "threads_wanted": 2,
    }  # fmt: skip


def test_what_is_refused_is_an_error_after_its_figures(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """With --json the figures are printed all the same, and the error (exit 1) has the reason and what to do."""
    found(monkeypatch, accepted=False)
    with pytest.raises(ExportError) as caught:
        export(Path("RUN"), int8=True, as_json=True)
    assert json.loads(capsys.readouterr().out) == FIGURES
    assert caught.value.exit_code == 1
    assert str(caught.value) == (
        f"RUN: the int8 export is refused: {FIGURES['reason']}. The accepted int8 export that is there stays.\n"
        "  bertsmith export RUN makes one in fp32, which answers the same; --allow-drop lets the metric drop by more."
    )


def test_what_is_no_run_is_said_at_once(tmp_path: Path) -> None:
    """A folder that is not there is named before anything is loaded."""
    with pytest.raises(UsageError) as caught:
        export(tmp_path / "none")
    assert str(caught.value) == (
        f"{tmp_path / 'none'}: no such run folder.\n  A run is what `bertsmith train DATA --out RUN` makes."
    )

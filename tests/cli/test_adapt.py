"""bertsmith adapt: lines for people, JSON for scripts, and errors that say what to do."""

from __future__ import annotations

import json

import pytest

from tests.cli.finished import flags, say
from tests.masked.conftest import SETTINGS, toy_texts


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    path = tmp_path_factory.mktemp("texts") / "texts.txt"
    path.write_text("\n".join(toy_texts(60)) + "\n", encoding="utf-8")
    return path


def test_json_is_the_record(capsys, tiny_encoder, texts, tmp_path):
    """--json prints one object, which is in adapt.json as well; the lines for people go to standard error."""
    out = tmp_path / "ours"
    given = {**SETTINGS, "epochs": 1, "encoder": tiny_encoder, "device": "cpu", "threads": 1, "mask_share": 0.3, "held_out": 0.1, "seed": 7}  # fmt: skip
    said = say(capsys, "adapt", texts, "--out", out, *flags(given), "--json")
    assert said.code == 0
    shown = json.loads(said.out)
    record = json.loads((out / "adapt.json").read_text(encoding="utf-8"))
    assert {name: record[name] for name in shown} == shown
    assert (shown["texts"], shown["held_out"], shown["folder"]) == (54, 6, "ours")
    assert record["settings"] == {
        "encoder": str(tiny_encoder), "epochs": 1, "max_length": 32, "learning_rate": 1e-2, "batch_size": 16,
        "mask_share": 0.3, "held_out": 0.1, "head_epochs": 2, "seed": 7,
    }  # fmt: skip
    assert f"read      60 texts, one a line; 6 held out  ({texts})\n" in said.err


def test_people_read_perplexities(capsys, tiny_encoder, texts, tmp_path):
    """Before, with a trained head, and after; and that the head was fresh."""
    given = {**SETTINGS, "epochs": 1, "encoder": tiny_encoder, "device": "cpu", "threads": 1}
    said = say(capsys, "adapt", texts, "--out", tmp_path / "ours", *flags(given))
    assert said.code == 0
    assert [line.split()[0] for line in said.out.splitlines()] == [
        "read", "tokens", "head", "before", "head", "after", "adapt",
    ]  # fmt: skip
    assert f"head      {tiny_encoder} has no masked-word head; a fresh one is put on it\n" in said.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "ERROR  TEXTS is missing: a file of raw texts.\nTIP    bertsmith adapt TEXTS --out ENCODER\n"),
        (
            ["a.txt"],
            "ERROR  --out is missing: it says where the encoder is written.\nTIP    bertsmith adapt TEXTS --out ENCODER\n",
        ),
        (["a.txt", "--out", "b", "--epochs", "0"], "ERROR  '--epochs' must be a whole number from 1. Got 0 instead.\n"),
    ],
)
def test_errors(capsys, arguments, said):
    """Wrong usage is said in one line, with exit code 2."""
    found = say(capsys, "adapt", *arguments)
    assert (found.code, found.out, found.err) == (2, "", said)


def test_files_that_are_not_there(capsys, tiny_encoder, tmp_path):
    """A missing file is named."""
    said = say(
        capsys, "adapt", tmp_path / "no.txt", "--out", tmp_path / "b", "--encoder", tiny_encoder, "--max-length", 32
    )
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith(f"ERROR  {tmp_path / 'no.txt'}: does not exist.\n")

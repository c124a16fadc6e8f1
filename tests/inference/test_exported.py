"""What an export is on disk: which one is found, what is refused, and what its probes keep."""

from __future__ import annotations

import numpy as np
import pytest
from tests.inference.exports import write_figures

from bertsmith import bundle
from bertsmith.errors import BundleError
from bertsmith.inference import exported
from bertsmith.inference.exported import Export, Probes


@pytest.fixture
def model(tmp_path):
    """A bundle as far as exports look at it: weights, and a manifest that lists them."""
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    bundle.write_manifest(tmp_path, without="onnx")
    return tmp_path


def export(model, kind, **figures):
    folder = model / "onnx" / kind
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(b"graph")
    write_figures(folder, **{"weights": bundle.weights_sha256(model), **figures})
    return folder


def test_the_newest_accepted_export_comes_first(model):
    """By the time they were made; a refused one is none, and without any there is nothing."""
    assert exported.exports_of(model) == []
    export(model, "fp32", created="2026-11-21T10:00:00.000002+00:00")
    export(model, "int8", created="2026-11-21T10:00:00.000001+00:00")
    assert [each.engine for each in exported.exports_of(model)] == ["onnx", "onnx-int8"]
    export(model, "int8", created="2026-11-21T10:00:00.000003+00:00")
    assert [each.engine for each in exported.exports_of(model)] == ["onnx-int8", "onnx"]
    export(model, "int8", accepted=False)
    assert exported.find(model, "int8") is None
    assert [each.engine for each in exported.exports_of(model)] == ["onnx"]


@pytest.mark.parametrize("gone", ["manifest.json", "export.json"])
def test_half_an_export_is_none(model, gone):
    """The manifest is written last, so that without it, or without the figures, there is no export."""
    (export(model, "fp32") / gone).unlink()
    assert exported.find(model, "fp32") is None


def test_an_export_of_a_later_bertsmith_says_so(model):
    """A format that is not known is not guessed at."""
    folder = export(model, "fp32", format=2)
    with pytest.raises(BundleError) as caught:
        exported.find(model, "fp32")
    assert str(caught.value) == (
        f"{folder / 'export.json'}: the export has format 2; this bertsmith reads up to 1.\n"
        "  Upgrade: pip install --upgrade bertsmith"
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [("{", "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"), ("{}", "'format'"),
     ('{"format": 1}', "'accepted'")],
)  # fmt: skip
def test_figures_that_cannot_be_read_are_named(model, content, reason):
    """The file, what is wrong with it, and how to make it again."""
    file = export(model, "int8") / "export.json"
    file.write_text(content)
    with pytest.raises(BundleError) as caught:
        exported.find(model, "int8")
    assert str(caught.value) == f"{file}: not readable: {reason}.\n  Export again: bertsmith export RUN --int8"


def test_an_export_of_other_weights_is_refused(model):
    """Trained again, the old export no longer answers for the model."""
    folder = export(model, "fp32", weights="0" * 64)
    found = exported.find(model, "fp32")
    assert isinstance(found, Export)
    with pytest.raises(BundleError) as caught:
        exported.verify(found, model)
    assert str(caught.value) == (
        f"{folder}: made of other weights than those of {model}.\n  Export again: bertsmith export RUN"
    )


def test_a_changed_graph_is_refused(model):
    """One other byte in any file, and its name is said."""
    folder = export(model, "fp32")
    found = exported.find(model, "fp32")
    exported.verify(found, model)
    (folder / "model.onnx").write_bytes(b"grapH")
    with pytest.raises(BundleError, match=r"onnx/fp32/model\.onnx: changed after training"):
        exported.verify(found, model)


@pytest.mark.parametrize("shapes", [[(3,), (3,)], [(2, 3), (5, 3)]], ids=["texts", "tokens"])
def test_probes_come_back_as_they_were(tmp_path, shapes):
    """Inputs of any length and logits a text or a token, to the last bit; each is a batch of one."""
    generator = np.random.default_rng(0)
    logits = tuple(generator.normal(size=shape).astype(np.float32) for shape in shapes)
    probes = Probes((np.array([4, 5]), np.arange(5)), (np.array([0, 1]), np.zeros(5, np.int64)), logits)
    probes.save(tmp_path / "probes.safetensors")
    again = Probes.load(tmp_path / "probes.safetensors")
    assert len(again) == 2
    for name in ("ids", "types", "logits"):
        for one, other in zip(getattr(probes, name), getattr(again, name), strict=True):
            assert (one.dtype, one.tolist()) == (other.dtype, other.tolist())
    first = next(again.inputs())
    assert {name: array.tolist() for name, array in first.items()} == {
        "input_ids": [[4, 5]], "token_type_ids": [[0, 1]], "attention_mask": [[1, 1]]
    }  # fmt: skip


def test_damaged_probes_are_named(tmp_path):
    """A file that is no safetensors is said to be so."""
    file = tmp_path / "probes.safetensors"
    file.write_bytes(b"\x00" * 4)
    with pytest.raises(BundleError) as caught:
        Probes.load(file)
    message = str(caught.value)
    assert message.startswith(f"{file}: not readable: ")
    assert message.endswith(".\n  Export again.")

"""Checkpoints: what was saved comes back bit for bit, and what is damaged is never used."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.torch import load_file

from bertsmith.errors import CheckpointError
from bertsmith.training.checkpoints import Checkpoint, Checkpoints
from tests.training.killed_saves import MOMENTS, SMALL, content, save

FILES = ("model.safetensors", "optimizer.safetensors", "state.json", "manifest.json")
DTYPES = (
    torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.bool,
)  # fmt: skip


def saved(folder: Path, *steps: int) -> Checkpoints:
    checkpoints = Checkpoints(folder)
    for step in steps:
        save(checkpoints, step, numbers=SMALL)
    return checkpoints


def bits(tensor: torch.Tensor) -> tuple[torch.dtype, tuple[int, ...], bytes]:
    flat = tensor.detach().contiguous().reshape(-1)
    return tensor.dtype, tuple(tensor.shape), flat.view(torch.uint8).numpy().tobytes()


def no_needs(_: Checkpoint) -> set[int]:
    return set()


def newest(checkpoints: Checkpoints) -> tuple[int | None, list[str]]:
    found, said = checkpoints.usable(needs=no_needs)
    return found and found.step, said


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob(".*"))


def assert_whole(checkpoint: Checkpoint) -> None:
    assert checkpoint.read_json("state.json") == {"step": checkpoint.step}
    groups = content(checkpoint.step, checkpoint.tensors("optimizer")["moment"].numel())
    for name, group in groups.items():
        found = checkpoint.tensors(name)
        assert {key: bits(each) for key, each in found.items()} == {key: bits(each) for key, each in group.items()}


@pytest.fixture(scope="module")
def three(tmp_path_factory) -> Path:
    """Checkpoints of the steps 1, 2 and 3, to be copied."""
    return saved(tmp_path_factory.mktemp("three"), 1, 2, 3).folder


@pytest.fixture
def copied(three, tmp_path) -> Checkpoints:
    shutil.copytree(three, tmp_path / "checkpoints")
    return Checkpoints(tmp_path / "checkpoints")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0, 3), (5,), (3, 4, 2)], ids=str)
def test_tensors_come_back_bit_for_bit(tmp_path, dtype, shape):
    """Every dtype and shape, a 0-dim tensor and an empty one included; an odd number of bytes before shifts nothing."""
    generator = torch.Generator().manual_seed(1)
    tensor = (torch.randn(shape, generator=generator) * 50).to(dtype)
    group = {"odd": torch.tensor([1, 2, 3], dtype=torch.uint8), "tensor": tensor}
    found = Checkpoints(tmp_path).save(3, tensors={"group": group}, texts={}).tensors("group")
    assert {name: bits(each) for name, each in found.items()} == {name: bits(each) for name, each in group.items()}
    assert all(each.data_ptr() % 64 == 0 for each in found.values())


def test_every_nan_and_zero_keeps_its_bits(tmp_path):
    """NaNs of any payload, infinities, -0 and denormals are stored as they are."""
    patterns = torch.tensor([0x7FC00001, 0x7F800001, -1, 0x7F800000, -(2**31), 1], dtype=torch.int32)
    found = Checkpoints(tmp_path).save(1, tensors={"group": {"x": patterns.view(torch.float32)}}, texts={})
    assert torch.equal(found.tensors("group")["x"].view(torch.int32), patterns)


def test_tensors_are_taken_as_they_come(tmp_path):
    """Transposed ones, slices, parameters and such as share memory need no preparation, and are not changed."""
    base = torch.arange(12.0).reshape(3, 4)
    parameter = torch.nn.Parameter(base.clone())
    group = {"base": base, "again": base, "row": base[1], "turned": base.t(), "every": base[:, ::2], "p": parameter}
    before = {name: bits(each) for name, each in group.items()}
    found = Checkpoints(tmp_path).save(1, tensors={"group": group}, texts={}).tensors("group")
    assert {name: bits(each) for name, each in found.items()} == before
    assert {name: bits(each) for name, each in group.items()} == before
    assert parameter.requires_grad


def test_what_was_read_outlives_the_files(copied):
    """Tensors of a checkpoint that is removed, or overwritten in place, stay what they were."""
    tensors = copied.verified(3).tensors("model")
    file = copied.folder / "step-00000003" / "model.safetensors"
    file.write_bytes(bytes(file.stat().st_size))
    copied.keep({1})
    assert bits(tensors["weight"]) == bits(content(3, SMALL)["model"]["weight"])


@given(text=st.text(st.characters(codec="utf-8")), number=st.integers())
@settings(max_examples=25, deadline=None)
def test_texts_come_back_to_the_letter(tmp_path_factory, text, number):
    """Line ends of any kind and signs of any script are stored as they are; JSON is parsed."""
    folder = tmp_path_factory.mktemp("texts")
    texts = {"history.jsonl": text, "state.json": json.dumps({"text": text, "number": number})}
    found = Checkpoints(folder).save(1, tensors={}, texts=texts)
    assert found.read_text("history.jsonl") == text
    assert found.read_json("state.json") == {"text": text, "number": number}
    shutil.rmtree(folder)


def test_a_checkpoint_is_plain_files(copied):
    """Safetensors, texts and a manifest of sizes and sha256: no pickle, and readable to whom the umask lets."""
    path = copied.folder / "step-00000002"
    assert sorted(each.name for each in path.iterdir()) == sorted(FILES)
    manifest = json.loads((path / "manifest.json").read_text())
    assert manifest == {
        "format": 1,
        "files": {
            name: {
                "bytes": len((path / name).read_bytes()),
                "sha256": hashlib.sha256((path / name).read_bytes()).hexdigest(),
            }
            for name in sorted(FILES)
            if name != "manifest.json"
        },
    }
    assert torch.equal(load_file(path / "model.safetensors")["weight"], torch.full((SMALL,), 2.0))
    mask = os.umask(0)
    os.umask(mask)
    assert {each.stat().st_mode & 0o777 for each in path.iterdir()} == {0o666 & ~mask}
    assert path.stat().st_mode & 0o777 == 0o777 & ~mask


def test_the_newest_is_that_of_the_highest_step(tmp_path):
    """Steps are numbers, also those of more than eight digits; the order of saving means nothing."""
    checkpoints = saved(tmp_path, 123_456_789, 99_999_999, 7, 0)
    assert checkpoints.steps() == [0, 7, 99_999_999, 123_456_789]
    assert newest(checkpoints) == (123_456_789, [])


def test_nothing_saved_is_nothing_found(tmp_path):
    """A folder that is missing or empty has no checkpoint, and nothing is said."""
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "missing", tmp_path / "empty"):
        assert Checkpoints(folder).steps() == []
        assert newest(Checkpoints(folder)) == (None, [])
    assert not (tmp_path / "missing").exists()


def test_saving_again_replaces(copied):
    """A checkpoint of the same step takes the place of the old one, damaged or not, with none of its files."""
    (copied.folder / "step-00000003" / "optimizer.safetensors").unlink()
    copied.save(3, tensors={"model": {"x": torch.tensor(5)}}, texts={})
    assert newest(copied) == (3, [])
    assert sorted(path.name for path in (copied.folder / "step-00000003").iterdir()) == [
        "manifest.json",
        "model.safetensors",
    ]
    assert copied.verified(3).tensors("model")["x"].item() == 5
    assert hidden(copied.folder) == []


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def changed(file: Path, content: bytes) -> str:
    """Write something else into a file, and tell what must be said of it."""
    old = file.read_bytes()
    file.write_bytes(content)
    if file.name == "manifest.json":
        return f"{file}: damaged; it is not as it was written."
    if len(old) != len(content):
        return f"{file}: damaged. It has {len(content):,} bytes, but the manifest says {len(old):,}."
    return f"{file}: damaged. Its sha256 is {digest(content)}…, but the manifest says {digest(old)}…."


def removed(file: Path) -> str:
    file.unlink()
    return f"{file}: cannot be read: No such file or directory."


def made_a_folder(file: Path) -> str:
    size, is_manifest = file.stat().st_size, file.name == "manifest.json"
    file.unlink()
    file.mkdir()
    found = file.stat().st_size
    if is_manifest or found == size:
        return f"{file}: cannot be read: Is a directory."
    return f"{file}: damaged. It has {found:,} bytes, but the manifest says {size:,}."


DAMAGES = {
    "emptied": lambda file: changed(file, b""),
    "cut by a byte": lambda file: changed(file, file.read_bytes()[:-1]),
    "cut in half": lambda file: changed(file, file.read_bytes()[: file.stat().st_size // 2]),
    "zeros": lambda file: changed(file, bytes(file.stat().st_size)),
    "longer": lambda file: changed(file, file.read_bytes() + b"\n"),
    "of another step": lambda file: changed(file, file.read_bytes()[::-1]),
    "removed": removed,
    "a folder": made_a_folder,
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_found_and_named(copied, name, damage):
    """Whatever befalls any file of the newest checkpoint: the one before is used, and it is said why."""
    told = DAMAGES[damage](copied.folder / "step-00000003" / name)
    with pytest.raises(CheckpointError) as raised:
        copied.verified(3)
    assert str(raised.value) == told
    assert newest(copied) == (2, [f"The checkpoint of step 3 is not used: {told}"])
    assert_whole(copied.verified(2))


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_no_flipped_bit_goes_unseen(three, tmp_path_factory, data):
    """One bit anywhere in any file: the checkpoint is not used, and the file is named."""
    path = three / "step-00000003"
    file = path / data.draw(st.sampled_from(FILES))
    true = file.read_bytes()
    place = data.draw(st.integers(0, 8 * len(true) - 1))
    flipped = bytearray(true)
    flipped[place // 8] ^= 1 << place % 8
    try:
        file.write_bytes(flipped)
        step, said = newest(Checkpoints(three))
    finally:
        file.write_bytes(true)
    assert step == 2
    assert len(said) == 1
    assert said[0].startswith(f"The checkpoint of step 3 is not used: {path}/")


def test_no_flipped_byte_of_the_manifest_goes_unseen(three):
    """Each byte in turn, its case changed where it is a letter: a manifest that differs never verifies."""
    file = three / "step-00000001" / "manifest.json"
    true = file.read_bytes()
    try:
        for place in range(len(true)):
            bit = 0x20 if true[place : place + 1].isalpha() else 0x01
            file.write_bytes(true[:place] + bytes([true[place] ^ bit]) + true[place + 1 :])
            with pytest.raises(CheckpointError):
                Checkpoints(three).verified(1)
    finally:
        file.write_bytes(true)
    assert_whole(Checkpoints(three).verified(1))


@pytest.mark.parametrize(
    "manifest",
    [
        "[]",
        "null",
        '{"files": {}}',
        '{\n  "format": 2,\n  "files": {}\n}\n',
        '{\n  "format": 1,\n  "files": []\n}\n',
        '{\n  "format": 1,\n  "files": {\n    "a": 1\n  }\n}\n',
        "[" * 100_000,
        "\ud800".encode("utf-8", "surrogatepass"),
    ],
    ids=["list", "null", "no format", "other format", "no names", "no entries", "deep", "no UTF-8"],
)
def test_a_strange_manifest_is_a_damaged_one(copied, manifest):
    """JSON of another form, or none at all, ends in one sentence."""
    file = copied.folder / "step-00000003" / "manifest.json"
    file.write_bytes(manifest if isinstance(manifest, bytes) else manifest.encode())
    assert newest(copied) == (
        2,
        [f"The checkpoint of step 3 is not used: {file}: damaged; it is not as it was written."],
    )


def test_all_damaged_is_none(copied):
    """With no whole checkpoint there is none to use, and each has its sentence, newest first."""
    files = [copied.folder / f"step-0000000{step}" / "state.json" for step in (3, 2, 1)]
    told = [removed(file) for file in files]
    assert newest(copied) == (
        None,
        [f"The checkpoint of step {3 - place} is not used: {each}" for place, each in enumerate(told)],
    )


def test_a_checkpoint_is_used_only_with_what_it_needs(tmp_path):
    """4 needs 3 and 2 needs 1: when 3 is damaged, 2 is used; when 1 is missing too, none is."""
    checkpoints = saved(tmp_path, 1, 2, 3, 4)
    needs = {1: {1}, 2: {1, 2}, 3: {3}, 4: {3}}
    asked = lambda: checkpoints.usable(needs=lambda found: needs[found.step])  # noqa: E731 - asked three times
    assert asked() == (checkpoints.verified(4), [])
    told = changed(tmp_path / "step-00000003" / "model.safetensors", b"")
    sentences = [
        f"The checkpoint of step 4 is not used: it needs that of step 3. {told}",
        f"The checkpoint of step 3 is not used: {told}",
    ]
    assert asked() == (checkpoints.verified(2), sentences)
    shutil.rmtree(tmp_path / "step-00000001")
    missing = f"{tmp_path}/step-00000001/manifest.json: cannot be read: No such file or directory."
    told = f"The checkpoint of step 2 is not used: it needs that of step 1. {missing}"
    assert asked() == (None, [*sentences, told])


def test_a_checkpoint_that_lacks_what_is_asked_for_is_passed_over(copied):
    """When `needs` does not find its file, the sentence names that file, and the older one is asked."""
    copied.save(4, tensors={}, texts={"other.json": "{"})
    found, said = copied.usable(needs=lambda found: {found.read_json("state.json")["step"]})
    assert found == copied.verified(3)
    file = copied.folder / "step-00000004" / "state.json"
    assert said == [f"The checkpoint of step 4 is not used: {file}: cannot be read: No such file or directory."]


def test_reading_what_is_not_there_names_the_file(copied):
    """A group, a text, a JSON: each error says which file, and what is wrong with it."""
    copied.save(4, tensors={}, texts={"broken.json": "{"})
    found = copied.verified(4)
    for read, told in (
        (lambda: found.tensors("model"), "model.safetensors: cannot be read: "),
        (lambda: found.read_text("a.txt"), "a.txt: cannot be read: No such file or directory."),
        (
            lambda: found.read_json("broken.json"),
            "broken.json: not readable: Expecting property name enclosed in double quotes: line 1 column 2 (char 1).",
        ),
    ):
        with pytest.raises(CheckpointError) as raised:
            read()
        assert str(raised.value).startswith(f"{found.path}/{told}")


def test_keep_removes_the_others_and_nothing_else(copied):
    """Other steps and what killed processes left go; whatever else lies there stays, steps unknown are no matter."""
    stay = ["tokens.arrow", "step-notes", "step-000000012", ".step-mine", ".hidden"]
    for name in [*stay, ".step-00000002.0a1b2c3d"]:
        (copied.folder / name).mkdir()
        (copied.folder / name / "file").write_text("x")
    copied.keep({1, 3, 77})
    assert sorted(path.name for path in copied.folder.iterdir()) == sorted(["step-00000001", "step-00000003", *stay])
    assert all((copied.folder / name / "file").read_text() == "x" for name in stay)
    copied.keep(())
    assert copied.steps() == []


def test_a_checkpoint_that_cannot_be_removed_is_told(copied, monkeypatch):
    """Otherwise a state that was given up could be found again later."""

    def fail(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(CheckpointError) as raised:
        copied.keep({1, 2})
    assert str(raised.value) == f"{copied.folder}/step-00000003: cannot be removed: Read-only file system."


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let the system refuse to write files of more bytes."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("tensors", [{"model": {"x": torch.zeros(50_000)}}, {}], ids=["tensors", "text"])
def test_what_the_system_refuses_to_write_is_told(copied, tensors):
    """A file that the system cuts off: one error, nothing left behind, the older checkpoint as it was."""
    with largest_file(100_000), pytest.raises(CheckpointError) as raised:
        copied.save(3, tensors=tensors, texts={"history.jsonl": "x" * 200_000})
    assert str(raised.value) == (
        f"{copied.folder}: the checkpoint of step 3 cannot be saved: File too large.\n"
        "  Check that the disk is there and that you may write to the folder."
    )
    assert hidden(copied.folder) == []
    assert_whole(copied.verified(3))


def full_disk(monkeypatch, *, room: int, freed: Path | None = None) -> None:
    """Let every fsync after the first `room` ones fail for lack of space, until `freed` is gone."""
    true, left = os.fsync, [room]

    def fsync(descriptor: int) -> None:
        left[0] -= 1
        if left[0] < 0 and (freed is None or freed.exists()):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        true(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)


# A save of four files: two fsyncs for each of them; after it is in place, two more.
@pytest.mark.parametrize("room", range(8))
def test_a_full_disk_is_told_and_nothing_is_left(copied, monkeypatch, room):
    """Wherever it happens before the new one is in place: one error with the need, the older checkpoint as it was."""
    full_disk(monkeypatch, room=room)
    with pytest.raises(CheckpointError) as raised:
        copied.save(
            3,
            tensors={"model": {"x": torch.zeros(2_000_000)}, "optimizer": {"x": torch.zeros(500_000)}},
            texts={"state.json": "{}"},
        )
    assert str(raised.value) == (
        f"{copied.folder}: the checkpoint of step 3 cannot be saved: No space left on device.\n"
        "  Make room: it takes about 11 MB."
    )
    assert hidden(copied.folder) == []
    assert newest(copied) == (3, [])
    assert_whole(copied.verified(3))


@pytest.mark.parametrize("room", range(8))
def test_leftovers_make_room(copied, monkeypatch, room):
    """On a full disk what killed processes left behind is removed, and the checkpoint is saved after all."""
    leftover = copied.folder / ".step-00000002.0a1b2c3d"
    leftover.mkdir()
    (leftover / "model.safetensors").write_bytes(b"half")
    full_disk(monkeypatch, room=room, freed=leftover)
    save(copied, 4, numbers=SMALL)
    assert newest(copied) == (4, [])
    assert_whole(copied.verified(4))
    assert hidden(copied.folder) == []


def test_without_leftovers_there_is_no_second_try(copied, monkeypatch):
    """A full disk is not filled twice for nothing; what safetensors says of it is understood."""
    tried = []

    def save_file(tensors: dict[str, torch.Tensor], path: Path) -> None:
        tried.append(path)
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", save_file)
    with pytest.raises(CheckpointError) as raised:
        save(copied, 4, numbers=SMALL)
    assert str(raised.value) == (
        f"{copied.folder}: the checkpoint of step 4 cannot be saved: No space left on device.\n"
        "  Make room: it takes about 1 MB."
    )
    assert len(tried) == 1
    assert (hidden(copied.folder), copied.steps()) == ([], [1, 2, 3])


def test_a_bug_is_not_taken_for_a_full_disk(tmp_path, monkeypatch):
    """What safetensors raises for another reason than the disk is passed on, and nothing is left behind."""

    def save_file(*_: object) -> None:
        raise SafetensorError("InvalidTensorView")

    monkeypatch.setattr("safetensors.torch.save_file", save_file)
    with pytest.raises(SafetensorError, match="InvalidTensorView"):
        saved(tmp_path, 1)
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_place_of_the_folder_is_told(tmp_path):
    """Where no folder can be made, saving ends with one error, and the file stays."""
    place = tmp_path / "checkpoints"
    place.write_text("mine")
    with pytest.raises(CheckpointError) as raised:
        saved(place, 1)
    assert str(raised.value) == (
        f"{place}: the checkpoint of step 1 cannot be saved: Not a directory.\n"
        "  Check that the disk is there and that you may write to the folder."
    )
    assert place.read_text() == "mine"
    assert newest(Checkpoints(place)) == (None, [])


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_told(copied):
    """Saving ends with one error, and what is there can still be used."""
    copied.folder.chmod(0o500)
    try:
        with pytest.raises(CheckpointError) as raised:
            save(copied, 4, numbers=SMALL)
        assert newest(copied) == (3, [])
    finally:
        copied.folder.chmod(0o700)
    assert str(raised.value) == (
        f"{copied.folder}: the checkpoint of step 4 cannot be saved: Permission denied.\n"
        "  Check that the disk is there and that you may write to the folder."
    )


def test_ctrl_c_leaves_nothing_behind(copied, monkeypatch):
    """An interrupt in the middle of a save is passed on; the staged folder is gone."""

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save(copied, 3, numbers=SMALL)
    assert hidden(copied.folder) == []
    assert_whole(copied.verified(3))


@pytest.fixture(scope="module")
def killed(tmp_path_factory) -> Path:
    """Folders of processes that were killed while they saved."""
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    folder = tmp_path_factory.mktemp("killed")
    subprocess.run([sys.executable, "-m", "tests.training.killed_saves", str(folder)], check=True, timeout=300)
    return folder


@pytest.mark.parametrize(("kind", "at_least"), [("moments", MOMENTS), ("events", 40)])
def test_a_kill_at_any_moment_loses_nothing(killed, kind, at_least):
    """SIGKILL at random moments, and at every single call to the file system, while saving, replacing and removing.

    The newest checkpoint is whole and not older than what had been saved; nothing damaged is to be seen.
    """
    told = json.loads((killed / kind / "told.json").read_text())
    assert len(told) >= at_least
    left_behind = 0
    for name, step in told.items():
        checkpoints = Checkpoints(killed / kind / name)
        found, said = checkpoints.usable(needs=no_needs)
        assert said == []
        assert found is not None or step == 0
        if found is not None:
            assert found.step >= step
            assert_whole(found)
        assert all(checkpoints.verified(each) for each in checkpoints.steps())
        left_behind += bool(hidden(checkpoints.folder))
        checkpoints.keep(set(checkpoints.steps()))
        assert hidden(checkpoints.folder) == []
    assert left_behind > len(told) // 4

"""encode against transformers' own tokenizer: the same ids, and every lost token counted."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertsmith import encoders
from bertsmith.data import encode
from bertsmith.data.encode import TokenEncoder, show_tokens

words = st.lists(
    st.sampled_from(["good", "bad", "the", "film", "was", "unfathomable", "é", "你好", "😀", "x-y", "!", "NA", "null"]),
    max_size=40,
).map(" ".join)


@pytest.fixture(scope="module")
def oracle(tiny_encoder):
    """The tiny encoder's tokenizer as transformers has it."""
    return encoders.find(str(tiny_encoder)).transformers_tokenizer()


@pytest.fixture(scope="module")
def tokens(tiny_encoder):
    """Ours, of the same encoder."""
    return TokenEncoder(encoders.find(str(tiny_encoder)).tokenizer(), 12, 0)


@settings(max_examples=60, deadline=None)
@given(st.lists(words, min_size=1, max_size=8))
def test_ids_equal_transformers(oracle, tokens, texts):
    """Ids after truncation are transformers' ids, and what was cut is counted."""
    ours = tokens.encode(texts)
    theirs = oracle(texts, truncation=True, max_length=12)["input_ids"]
    whole = oracle(texts, truncation=False)["input_ids"]
    assert ours.table.column("input_ids").to_pylist() == theirs
    assert ours.tokens_cut.tolist() == [len(full) - len(cut) for full, cut in zip(whole, theirs, strict=True)]
    assert ours.lengths.tolist() == [len(cut) for cut in theirs]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(words, words), min_size=1, max_size=8))
def test_pairs_equal_transformers(oracle, tokens, pairs):
    """Pairs have true segments, and the longer text is cut first."""
    ours = tokens.encode([one for one, _ in pairs], [other for _, other in pairs])
    theirs = oracle([one for one, _ in pairs], [other for _, other in pairs], truncation="longest_first", max_length=12,
                    return_token_type_ids=True)  # fmt: skip
    assert ours.table.column("input_ids").to_pylist() == theirs["input_ids"]
    assert ours.table.column("token_type_ids").to_pylist() == theirs["token_type_ids"]


def test_padding_equals_transformers(oracle, tokens):
    """A padded batch has transformers' ids and mask."""
    texts = ["good film", "the film was bad bad bad", ""]
    ours = tokens.encode(texts).pad([0, 1, 2])
    theirs = oracle(texts, truncation=True, max_length=12, padding="longest", return_tensors="np")
    assert (ours["input_ids"] == theirs["input_ids"]).all()
    assert (ours["attention_mask"] == theirs["attention_mask"]).all()
    assert tokens.encode(texts).pad([2], width=12)["input_ids"].shape == (1, 12)


def test_large_data_lies_on_disk_and_is_the_same(tokens, tmp_path, monkeypatch):
    """Above the limit token ids are mapped from a file, and rows of any chunk are right."""
    monkeypatch.setattr(encode, "IN_MEMORY_ROWS", 10)
    monkeypatch.setattr(encode, "_CHUNK", 7)
    texts = pa.chunked_array([pa.array([f"good film {'the ' * (number % 9)}" for number in range(50)])])
    mapped = tokens.encode(texts, spill=tmp_path / "tokens.arrow")
    held = tokens.encode(texts)
    rows = np.random.default_rng(0).permutation(50)
    assert (tmp_path / "tokens.arrow").is_file()
    assert mapped.table.column("input_ids").num_chunks > 1
    for name, array in held.pad(rows).items():
        assert (mapped.pad(rows)[name] == array).all()


def test_shown_tokens_are_what_the_model_sees(tiny_encoder, oracle):
    """Pieces, ids, special tokens and mask of one text."""
    shown = show_tokens(encoders.find(str(tiny_encoder)).tokenizer(), "good xq")
    assert shown.pieces == ("[CLS]", "good", "x", "##q", "[SEP]")
    assert list(shown.ids) == oracle("good xq")["input_ids"]
    assert shown.special == (True, False, False, False, True)
    assert shown.mask == (1, 1, 1, 1, 1)
    assert shown.offsets[1:4] == ((0, 4), (5, 6), (6, 7))

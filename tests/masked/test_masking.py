"""Masking: the right share of whole words, by the rule of BERT, and always the same."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertsmith.encoders import find
from bertsmith.masked.masking import Masking, mask_batch, mask_window
from bertsmith.masked.windows import Windows, _cuts, _units, count_special, make_windows

MASK = 4
SPECIAL = frozenset(range(5))
ORDINARY = np.arange(5, 200, dtype=np.int32)


def masking(share: float = 0.15, seed: int = 1) -> Masking:
    return Masking(share, MASK, ORDINARY, seed)


@st.composite
def window(draw) -> tuple[np.ndarray, np.ndarray]:
    """Ids and words of a window: words of one to four tokens between two special tokens."""
    sizes = draw(st.lists(st.integers(1, 4), max_size=30))
    words = np.concatenate([[-1], np.repeat(np.arange(len(sizes)), sizes), [-1]]).astype(np.int32)
    ids = draw(st.lists(st.integers(5, 199), min_size=len(words) - 2, max_size=len(words) - 2))
    return np.array([2, *ids, 3], np.int32), words


@given(window(), st.floats(0.01, 0.99), st.integers(0, 99), st.integers(-1, 9), st.integers(0, 10**6))
def test_whole_words_are_chosen(made, share, seed, epoch, row):
    """All tokens of a word are chosen or none; special tokens never; the rest stays; the number is as promised."""
    ids, words = made
    changed, chosen = mask_window(ids, words, masking(share, seed), epoch=epoch, row=row)
    count = int(words.max()) + 1
    picked = set(words[chosen].tolist())
    assert -1 not in picked
    assert chosen.tolist() == np.flatnonzero(np.isin(words, sorted(picked))).tolist()
    if count:
        assert max(1, int(share * count)) <= len(picked) <= min(count, max(1, int(share * count) + 1))
    untouched = np.setdiff1d(np.arange(len(ids)), chosen)
    assert (changed[untouched] == ids[untouched]).all()
    for word in picked:
        before, after = ids[words == word], changed[words == word]
        assert (after == MASK).all() or (after == before).all() or np.isin(after, ORDINARY).all()


@given(st.lists(window(), min_size=1, max_size=6), st.integers(0, 5), st.randoms())
def test_a_row_is_masked_the_same_in_any_batch(made, epoch, random):
    """The masking of a row depends on seed, epoch and row, not on which rows stand beside it."""
    starts = np.cumsum([0, *(len(ids) for ids, _ in made)])
    windows = Windows(np.concatenate([ids for ids, _ in made]), np.concatenate([words for _, words in made]), starts)
    order = list(range(len(made)))
    random.shuffle(order)
    masked = mask_batch(windows, np.array(order), masking(), epoch=epoch, pad_id=0)
    inputs, gold = masked.inputs["input_ids"], []
    for line, row in enumerate(order):
        ids, words = made[row]
        changed, chosen = mask_window(ids, words, masking(), epoch=epoch, row=row)
        assert inputs[line, : len(ids)].tolist() == changed.tolist()
        assert not inputs[line, len(ids) :].any()
        assert masked.inputs["attention_mask"][line].sum() == len(ids)
        gold += [(line * inputs.shape[1] + place, ids[place]) for place in chosen]
    assert list(zip(masked.places, masked.gold, strict=True)) == gold


def many(share: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fates of 40,000 words of two tokens: whether they were chosen, masked, replaced."""
    chosen, mask, other = [], [], []
    words = np.repeat(np.arange(20), 2).astype(np.int32)
    ids = np.full(40, 7, np.int32)
    for row in range(2_000):
        changed, places = mask_window(ids, words, masking(share), epoch=0, row=row)
        is_chosen = np.isin(np.arange(40), places)[::2]
        chosen.append(is_chosen)
        mask.append(changed[::2][is_chosen] == MASK)
        other.append(
            (changed != MASK).reshape(20, 2).all(1)[is_chosen] & (changed != 7).reshape(20, 2).any(1)[is_chosen]
        )
    return np.concatenate(chosen), np.concatenate(mask), np.concatenate(other)


@pytest.mark.parametrize("share", [0.15, 0.4])
def test_shares_hold(share):
    """On average the share of words is chosen; of them 80 % become masks and 10 % random tokens."""
    chosen, mask, other = many(share)
    assert chosen.mean() == pytest.approx(share, abs=0.008)
    assert mask.mean() == pytest.approx(0.8, abs=0.025)
    assert other.mean() == pytest.approx(0.1, abs=0.02)


def test_epochs_and_seeds_mask_other_words():
    """Another epoch or another seed chooses other words; the same ones choose the same."""
    words = np.arange(50, dtype=np.int32)
    ids = words + 10

    def places(seed: int, epoch: int) -> list[int]:
        return mask_window(ids, words, masking(0.15, seed), epoch=epoch, row=3)[1].tolist()

    assert places(1, 0) == places(1, 0)
    assert len({tuple(places(seed, epoch)) for seed in (1, 2) for epoch in (-1, 0, 1)}) == 6


@pytest.fixture(scope="module")
def tokenizer(tiny_encoder):
    return find(str(tiny_encoder)).tokenizer()


TEXTS = st.lists(
    st.lists(st.sampled_from(["the", "film", "zq", "unfathomable", "x" * 40, "é", "[MASK]", "."]), max_size=25).map(
        " ".join
    ),
    max_size=5,
)


@given(texts=TEXTS, max_length=st.integers(8, 40))
def test_windows_lose_nothing(tokenizer, texts, max_length):
    """The windows of a text hold its tokens in order, none longer than wanted; words that fit are not cut."""
    windows = make_windows(tokenizer, texts, max_length=max_length, special=SPECIAL)
    expected = [each.ids for each in tokenizer.encode_batch(texts, add_special_tokens=False)]
    inner = [windows.ids_of(each).tolist()[1:-1] for each in range(len(windows))]
    assert [*chain.from_iterable(inner)] == [*chain.from_iterable(expected)]
    assert all(windows.ids_of(each)[[0, -1]].tolist() == [2, 3] for each in range(len(windows)))
    assert all(3 <= length <= max_length for length in windows.lengths)
    for each in range(len(windows)):
        ids, words = windows.ids_of(each), windows.words_of(each)
        assert (words[np.isin(ids, sorted(SPECIAL))] == -1).all()


@given(st.lists(st.integers(1, 9), max_size=20), st.integers(1, 12))
def test_words_are_cut_only_where_they_must(sizes, room):
    """Stretches follow each other, none longer than the room, and a cut inside a word has no other place."""
    units = np.repeat(np.arange(len(sizes)), sizes)
    cuts = list(_cuts(units, room))
    assert [begin for begin, _ in cuts] + [len(units)] == [0, *(end for _, end in cuts)]
    for begin, end in cuts:
        assert 1 <= end - begin <= room
        if end < len(units) and units[end] == units[end - 1]:
            assert units[begin] == units[end]
            assert end - begin == room


def test_long_words_count_as_several():
    """A run of 40 tokens of one word is numbered as three words."""
    units = _units(np.zeros(40, np.int64), np.zeros(40, bool))
    assert np.bincount(units).tolist() == [16, 16, 8]


def test_special_tokens_are_counted(tokenizer):
    """BERT puts two special tokens around a text."""
    assert count_special(tokenizer) == 2

"""Batches are a pure function of seed, epoch and effective batch size."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bertsmith.training.batches import EpochBatches, cut, effective_batches

lengths = st.lists(st.integers(2, 128), min_size=1, max_size=300).map(np.array)


@given(lengths, st.integers(1, 40), st.integers(0, 5), st.integers(0, 3))
def test_every_row_is_dealt_once(lengths, size, seed, epoch):
    """No row is lost or doubled, and only the last batch is short."""
    batches = effective_batches(lengths, size=size, seed=seed, epoch=epoch)
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
    assert all(len(batch) == size for batch in batches[:-1])
    assert len(batches[-1]) <= size


@given(lengths, st.integers(1, 16), st.integers(1, 4), st.integers(1, 3))
def test_micro_batches_and_ranks_deal_the_same_effective_batches(lengths, size, accumulate, ranks):
    """However an effective batch is cut, its rows are the same, and ranks get equally many micro-batches."""
    effective = size * accumulate * ranks
    samplers = [
        EpochBatches(lengths, size=size, accumulate=accumulate, seed=1, ranks=ranks, rank=rank) for rank in range(ranks)
    ]
    dealt = [list(sampler) for sampler in samplers]
    assert {len(each) for each in dealt} == {len(samplers[0])}
    wholes = [tuple(micro.whole) for micro in dealt[0]]
    expected = effective_batches(lengths, size=effective, seed=1, epoch=0)
    assert list(dict.fromkeys(wholes)) == [tuple(batch) for batch in expected]
    for batch in expected:
        rows = [
            row
            for each in dealt
            for micro in each
            if tuple(micro.whole) == tuple(batch) and micro.counts
            for row in micro.rows
        ]
        assert sorted(rows) == sorted(batch)


def test_epochs_and_seeds_differ_and_repeat():
    """The same seed and epoch give the same batches; another epoch or seed gives others."""
    lengths = np.arange(200) % 30
    first = np.concatenate(effective_batches(lengths, size=8, seed=1, epoch=0))
    again = np.concatenate(effective_batches(lengths, size=8, seed=1, epoch=0))
    later = np.concatenate(effective_batches(lengths, size=8, seed=1, epoch=1))
    other = np.concatenate(effective_batches(lengths, size=8, seed=2, epoch=0))
    assert (first == again).all()
    assert (first != later).any()
    assert (first != other).any()


def test_rows_of_a_batch_are_of_similar_length():
    """Buckets waste far less padding than random batches do."""
    lengths = np.random.default_rng(0).integers(4, 100, 3200)

    def waste(batches):
        return 1 - lengths.sum() / sum(len(batch) * lengths[batch].max() for batch in batches)

    assert waste(effective_batches(lengths, size=32, seed=0, epoch=0)) < 0.05
    assert waste(np.random.default_rng(1).permutation(3200).reshape(-1, 32)) > 0.3


def test_a_rank_without_rows_repeats_one_at_no_weight():
    """Three rows on four ranks: the fourth takes part in the step but does not count."""
    pieces = [cut(np.array([7, 8, 9]), size=2, ranks=4, rank=rank)[0] for rank in range(4)]
    assert [piece.rows.tolist() for piece in pieces] == [[7], [8], [9], [7]]
    assert [piece.counts for piece in pieces] == [True, True, True, False]

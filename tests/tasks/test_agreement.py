"""Agreement of annotators: published examples, and perfect and missing votes."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from bertsmith.examples import LabelSet
from bertsmith.tasks.agreement import agreement, vote_counts


def test_fleiss_kappa_of_the_published_example():
    """Ten subjects, fourteen raters, five categories (the worked example of Fleiss' kappa): 0.210."""
    counts = [
        [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
    ]  # fmt: skip
    found = agreement(np.array(counts))
    assert (found["rows"], found["votes"]) == (10, 14.0)
    assert found["pairwise"] == pytest.approx(0.378, abs=5e-4)
    assert found["fleiss_kappa"] == pytest.approx(0.210, abs=5e-4)


def test_krippendorff_alpha_of_the_published_example():
    """Four observers, twelve units, missing values (Krippendorff 2011, section C): alpha for nominal data is 0.743."""
    observers = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
        [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
    ]
    votes = [[None if vote is None else str(vote) for vote in unit] for unit in zip(*observers, strict=True)]
    counts = vote_counts(pa.chunked_array([votes[:5], votes[5:]]), LabelSet(tuple("12345")))
    assert counts.sum() == 41
    found = agreement(counts)
    assert found["rows"] == 11
    assert found["krippendorff_alpha"] == pytest.approx(0.743, abs=5e-4)


def test_perfect_agreement_is_1_and_one_label_tells_nothing():
    """Votes that are all the same in each row agree perfectly; where only one label occurs, chance would do as well."""
    found = agreement(np.array([[3, 0], [0, 2], [0, 1]]))
    assert found == {"rows": 2, "votes": 2.5, "pairwise": 1.0, "fleiss_kappa": 1.0, "krippendorff_alpha": 1.0}
    assert agreement(np.array([[3, 0], [2, 0]]))["fleiss_kappa"] == 0.0


def test_single_votes_say_nothing():
    """Without two votes on a row there is no agreement to speak of."""
    found = agreement(np.array([[1, 0], [0, 1], [0, 0]]))
    assert found == {"rows": 0, "votes": 0.0, "pairwise": 0.0, "fleiss_kappa": 0.0, "krippendorff_alpha": 0.0}

"""What `read_times` makes of a time column."""

import datetime

import numpy as np
import pyarrow as pa
import pytest

from bertsmith.data.near_duplicates import renumbered
from bertsmith.data.times import read_times
from bertsmith.errors import DataError
from bertsmith.examples import Columns, Examples


def read(times):
    rows = np.arange(len(times))
    table = pa.table({"file": ["reviews.csv"] * len(times), "row": rows + 1, "time": times})
    return read_times(Examples(table, Columns("text", time="when"), "reviews.csv"), rows)


@pytest.mark.parametrize(
    "oldest_first",
    [
        ["9", "10", "1e2", "100.5"],
        ["1700000000000000001", "1700000000000000002", "1700000000000000003", "1700000000000000004"],
        ["2023-12-31", "2024-01", "2024-01-01 00:00:01", "2024-01-01T00:01"],
        ["2024-01-01T12:00+02:00", "2024-01-01T10:30", "2024-01-01T11:00Z", "2024-01-01T10:00-0200"],
        [" 2024-01-01T00:00:00.1 ", "2024-01-01T00:00:00.123456789Z", "2024-01-01T00:00:00.2", "2024-01-02"],
        [
            datetime.date(2023, 12, 31),
            datetime.date(2024, 1, 1),
            datetime.date(2024, 1, 2),
            datetime.date(2025, 1, 1),
        ],
        [-1.5, 0.0, 2.0, 10.0],
    ],
    ids=["numbers", "nanoseconds", "dates", "zones", "fractions", "date32", "floats"],
)
def test_times_are_compared_as_what_they_are(oldest_first):
    """Numbers are compared as numbers, dates as moments; a date without a zone is in UTC."""
    repeated = [time for time in oldest_first for _ in range(100)]
    shuffled = np.random.default_rng(1).permutation(400)
    times = pa.array([repeated[row] for row in shuffled])
    found = read(times)[np.argsort(shuffled)]
    assert renumbered(found).tolist() == [moment for moment in range(4) for _ in range(100)]
    assert (np.diff(found) >= 0).all()


@pytest.mark.parametrize(
    ("times", "row", "found", "expected"),
    [
        (
            ["2024-01-01", "2024-02-30", "x"],
            2,
            "2024-02-30",
            "an ISO date such as 2026-11-21 or 2026-11-21T09:30Z",
        ),
        (
            ["05/11/2024", "2024-02-03", "x"],
            1,
            "05/11/2024",
            "an ISO date such as 2026-11-21 or 2026-11-21T09:30Z",
        ),
        (["1", "2.5", "2024-02-03"], 3, "2024-02-03", "a number"),
        (["1", "inf", "nan"], 2, "inf", "a number"),
    ],
)
def test_a_time_that_cannot_be_read_is_named(times, row, found, expected):
    """The first time that is no number, or no ISO date, is named with its row."""
    with pytest.raises(DataError, match=r".") as caught:
        read(pa.array(times))
    assert str(caught.value) == (
        f"reviews.csv: row {row}: column 'when' is '{found}'. Expected {expected}.\n"
        "  All times must be numbers, or all ISO dates, as in the first row."
    )


@pytest.mark.parametrize("times", [["1", None, " "], [1.0, float("nan"), None]])
def test_an_empty_time_is_named(times):
    """Every row of a split by time needs a time."""
    with pytest.raises(DataError, match=r".") as caught:
        read(pa.array(times))
    assert str(caught.value) == (
        "reviews.csv: row 2: column 'when' is empty. Every row needs a time.\n"
        "  2 rows are so. Fill them in, or leave the column out for a split by chance."
    )

"""Repair: the most sensitive parts go back to fp32, one more at a time, and never more than half of the weights."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from bertsmith.export.repair import Attempt, Form, attempts, fp32_share
from tests.export.test_gate import GOOD

BAD = dataclasses.replace(GOOD, agreement=0.5)
PARTS = ("embeddings", "layer 0", "layer 1", "layer 2", "head")


def tried(harms: dict[str, float], needed: set[str], *, sizes: dict[str, float] | None = None) -> list[tuple[str, ...]]:
    """Which parts were fp32 in each attempt, where the gate needs these; all parts are of one size unless told."""
    of = sizes or dict.fromkeys(PARTS, 1 / len(PARTS))
    asked: list[tuple[str, ...]] = []

    def form(kept: tuple[str, ...]) -> Form:
        asked.append(kept)
        return Form(kept, sum(of[part] for part in kept), graph=None)

    def attempt(made: Form) -> Attempt:
        return Attempt(made.fp32_parts, made.fp32_share, GOOD if needed <= set(made.fp32_parts) else BAD)

    found = [each.fp32_parts for each in attempts(PARTS, form=form, attempt=attempt, harm=harms.__getitem__)]
    assert len(asked) == len(set(asked)), "each form is made once"
    return found


@given(st.permutations(PARTS), st.sets(st.sampled_from(PARTS)))
def test_the_most_sensitive_parts_go_first(order, needed):
    """Each attempt leaves one more part in fp32, in order of harm, until the gate accepts or half would be fp32."""
    found = tried({part: -place for place, part in enumerate(order)}, needed)
    assert found == [tuple(order[:size]) for size in range(len(found))]
    enough = next(size for size in range(len(PARTS) + 1) if needed <= set(order[:size]))
    assert len(found) - 1 == min(enough, 2)


def test_nothing_is_measured_where_the_first_attempt_is_good():
    """An export that passes at once costs no look at its parts."""
    assert tried({}, set()) == [()]


def test_a_part_that_is_half_of_the_model_is_passed_over():
    """Where the most sensitive part is too large to stay fp32, the next ones are tried."""
    sizes = {"embeddings": 0.6, "layer 0": 0.1, "layer 1": 0.1, "layer 2": 0.1, "head": 0.1}
    harms = {"embeddings": 9.0, "layer 0": 1.0, "layer 1": 3.0, "layer 2": 2.0, "head": 0.0}
    assert tried(harms, {"layer 2"}, sizes=sizes) == [(), ("layer 1",), ("layer 1", "layer 2")]


def graph(**weights: np.ndarray) -> onnx.ModelProto:
    values = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    return helper.make_model(helper.make_graph([], "g", [], [], values))


def test_the_fp32_share_counts_what_is_still_fp32():
    """Integers do not count, their scales do."""
    before = graph(a=np.zeros((10, 10), np.float32), b=np.zeros((5, 20), np.float32))
    after = graph(a=np.zeros((10, 10), np.int8), scale=np.zeros(10, np.float32), b=np.zeros((5, 20), np.float32))
    assert fp32_share(after, before) == pytest.approx(110 / 200)
    assert fp32_share(before, before) == 1.0

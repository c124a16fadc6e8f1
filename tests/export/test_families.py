"""Every family of encoders exports: trained until it is right, then compared with torch to the last bit that counts."""

from __future__ import annotations

import pytest

from bertsmith.export.checking import check, usual_shapes
from bertsmith.export.graph import build
from bertsmith.inference.first_token import leave_out_other_tokens
from bertsmith.inference.torch_engine import known_inputs
from tests.export.learned import learned

pytestmark = pytest.mark.usefixtures("one_thread")
SLOW = ("distilbert", "modernbert", "roberta", "xlm-roberta", "electra", "albert", "mpnet")
FAMILIES = ("deberta-v2", *(pytest.param(family, marks=pytest.mark.slow) for family in SLOW))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_that_has_learned_answers_as_torch_does(family):
    """Logits and head inputs are torch's, and a text's are the same alone and in a batch."""
    model = learned(family)
    leave_out_other_tokens(model)
    proto = build(model, inputs=known_inputs(model), head_inputs=True)
    assert 0 < check(proto, model, usual_shapes(60)) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bert", "albert", "deberta-v2", "modernbert"])
def test_more_layers_export_as_well(family):
    """Layers that share weights, and layers of two kinds, are told apart."""
    model = learned(family, layers=3)
    leave_out_other_tokens(model)
    check(build(model, inputs=known_inputs(model), head_inputs=True), model, usual_shapes(60))

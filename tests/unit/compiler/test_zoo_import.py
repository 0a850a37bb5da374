"""Every model of the zoo imports, and answers the same split as unsplit under each forced scheme."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

import flexpie_models
from flexpie.compiler import ImportedModel
from flexpie.core.scheme import GRID_2D, IN_H, OUT_C, Scheme
from flexpie.reference.comparing import compare, random_inputs
from tests.random_plans import forced_plan
from tests.splitting import Arrays, imported, run_split, run_unsplit

DEVICES = 3
SEGMENTS = 40
"""About as many exchanges, however deep the model."""

HEAVY = ("resnet101", "vit_b16", "bert_base", "gpt2_block")
"""Hundreds of megabytes: each has a smaller sister of the same architecture."""


@dataclass(frozen=True)
class Case:
    """A model, imported, with inputs and what plain onnxruntime answers to them."""

    name: str
    model: ImportedModel
    feeds: Arrays
    expected: Arrays


@pytest.fixture(scope="module")
def case(request: pytest.FixtureRequest) -> Case:
    name, full = request.param
    made = flexpie_models.build(name) if full else flexpie_models.build(name, image_size=64, sequence_length=8)
    model = imported(made, {"image": (1, 1, 8, 8)} if name == "digits" else None)
    feeds = random_inputs(model.graph)
    expected = run_unsplit(made, feeds)
    assert expected is not None
    return Case(name, model, feeds, expected)


every_model = pytest.mark.parametrize(
    "case",
    [
        pytest.param(
            (name, full), id=f"{name}-full" if full else name, marks=[pytest.mark.slow] * (full or name in HEAVY)
        )
        for full in (False, True)
        for name in flexpie_models.NAMES
        if not (full and name == "digits")
    ],
    indirect=True,
)


@every_model
def test_it_imports(case: Case) -> None:
    graph = case.model.graph
    assert graph.layers
    assert set(graph.outputs) == set(case.expected)
    for name, array in case.expected.items():
        assert graph.tensors[name].opaque or graph.tensors[name].shape == array.shape


@pytest.mark.parametrize("scheme", [IN_H, OUT_C, GRID_2D], ids=str)
@every_model
def test_it_answers_the_same_split_as_unsplit(case: Case, scheme: Scheme) -> None:
    graph = case.model.graph
    plan = forced_plan(graph, DEVICES, scheme, 1 + len(graph.layers) // SEGMENTS)
    comparison = compare(case.expected, run_split(case.model, plan, case.feeds)[0])
    assert comparison.equal, comparison

"""At least 99 % of the multiply-adds of every example model can be divided, by one scheme or another."""

from __future__ import annotations

import pytest

import flexpie_models
from flexpie.core.scheme import IN_H, OUT_C
from flexpie.core.work import work_shares
from tests.random_plans import forced_plan
from tests.splitting import imported

LARGE = ("bert_base", "resnet101", "vit_b16", "gpt2_block", "swin_style", "unet", "unet_bilinear")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in LARGE)) for name in flexpie_models.NAMES],
)
def test_split_share(name: str) -> None:
    shapes = {"image": (1, 1, 8, 8)} if name == "digits" else None
    graph = imported(flexpie_models.build(name), shapes).graph
    best = max(work_shares(graph, forced_plan(graph, 4, scheme)).split for scheme in (IN_H, OUT_C))
    assert best >= 0.99

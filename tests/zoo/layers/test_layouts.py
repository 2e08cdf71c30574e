"""Weights that lie otherwise are the same weights."""

import torch
from torch import nn
from torch.testing import assert_close

from zoo.layers import lay_out_for_reading


def test_values_gradients_and_steps_are_as_before() -> None:
    torch.manual_seed(0)
    mine, theirs = nn.Linear(5, 7), nn.Linear(5, 7)
    theirs.load_state_dict(mine.state_dict())
    with torch.inference_mode():
        lay_out_for_reading(nn.Sequential(mine))
    assert mine.weight.stride() == (1, 7)
    assert torch.equal(mine.weight, theirs.weight)
    optimizers = [torch.optim.AdamW(one.parameters()) for one in (mine, theirs)]
    for _ in range(3):
        x = torch.randn(4, 5)
        for one, optimizer in zip((mine, theirs), optimizers, strict=True):
            one(x).square().sum().backward()
            optimizer.step()
    assert_close(mine.weight, theirs.weight)
    theirs.load_state_dict(mine.state_dict())
    assert torch.equal(mine(x), theirs(x)) or torch.allclose(mine(x), theirs(x), atol=1e-6)


def test_a_weight_that_two_parts_share_stays_one() -> None:
    embedding, projection = nn.Embedding(9, 4), nn.Linear(4, 9, bias=False)
    projection.weight = embedding.weight
    ids, before = torch.tensor([[3, 8, 3]]), embedding.weight.detach().clone()
    lay_out_for_reading(nn.ModuleList([embedding, projection]))
    assert projection.weight is embedding.weight
    assert torch.equal(embedding(ids), before[ids])


def test_other_weights_are_left_alone() -> None:
    parts = nn.ModuleList([nn.Linear(3, 4).bfloat16(), nn.Linear(3, 4, device="meta"), nn.Linear(4, 3)])
    lay_out_for_reading(parts)
    assert all(part.weight.is_contiguous() for part in parts)

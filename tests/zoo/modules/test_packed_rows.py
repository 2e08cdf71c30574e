"""Packed rows give what separate rows give, for every family of every shape."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import zoo
from zoo import registry
from zoo.data.packing import laid_out
from zoo.modules.base import ZooModule

FAMILIES = {entry.name: entry for group in registry.FAMILIES for entry in registry.in_group(group)}
MODULES = {entry.name: entry for entry in registry.in_group("zoo.modules")}
ROWS = [[0, 1, 2], [3], [4, 5]]


def built(family: str) -> ZooModule:
    """A tiny model of a family with weights that hide nothing."""
    spec = FAMILIES[family].load()
    sizes = {**spec.tiny, "pad_token_id": 0}
    head = None if spec.shape != "encoder" else zoo.heads.MaskedLM()
    module: ZooModule = MODULES[spec.shape.replace("-", "_")].load()(spec(**sizes), head)
    module.build()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return module.eval()


def texts(lengths: list[int], seed: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(3, 96, (length,), generator=generator).tolist() for length in lengths]


def batches(module: ZooModule) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Texts one by one, and all of them in packed rows."""
    read, written = texts([5, 3, 7, 13, 1, 9], seed=0), texts([4, 6, 2, 8, 3, 1], seed=1)
    packed = dict(zip(("input_ids", "attention_mask"), laid_out(read, ROWS, 0), strict=True))
    alone: list[dict[str, Any]] = [{"input_ids": torch.tensor([text])} for text in read]
    if module.shape == "encoder-decoder":
        names = ("decoder_input_ids", "decoder_attention_mask")
        packed |= dict(zip(names, laid_out(written, ROWS, 0), strict=True))
        for batch, text in zip(alone, written, strict=True):
            batch["decoder_input_ids"] = torch.tensor([text])
    return alone, packed


def documents(hidden: Tensor, packed: dict[str, Any]) -> list[Tensor]:
    """The hidden states of each document, in order."""
    numbers = packed.get("decoder_attention_mask", packed["attention_mask"])
    return [hidden[row, numbers[row] == number + 1] for row in range(3) for number in range(len(ROWS[row]))]


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_rows_equal_separate_rows(family: str) -> None:
    module = built(family)
    alone, packed = batches(module)
    expected = [module.hidden_states(batch)[0] for batch in alone]
    found = documents(module.hidden_states(packed), packed)
    for mine, theirs in zip(found, expected, strict=True):
        assert_close(mine, theirs, rtol=1e-5, atol=1e-5)
    slopes = [torch.randn_like(hidden) for hidden in expected]
    parameters = list(module.backbone.parameters())
    gradients = [
        torch.autograd.grad(hidden, parameters, slopes, allow_unused=True) for hidden in (found, expected)
    ]
    for mine, theirs in zip(*gradients, strict=True):
        scale = theirs.abs().max().clamp(min=1)
        assert_close(mine / scale, theirs / scale, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_one_document_says_never_reaches_another(family: str) -> None:
    module = built(family)
    _, packed = batches(module)
    before = documents(module.hidden_states(packed), packed)
    for name in ("input_ids", "decoder_input_ids"):
        if name in packed:
            mask = packed["attention_mask" if name == "input_ids" else "decoder_attention_mask"]
            packed[name] = packed[name].where(mask != 2, 95)
    after = documents(module.hidden_states(packed), packed)
    changed = [not torch.equal(one, other) for one, other in zip(before, after, strict=True)]
    assert changed == [False, True, False, False, False, True]

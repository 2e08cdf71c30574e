"""What stays, and what moves less."""

import functools
from typing import Any

import pytest
import torch

import zoo
from zoo.errors import SpecError
from zoo.modules.base import ZooModule
from zoo.training import freezing


def built(module: Any, backbone: Any, head: Any, **choices: Any) -> ZooModule:
    made: ZooModule = module(backbone=backbone(**backbone.tiny), head=head, **choices)
    made.build()
    return made


@pytest.fixture
def bert() -> Any:
    head = zoo.heads.SequenceClassification(labels=["a", "b"])
    return functools.partial(built, zoo.modules.EncoderModule, zoo.encoders.Bert, head)


def test_globs_of_names_say_what_stays(bert: Any) -> None:
    model = bert(freeze=["backbone.*embedding*", "backbone.blocks.0.*"])
    stays = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert "backbone.blocks.0.attention.query.weight" in stays
    assert any("embedding" in name for name in stays)
    assert not any(name.startswith(("backbone.blocks.1", "heads")) for name in stays)
    trained, every = freezing.trained_share(model)
    assert 0 < trained < every == sum(parameter.numel() for parameter in model.parameters())


def test_a_glob_that_matches_nothing_is_an_error(bert: Any) -> None:
    with pytest.raises(SpecError, match=r"no parameter's name matches `backbone.block.0") as refusal:
        bert(freeze=["backbone.block.0.attention.*"])
    assert str(refusal.value.hint).startswith("did you mean `backbone.blocks.*.attention.")
    with pytest.raises(SpecError, match=r"`layer_decay` must lie in \(0, 1\], got 1.5"):
        bert(layer_decay=1.5)


def rates(module: ZooModule) -> dict[str, float]:
    optimizer = torch.optim.AdamW(
        list(freezing.decayed(module.backbone, [{"params": list(module.parameters())}], module.layer_decay)),
        lr=1.0,
    )
    freezing.scale_rates(optimizer.param_groups)
    names = {parameter: name for name, parameter in module.named_parameters()}
    return {
        names[parameter]: group["lr"] for group in optimizer.param_groups for parameter in group["params"]
    }


def test_blocks_learn_the_slower_the_deeper_they_are(bert: Any) -> None:
    found = rates(bert(layer_decay=0.5))
    assert found["heads.head.projection.weight"] == 1
    assert found["backbone.blocks.1.attention.query.weight"] == 0.5
    assert found["backbone.blocks.0.attention.query.weight"] == 0.25
    assert {rate for name, rate in found.items() if "embedding" in name} == {0.125}
    assert len(found) == len(list(bert().parameters()))


def test_what_comes_after_the_blocks_learns_as_the_head_does() -> None:
    llama = built(zoo.modules.DecoderModule, zoo.decoders.Llama, None, layer_decay=0.5)
    found = rates(llama)
    assert (found["backbone.norm.weight"], found["backbone.embedding.weight"]) == (1, 0.125)
    t5 = rates(built(zoo.modules.EncoderDecoderModule, zoo.encoder_decoders.T5, None, layer_decay=0.5))
    assert {rate for name, rate in t5.items() if ".blocks.0." in name} == {0.25}
    assert {rate for name, rate in t5.items() if "norm" in name and "block" not in name} == {1}

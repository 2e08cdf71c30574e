"""Weights of fewer bits."""

import sys

import pytest
import torch
from torch import nn

import zoo
from zoo.errors import GenerationError
from zoo.modules import DecoderModule


def built(family: str = "Llama") -> DecoderModule:
    torch.manual_seed(0)
    spec = getattr(zoo.decoders, family)
    module = DecoderModule(backbone=spec(**{**spec.tiny, "hidden_size": 64, "intermediate_size": 64}))
    module.build()
    module.generation_config = {"eos_token_id": []}
    return module.eval()


@pytest.mark.parametrize(("kind", "tolerance"), [("int8", 0.03), ("int4", 0.3)])
def test_logits_stay_near_and_texts_are_written(kind: str, tolerance: float) -> None:
    pytest.importorskip("torchao", reason="torchao is not installed")
    module, ids = built(), torch.randint(3, 96, (2, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = module(ids).logits
        module.quantize(kind)  # type: ignore[arg-type]
        after = module(ids).logits
    assert 0 < (after - before).abs().max() < tolerance * before.abs().max()
    assert len(module.generate(ids, max_new_tokens=5)[0]) == 5


def test_what_cannot_be_made_smaller_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    module = built()
    with pytest.raises(GenerationError) as caught:
        module.quantize("int2")  # type: ignore[arg-type]
    assert str(caught.value) == "weights can be made int8 or int4, got `int2`"
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(GenerationError) as caught:
        module.quantize("int8")
    assert str(caught.value) == (
        "weights of fewer bits need the extra `quantization`\n  pip install 'lightning-zoo[quantization]'"
    )
    module.backbone = nn.Embedding(3, 4)
    with pytest.raises(GenerationError) as caught:
        module.quantize("int8")
    assert str(caught.value) == "the model has no nn.Linear, whose weights could be made smaller"

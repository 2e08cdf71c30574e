"""What can be seen of attention is what the reference's own maps show, whatever the family's attention."""

from pathlib import Path

import pytest
import torch
import transformers
from torch.testing import assert_close

import zoo
from zoo import registry
from zoo.layers import attention_weights
from zoo.modules.base import ZooModule
from zoo.testing.parity import scramble

GROUPS = {"zoo.encoders": "EncoderModule", "zoo.decoders": "DecoderModule"}


@pytest.mark.parametrize(
    "family", ["Bert", "DebertaV2", "MPNet", "ModernBert", "Llama", "Qwen3", "Gemma3Text"]
)
def test_weights_of_attention_are_the_references(family: str, tmp_path: Path) -> None:
    (group,) = {entry.group for entry in registry.entries() if entry.attribute == family}
    spec = registry.attribute(group, family)(**{**registry.attribute(group, family).tiny, "pad_token_id": 0})
    module: ZooModule = getattr(zoo.modules, GROUPS[group])(spec, heads={})
    module.build()
    scramble(module, std=0.2)
    zoo.save(module, tmp_path)
    reference = transformers.AutoModel.from_pretrained(tmp_path, attn_implementation="eager").eval()
    ids = torch.randint(3, spec.vocab_size, (2, 12), generator=torch.Generator().manual_seed(0))
    real = (torch.arange(12) < torch.tensor([[12], [8]])).long()
    with torch.no_grad(), attention_weights() as found:
        module.eval()(input_ids=ids, attention_mask=real)
    with torch.no_grad():
        expected = reference(input_ids=ids, attention_mask=real, output_attentions=True).attentions
    assert len(found) == len(expected)
    for weights, other in zip(found, expected, strict=True):
        assert_close(weights.values_BHTS[0], other[0], atol=1e-5, rtol=1e-4)
        assert_close(weights.values_BHTS[1, :, :8], other[1, :, :8], atol=1e-5, rtol=1e-4)


def test_those_of_an_encoder_decoder_come_in_the_order_of_its_layers(tmp_path: Path) -> None:
    family = zoo.encoder_decoders.T5
    module = zoo.modules.EncoderDecoderModule(family(**family.tiny))
    module.build()
    scramble(module, std=0.2)
    zoo.save(module, tmp_path)
    reference = transformers.AutoModelForSeq2SeqLM.from_pretrained(
        tmp_path, attn_implementation="eager"
    ).eval()
    ids, written = torch.randint(3, family.tiny["vocab_size"], (2, 1, 9)).unbind(0)
    with torch.no_grad(), attention_weights() as found:
        module.eval()(input_ids=ids, decoder_input_ids=written[:, :5])
        other = reference(input_ids=ids, decoder_input_ids=written[:, :5], output_attentions=True)
    pairs = zip(other.decoder_attentions, other.cross_attentions, strict=True)
    expected = [*other.encoder_attentions, *(one for pair in pairs for one in pair)]
    assert [one.is_across for one in found] == [False, False, False, True, False, True]
    for weights, right in zip(found, expected, strict=True):
        assert_close(weights.values_BHTS, right, atol=1e-5, rtol=1e-4)


def test_nothing_is_kept_when_nobody_looks() -> None:
    with attention_weights() as found:
        pass
    module = zoo.modules.DecoderModule(zoo.decoders.Llama(**zoo.decoders.Llama.tiny))
    module.build()
    module(input_ids=torch.ones(1, 4, dtype=torch.long))
    assert not found

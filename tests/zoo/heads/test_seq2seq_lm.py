"""The head that writes about what was read."""

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

import zoo
from zoo.errors import SpecError
from zoo.layers import IGNORED
from zoo.modules import EncoderDecoderModule

from .conftest import Build


def test_each_label_is_told_from_those_before_it(build: Build) -> None:
    module = build("Transformer")
    ids, labels = torch.randint(3, 96, (2, 7)), torch.randint(3, 96, (2, 5))
    labels[1, 3:] = IGNORED
    output = module(input_ids=ids, labels=labels)
    read = torch.tensor([[0, *row[:-1]] for row in labels.tolist()])
    read[read == IGNORED] = 0
    assert_close(output.logits, module(input_ids=ids, decoder_input_ids=read).logits)
    assert_close(output.loss, F.cross_entropy(output.logits.flatten(0, 1), labels.flatten()))
    changed = labels.clone()
    changed[0, 2] = (changed[0, 2] + 1) % 90 + 3
    other = module(input_ids=ids, labels=changed).logits
    assert_close(other[0, :3], output.logits[0, :3])
    assert not torch.allclose(other[0, 3], output.logits[0, 3])


def test_predictions_are_what_is_generated_in_order_and_one_by_one(build: Build) -> None:
    module = build("Transformer")
    assert isinstance(module, EncoderDecoderModule)
    module.generation_config = {"max_new_tokens": 5}
    texts = ["the cat", "the dog ran to a red sun", "def", "the mat and the cat sat on the dog"]
    found = module.predict(texts)
    assert found == [module.predict([text])[0] for text in texts] == module.generate(texts)
    assert len(set(found)) > 1


def test_what_is_too_long_to_be_read_is_cut_for_a_prediction(build: Build) -> None:
    module = build("Transformer", sizes={"max_position_embeddings": 12})
    module.generation_config = {"max_new_tokens": 4}
    assert module.predict(["the cat " * 20]) == module.predict(["the cat " * 30])


def test_without_anything_to_write_it_says_what_is_missing(build: Build) -> None:
    with pytest.raises(SpecError) as caught:
        build("Transformer")(torch.ones(1, 3, dtype=torch.long))
    assert str(caught.value) == "an encoder-decoder needs `labels` or `decoder_input_ids`"


def test_several_writers_are_asked_by_name(build: Build) -> None:
    heads = {"one": zoo.heads.Seq2SeqLM(), "other": zoo.heads.Seq2SeqLM()}
    module = build("Transformer", heads=heads, sizes={"tie_word_embeddings": False})
    module.generation_config = {"max_new_tokens": 6}
    texts = ["the cat sat", "a red sun"]
    assert module.predict(texts, "one") != module.predict(texts, "other")
    assert isinstance(module, EncoderDecoderModule)
    assert module.generate(texts) == module.predict(texts, "one")
    assert module.generate(texts, head="other") == module.predict(texts, "other")


def test_labels_are_smoothed_in_training_alone(build: Build) -> None:
    smooth, plain = (build("Transformer", zoo.heads.Seq2SeqLM(label_smoothing=share)) for share in (0.1, 0.0))
    smooth.load_state_dict(plain.state_dict())
    batch = {"input_ids": torch.ones(2, 5, dtype=torch.long), "labels": torch.randint(3, 90, (2, 6))}
    assert torch.equal(smooth(**batch).loss, plain(**batch).loss)
    logits = smooth(**batch).logits
    smooth.head().train()
    expected = F.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten(), label_smoothing=0.1)
    assert_close(smooth(**batch).loss, expected)


def test_a_share_that_is_none_is_refused() -> None:
    with pytest.raises(SpecError) as caught:
        zoo.heads.Seq2SeqLM(label_smoothing=1.0)
    assert str(caught.value) == "`label_smoothing` must lie in [0, 1), got 1.0\n  at    label_smoothing"

"""Several heads on one backbone, and heads of every shape, under a plain `lightning.Trainer`."""

import functools
import json
import logging
import random
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import transformers
from torch.testing import assert_close

import zoo
from zoo.data import Mixture, Text, TextClassification, TextPairs
from zoo.errors import SpecError
from zoo.modules import EncoderModule
from zoo.modules.base import ZooModule

pytestmark = pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers")
FAST = functools.partial(torch.optim.AdamW, lr=0.01)
KINDS = {"pet": ["cat", "dog"], "sky": ["sun", "moon"]}


@pytest.fixture(autouse=True)
def quiet() -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, draw = tmp_path_factory.mktemp("sources"), random.Random(0)
    rows, pairs = [], []
    for index in range(80):
        kind = draw.choice(list(KINDS))
        text = f"the {draw.choice(KINDS[kind])} is {'very ' * draw.randint(0, 3)}red {index}"
        rows.append(json.dumps({"text": text, "label": kind}))
        pairs.append(json.dumps({"input": text.replace(" ", ""), "target": text}))
    (folder / "rows.jsonl").write_text("\n".join(rows))
    (folder / "pairs.jsonl").write_text("\n".join(pairs))
    return folder


def trainer_of(folder: Path, **choices: Any) -> L.Trainer:
    quiet = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    sizes = {"max_epochs": 1, "num_sanity_val_steps": 0, "accelerator": "cpu", "default_root_dir": folder}
    return L.Trainer(**{**dict.fromkeys(quiet, False), **sizes, **choices})


def two_heads() -> EncoderModule:
    torch.manual_seed(0)
    sizes = {
        "vocab_size": 120,
        "num_hidden_layers": 1,
        "initializer_range": 0.1,
    }
    spec = zoo.encoders.Bert(**{**zoo.encoders.Bert.tiny, **sizes})
    heads = {"words": zoo.heads.MaskedLM(), "kind": zoo.heads.SequenceClassification()}
    return EncoderModule(spec, heads=heads, optimizer=functools.partial(torch.optim.AdamW, lr=0.005))


def mixture(folder: Path, **choices: Any) -> Mixture:
    source, sizes = str(folder / "rows.jsonl"), {"vocab_size": 120, "validation_fraction": 0.25}
    words = Text(source, tokenizer="wordpiece", sequence_length=16, batch_size=4, **sizes)
    kind = TextClassification(source, max_length=16, batch_size=4, **sizes)
    return Mixture({"words": words, "kind": kind}, **choices)


def test_two_heads_are_trained_measured_kept_and_asked(folder: Path, tmp_path: Path) -> None:
    module, data = two_heads(), mixture(folder, steps={"kind": 80, "words": 5})
    trainer = trainer_of(tmp_path)
    trainer.fit(module, datamodule=data)
    assert trainer.global_step == 85
    (measures,) = trainer.validate(module, datamodule=data, verbose=False)
    words, kind = {"loss", "perplexity", "accuracy"}, {"loss", "accuracy", "f1", "mcc"}
    assert measures.keys() == {f"val/words/{name}" for name in words} | {f"val/kind/{name}" for name in kind}
    assert measures["val/kind/accuracy"] > 0.9
    trainer.save_checkpoint(tmp_path / "last.ckpt")

    loaded = zoo.load(tmp_path / "last.ckpt")
    assert loaded.head_specs == module.head_specs
    texts = ["the cat is red 3", "the moon is very very red 12", "the dog is red 40"]
    assert loaded.predict(texts, head="kind") == module.predict(texts, head="kind")
    assert [one["label"] for one in loaded.predict(texts, head="kind")] == ["pet", "sky", "pet"]
    assert len(loaded.predict(["the [MASK] is red"], head="words")[0]["tokens"]) == 1
    (again,) = trainer_of(tmp_path).validate(loaded, datamodule=mixture(folder), verbose=False)
    assert again == measures

    ids = torch.randint(5, 100, (2, 7))
    for head, kind_of_model in (
        ("kind", transformers.BertForSequenceClassification),
        ("words", transformers.BertForMaskedLM),
    ):
        zoo.save(loaded, tmp_path / head, head=head)
        theirs, info = kind_of_model.from_pretrained(tmp_path / head, output_loading_info=True)
        assert not any(info.values()), info
        with torch.no_grad():
            assert_close(loaded(ids, head=head).logits, theirs.eval()(ids).logits, rtol=1e-5, atol=1e-5)


def test_gradients_reach_the_named_head_and_the_backbone_alone(folder: Path) -> None:
    module, data = two_heads(), mixture(folder)
    data.trainer = trainer_of(folder)
    data.trainer.strategy._lightning_module = module
    data.setup("fit")
    module.build()
    loaders = {name: part.train_dataloader() for name, part in data.parts.items()}
    for name, other in (("words", "kind"), ("kind", "words")):
        module.zero_grad()
        batch = {**next(iter(loaders[name])), "head": name}
        module.head(name).loss(module.hidden_states(batch), batch).mean.backward()
        backbone = {id(parameter) for parameter in module.backbone.parameters()}
        assert all(parameter.grad is not None for parameter in module.backbone.parameters())
        assert all(parameter.grad is not None for parameter in module.heads[name].parameters())
        alone = [parameter for parameter in module.heads[other].parameters() if id(parameter) not in backbone]
        assert alone
        assert all(parameter.grad is None for parameter in alone)


def test_parts_take_turns_until_the_longest_is_through(folder: Path) -> None:
    data = mixture(folder)
    data.setup("fit")
    heads = [batch["head"] for batch in data.train_dataloader()]
    longest = max(len(part.train_dataloader()) for part in data.parts.values())  # type: ignore[arg-type]
    assert heads == ["words", "kind"] * longest
    assert len(data.train_dataloader()) == len(heads)


def test_steps_are_one_part_after_the_other_and_start_again(folder: Path) -> None:
    data = mixture(folder, steps={"kind": 30, "words": 2})
    data.setup("fit")
    batches = list(data.train_dataloader())
    assert [batch["head"] for batch in batches] == ["kind"] * 30 + ["words"] * 2
    assert len(data.parts["kind"].train_dataloader()) < 30  # type: ignore[arg-type]


def test_every_part_is_predicted_in_order(folder: Path, tmp_path: Path) -> None:
    module, data = two_heads(), mixture(folder, steps={"words": 1, "kind": 1})
    trainer = trainer_of(tmp_path)
    trainer.fit(module, datamodule=data)
    found = trainer.predict(module, datamodule=data)
    assert found is not None
    said = [one for batch in found for one in batch]
    asked = [one for batch in data.predict_dataloader() for one in batch["prompts"]]
    assert len(said) == len(asked)
    kinds = [one for one in said if "label" in one]
    texts = [example.text for example in data.parts["kind"].examples()[1]]  # type: ignore[attr-defined]
    assert kinds == said[-len(kinds) :]
    for one, expected in zip(kinds, module.predict(texts, "kind"), strict=True):
        assert one["label"] == expected["label"]
        assert one["score"] == pytest.approx(expected["score"], abs=1e-5)
    assert all(len(one["tokens"]) == 1 for one in said[: -len(kinds)])


SHAPES = {
    "Bert": ("encoders", "EncoderModule"),
    "Llama": ("decoders", "DecoderModule"),
    "Transformer": ("encoder_decoders", "EncoderDecoderModule"),
}


def shaped(family: str, head: Any) -> ZooModule:
    torch.manual_seed(0)
    group, module = SHAPES[family]
    spec = getattr(getattr(zoo, group), family)
    sizes = {**spec.tiny, "vocab_size": 270, "num_hidden_layers": 1, "pad_token_id": 0}
    made: ZooModule = getattr(zoo.modules, module)(spec(**sizes), head, optimizer=FAST)
    return made


@pytest.mark.parametrize("family", SHAPES)
def test_every_shape_learns_to_classify(family: str, folder: Path, tmp_path: Path) -> None:
    module = shaped(family, zoo.heads.SequenceClassification())
    data = TextClassification(
        str(folder / "rows.jsonl"), vocab_size=120, max_length=16, batch_size=4, validation_fraction=0.25
    )
    trainer = trainer_of(tmp_path, max_epochs=4)
    trainer.fit(module, datamodule=data)
    (measures,) = trainer.validate(module, datamodule=data, verbose=False)
    assert measures.keys() == {"val/loss", "val/accuracy", "val/f1", "val/mcc"}
    assert measures["val/accuracy"] > 0.9
    zoo.save(module, tmp_path / "saved")
    texts = ["the cat is red", "moon"]
    assert zoo.load(tmp_path / "saved").predict(texts) == module.predict(texts)


def test_an_encoder_decoder_learns_writes_and_is_kept(folder: Path, tmp_path: Path) -> None:
    module = shaped("Transformer", None)
    data = TextPairs(
        str(folder / "pairs.jsonl"), tokenizer="bpe", vocab_size=270, max_length=48, batch_size=4,
        validation_fraction=0.25,
    )  # fmt: skip
    trainer = trainer_of(tmp_path, max_epochs=2)
    trainer.fit(module, datamodule=data)
    (measures,) = trainer.validate(module, datamodule=data, verbose=False)
    assert measures["val/loss"] < 3.5  # of log(270) = 5.6
    found = trainer.predict(module, datamodule=data)
    assert found is not None
    texts = [pair.input for pair in data.examples()[1]]
    assert [one for batch in found for one in batch] == module.predict(texts)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    zoo.save(module, tmp_path / "saved")
    for saved in ("last.ckpt", "saved"):
        assert zoo.load(tmp_path / saved).predict(texts[:5]) == module.predict(texts[:5])


def test_data_for_one_head_and_a_model_of_several_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        trainer_of(tmp_path).fit(two_heads(), datamodule=mixture(folder).parts["words"].__class__("rows"))
    assert str(caught.value) == (
        "zoo.data.Text makes batches for one head, the model has words, kind\n"
        "  at    data\n"
        "  give zoo.data.Mixture a part for each head"
    )


def test_a_head_that_does_not_fit_is_refused_from_python_too() -> None:
    module = EncoderModule(zoo.encoders.Bert(), heads={"a": zoo.heads.MaskedLM(), "b": zoo.heads.CausalLM()})
    with pytest.raises(SpecError) as caught:
        module.build()
    assert str(caught.value) == (
        "the head zoo.heads.CausalLM does not fit zoo.encoders.Bert, which is an encoder\n"
        "  at    model.heads.b\n"
        "  heads that fit: Embedding, ExtractiveQA, MaskedLM, MultipleChoice, ReplacedTokenDetection, "
        "SequenceClassification, TokenClassification"
    )

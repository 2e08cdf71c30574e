"""A model's files under another head than they were saved with: what fits is read, what is new is said."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch.testing import assert_close
from torch.utils.data import DataLoader

import zoo
from zoo import registry
from zoo.errors import CheckpointError, SpecError, ZooError
from zoo.modules.base import ZooModule
from zoo.specs import HubModel

SIZES: dict[str, dict[str, Any]] = {
    "Bert": {**zoo.encoders.Bert.tiny, "pad_token_id": 0},
    "Llama": {**zoo.decoders.Llama.tiny, "tie_word_embeddings": False, "pad_token_id": 0},
    "GPT2": {"vocab_size": 96, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "pad_token_id": 0},
    "T5": {
        "vocab_size": 96, "d_model": 32, "d_kv": 8, "d_ff": 56, "num_layers": 2, "num_heads": 4,
        "tie_word_embeddings": False,
    },
}  # fmt: skip
LABELS = ["no", "maybe", "yes"]
Saved = Callable[..., Any]


@pytest.fixture
def saved(tmp_path: Path) -> Saved:
    """Saves a tiny model of transformers' as `model`; the model."""

    def save(architecture: str, **more: Any) -> Any:
        kind = getattr(transformers, architecture)
        family = next(name for name in SIZES if architecture.startswith(name))
        model = kind(kind.config_class(**SIZES[family], **more)).eval()
        model.save_pretrained(tmp_path / "model")
        return model

    return save


def trained(module: ZooModule, folder: Path) -> ZooModule:
    """The module as a run starts with it: it takes a step at a rate of zero."""
    ids = torch.randint(3, 96, (4, 9))
    has_classes = any(type(head).__name__ == "SequenceClassification" for head in module.head_specs.values())
    batch = {"input_ids": ids, "labels": torch.tensor([0, 2, 1, 1]) if has_classes else ids}
    if len(module.head_specs) > 1:
        batch["head"] = list(module.head_specs)[-1]
    loader: DataLoader[Any] = DataLoader([0], batch_size=None, collate_fn=lambda _: batch)
    trainer = L.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False,
        enable_model_summary=False, max_steps=1, limit_val_batches=0, default_root_dir=folder,
    )  # fmt: skip
    module.optimizer = lambda parameters: torch.optim.SGD(parameters, lr=0.0)
    trainer.fit(module, loader, loader)
    return module


def of(folder: Path, head: Any = None, **more: Any) -> ZooModule:
    """The module of a folder's shape on that folder."""
    family = registry.family(json.loads((folder / "config.json").read_text())["model_type"])
    kind = getattr(zoo.modules, f"{family.shape.title().replace('-', '')}Module")
    module: ZooModule = kind(backbone=HubModel(str(folder)), head=head, **more)
    return module


def classifier() -> Any:
    return zoo.heads.SequenceClassification(labels=LABELS)


def said(caplog: pytest.LogCaptureFixture) -> str:
    (line,) = (message for message in caplog.messages if " was saved as " in message)
    return line


@pytest.fixture(autouse=True)
def listening(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="lightning.pytorch.utilities.rank_zero")


# Another kind of head


@pytest.mark.parametrize(
    ("architecture", "head", "fresh", "left"),
    [
        (
            "BertForMaskedLM",
            classifier,
            "bert.pooler.dense.bias, bert.pooler.dense.weight, classifier.bias, classifier.weight",
            "cls.predictions.bias, cls.predictions.transform.LayerNorm.bias, "
            "cls.predictions.transform.LayerNorm.weight, cls.predictions.transform.dense.bias and 1 more",
        ),
        ("BertModel", classifier, "classifier.bias, classifier.weight", ""),
        (
            "BertForSequenceClassification",
            zoo.heads.MaskedLM,
            "cls.predictions.bias, cls.predictions.transform.LayerNorm.bias, "
            "cls.predictions.transform.LayerNorm.weight, cls.predictions.transform.dense.bias and 1 more",
            "classifier.bias, classifier.weight",
        ),
        (
            "BertForQuestionAnswering",
            classifier,
            "bert.pooler.dense.bias, bert.pooler.dense.weight, classifier.bias, classifier.weight",
            "qa_outputs.bias, qa_outputs.weight",
        ),
        ("LlamaForCausalLM", classifier, "score.weight", "lm_head.weight"),
        ("LlamaModel", zoo.heads.CausalLM, "lm_head.weight", ""),
        ("GPT2LMHeadModel", classifier, "score.weight", ""),
        ("GPT2Model", classifier, "score.weight", ""),
        ("T5Model", zoo.heads.Seq2SeqLM, "lm_head.weight", ""),
        (
            "T5ForConditionalGeneration",
            classifier,
            "classification_head.dense.bias, classification_head.dense.weight, "
            "classification_head.out_proj.bias, classification_head.out_proj.weight",
            "",
        ),
    ],
)
def test_training_under_another_head_starts_it_fresh_and_says_so(
    saved: Saved,
    architecture: str,
    head: Callable[[], Any],
    fresh: str,
    left: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    theirs = saved(architecture)
    module = trained(of(tmp_path / "model", head()), tmp_path)
    ending = f"; left unread: {left}" if left else ""
    assert said(caplog) == f"{tmp_path}/model was saved as {architecture}; fresh: {fresh}{ending}"
    ours, whole = module.hub_tensors(), theirs.state_dict()
    prefix = module.spec.prefix
    for name, tensor in ours.items():
        known = next((known for known in (name, name.removeprefix(prefix)) if known in whole), None)
        if known is not None:
            assert torch.equal(tensor, whole[known]), name
        elif tensor.ndim > 1:
            assert 0.005 < tensor.std() < 0.05, name


def test_fresh_weights_are_those_of_the_seed(saved: Saved, tmp_path: Path) -> None:
    saved("BertForMaskedLM")
    heads = []
    for seed in (3, 3, 4):
        L.seed_everything(seed, verbose=False)
        heads.append(trained(of(tmp_path / "model", classifier()), tmp_path).head().projection.weight)
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_a_head_of_its_own_kind_is_read_and_nothing_is_said(
    saved: Saved, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    theirs = saved("BertForSequenceClassification", num_labels=3)
    labels = [f"LABEL_{number}" for number in range(3)]
    module = trained(of(tmp_path / "model", zoo.heads.SequenceClassification(labels=labels)), tmp_path)
    assert torch.equal(module.head().projection.weight, theirs.classifier.weight)
    assert not [message for message in caplog.messages if " was saved as " in message]


def test_a_classifier_of_other_labels_keeps_all_but_the_projection(
    saved: Saved, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    theirs = saved("BertForSequenceClassification", num_labels=5)
    module = trained(of(tmp_path / "model", classifier()), tmp_path)
    assert torch.equal(module.head().transform.dense.weight, theirs.bert.pooler.dense.weight)
    assert module.head().projection.weight.shape == (3, 32)
    assert said(caplog) == (
        f"{tmp_path}/model was saved as BertForSequenceClassification; fresh: classifier.bias, "
        "classifier.weight; left unread: classifier.bias, classifier.weight"
    )


def test_several_heads_are_each_read_or_fresh(
    saved: Saved, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    theirs = saved("BertForMaskedLM")
    heads = {"words": zoo.heads.MaskedLM(), "one": classifier(), "other": classifier()}
    module = trained(of(tmp_path / "model", heads=heads), tmp_path)
    assert torch.equal(module.head("words").projection.bias, theirs.cls.predictions.bias)
    assert module.head("other").projection.weight.std() > 0.005
    assert said(caplog).startswith(
        f"{tmp_path}/model was saved as BertForMaskedLM; fresh: bert.pooler.dense.bias, "
    )
    assert said(caplog).endswith(" and 4 more")


def test_a_damaged_file_of_the_same_head_is_refused_in_training_too(saved: Saved, tmp_path: Path) -> None:
    saved("BertForMaskedLM")
    path = tmp_path / "model" / "model.safetensors"
    tensors = load_file(path)
    del tensors["cls.predictions.transform.dense.weight"]
    save_file(tensors, path)
    with pytest.raises(CheckpointError) as caught:
        trained(zoo.modules.EncoderModule(HubModel(str(tmp_path / "model")), zoo.heads.MaskedLM()), tmp_path)
    assert str(caught.value) == (
        f"tensor `cls.predictions.transform.dense.weight` is missing from {tmp_path}/model"
    )


def test_a_backbone_with_a_gap_is_refused_whatever_the_head(saved: Saved, tmp_path: Path) -> None:
    saved("BertForMaskedLM")
    path = tmp_path / "model" / "model.safetensors"
    tensors = load_file(path)
    del tensors["bert.encoder.layer.1.output.dense.weight"]
    tensors["bert.encoder.layer.1.output.odd.weight"] = torch.ones(2)
    save_file(tensors, path)
    with pytest.raises(CheckpointError, match=r"^tensor `bert\.encoder\.layer\.1\.output\.odd\.weight` of "):
        trained(zoo.modules.EncoderModule(HubModel(str(tmp_path / "model")), classifier()), tmp_path)


def test_a_head_that_was_never_trained_is_not_used(saved: Saved, tmp_path: Path) -> None:
    saved("BertForMaskedLM")
    folder = tmp_path / "model"
    expected = (
        f"tensor `bert.pooler.dense.bias` and 3 more is missing from {folder}\n"
        f"  it was saved as BertForMaskedLM; a new head is trained: zoo fit, with `backbone: {folder}`"
    )
    with pytest.raises(CheckpointError) as caught:
        zoo.load(folder, head=classifier())
    assert str(caught.value) == expected
    module = of(folder, classifier())
    with pytest.raises(CheckpointError) as caught:
        L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False).validate(
            module, DataLoader([0]), verbose=False
        )
    assert str(caught.value) == expected


# No head


@pytest.mark.parametrize("architecture", ["BertModel", "LlamaModel", "GPT2Model"])
def test_a_model_without_a_head_gives_hidden_states(saved: Saved, architecture: str, tmp_path: Path) -> None:
    theirs = saved(architecture)
    ours = zoo.load(tmp_path / "model")
    ids, mask = torch.randint(3, 96, (2, 7)), torch.ones(2, 7, dtype=torch.long)
    mask[1, 4:] = 0
    output = ours(input_ids=ids, attention_mask=mask)
    expected = theirs(input_ids=ids, attention_mask=mask).last_hidden_state
    assert_close(output.last_hidden_state[mask.bool()], expected[mask.bool()], rtol=1e-5, atol=1e-5)
    assert output.logits is None
    zoo.save(ours, tmp_path / "again")
    assert json.loads((tmp_path / "again" / "config.json").read_text())["architectures"] == [architecture]
    again, info = type(theirs).from_pretrained(tmp_path / "again", output_loading_info=True)
    assert not info["unexpected_keys"]
    assert_close(again(ids).last_hidden_state, theirs(ids).last_hidden_state, rtol=1e-5, atol=1e-5)


def test_a_model_without_a_head_says_so_when_one_is_asked_for(saved: Saved, tmp_path: Path) -> None:
    saved("BertModel")
    model = zoo.load(tmp_path / "model")
    for ask in (lambda: model.predict(["a"]), lambda: model(torch.ones(1, 2).long(), labels=torch.ones(1))):
        with pytest.raises(ZooError) as caught:
            ask()
        assert str(caught.value) == "the model has no head\n  give one: zoo.load(…, head=…)"
    with pytest.raises(SpecError) as refused:
        trained(model, tmp_path)
    assert str(refused.value) == "a model needs a head\n  at    model.head"


# Older spellings


def test_norms_of_tensorflows_times_are_read(saved: Saved, tmp_path: Path) -> None:
    theirs = saved("BertForMaskedLM")
    path = tmp_path / "model" / "model.safetensors"
    renamed = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
        for name, value in load_file(path).items()
    }
    assert "bert.embeddings.LayerNorm.gamma" in renamed
    save_file(renamed, path)
    ids = torch.randint(3, 96, (1, 5))
    assert_close(zoo.load(tmp_path / "model")(ids).logits, theirs(ids).logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "spelling",
    [
        {"rope_theta": 500.0, "rope_scaling": {"type": "linear", "factor": 2.0}},
        {"rope_theta": 500.0, "rope_scaling": {"rope_type": "linear", "factor": 2.0}},
        {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 500.0}},
        {"rope_theta": 500.0, "rope_scaling": None},
        {"torch_dtype": "float32", "dtype": None},
    ],
    ids=str,
)
def test_keys_of_older_and_newer_configs_mean_the_same_as_there(
    saved: Saved, spelling: dict[str, Any], tmp_path: Path
) -> None:
    saved("LlamaForCausalLM")
    path = tmp_path / "model" / "config.json"
    config = json.loads(path.read_text())
    del config["rope_parameters"]
    path.write_text(json.dumps({**config, **spelling}))
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()
    ids = torch.randint(3, 96, (1, 20))
    assert_close(zoo.load(tmp_path / "model")(ids).logits, theirs(ids).logits, rtol=1e-5, atol=1e-5)

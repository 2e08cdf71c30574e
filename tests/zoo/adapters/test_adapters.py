"""Adapters are PEFT's: the same numbers beside the same layers, in files that either reads."""

import functools
import importlib.util
import json
import logging
import re
from pathlib import Path
from typing import Any

import lightning as L
import peft
import pytest
import torch
import transformers
from torch import Tensor
from torch.testing import assert_close
from torch.utils.data import DataLoader

import zoo
from zoo import registry
from zoo.adapters import LoRA
from zoo.errors import CheckpointError, SpecError, ZooError
from zoo.modules.base import ZooModule
from zoo.specs import BackboneSpec, HubModel
from zoo.training import freezing

pytestmark = [
    pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False"),  # of PEFT, for GPT-2
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]
KINDS: dict[str, tuple[Any, Any, str]] = {
    "encoder": (
        zoo.modules.EncoderModule,
        zoo.heads.SequenceClassification(labels=["a", "b", "c"]),
        "AutoModelForSequenceClassification",
    ),
    "decoder": (zoo.modules.DecoderModule, zoo.heads.CausalLM(), "AutoModelForCausalLM"),
    "encoder-decoder": (zoo.modules.EncoderDecoderModule, zoo.heads.Seq2SeqLM(), "AutoModelForSeq2SeqLM"),
}


def saved(family: str, folder: Path, **sizes: Any) -> Path:
    """A tiny model of the family with fresh weights."""
    spec = registry.family(family)
    torch.manual_seed(0)
    kind, head, _ = KINDS[spec.shape]
    return zoo.save(kind(backbone=spec(**{**spec.tiny, **sizes}), head=head), folder / "base")


def adapted(base: Path, lora: LoRA, **choices: Any) -> ZooModule:
    """The model with an adapter that changes it."""
    spec = zoo.load(base).spec
    kind, head, _ = KINDS[spec.shape]
    module: ZooModule = kind(backbone=HubModel(str(base)), head=head, adapter=lora, **choices)
    module.build(trains=True)
    shake(module)
    return module.eval()


def shake(module: torch.nn.Module) -> None:
    draw = torch.Generator().manual_seed(1)
    for parameter in module.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=draw)


def theirs_of(base: Path, shape: str, **choices: Any) -> Any:
    return getattr(transformers, KINDS[shape][2]).from_pretrained(base, **choices).eval()


@torch.no_grad()
def logits(model: Any, spec: BackboneSpec) -> Tensor:
    ids = torch.arange(5, 19).view(2, 7)
    more = {"decoder_input_ids": ids[:, :4]} if spec.shape == "encoder-decoder" else {}
    found: Tensor = model(input_ids=ids, attention_mask=torch.ones_like(ids), **more).logits
    return found


@pytest.mark.parametrize(
    ("family", "lora"),
    [
        ("bert", LoRA(r=4)),
        ("roberta", LoRA(r=4, target_modules=["query", "value"], use_rslora=True)),
        ("llama", LoRA(r=4, use_dora=True)),
        ("gpt2", LoRA(r=2, use_dora=True)),
        ("mixtral", LoRA(r=4)),
        ("t5", LoRA(r=4, lora_alpha=3)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_peft_reads_what_was_saved_and_computes_and_counts_the_same(
    family: str, lora: LoRA, tmp_path: Path
) -> None:
    base = saved(family, tmp_path)
    ours = adapted(base, lora)
    expected = logits(ours, ours.spec)
    assert (expected - logits(zoo.load(base), ours.spec)).abs().max() > 0.01
    folder = ours.save_adapter(tmp_path / "adapter")

    theirs: Any = peft.PeftModel.from_pretrained(
        theirs_of(base, ours.shape), str(folder), is_trainable=True
    ).eval()
    assert_close(logits(theirs, ours.spec), expected, atol=3e-6, rtol=1e-5)
    trained, every = freezing.trained_share(ours)
    heads = trained - sum(p.numel() for name, p in ours.named_parameters() if "lora_" in name)
    assert theirs.get_nb_trainable_parameters() == (trained, every + heads)  # PEFT keeps the old head, too

    back = zoo.load(base)
    back.load_adapter(folder)
    assert torch.equal(logits(back.eval(), ours.spec), expected)

    zoo.save(ours, tmp_path / "merged")
    assert_close(
        logits(theirs_of(tmp_path / "merged", ours.shape), ours.spec), expected, atol=3e-6, rtol=1e-5
    )
    assert torch.equal(logits(ours, ours.spec), expected)  # saving has changed nothing


@pytest.mark.parametrize("family", ["roberta", "qwen3", "gpt2"])
def test_what_peft_saved_is_read(family: str, tmp_path: Path) -> None:
    base = saved(family, tmp_path)
    spec = zoo.load(base).spec
    task = "SEQ_CLS" if spec.shape == "encoder" else "CAUSAL_LM"
    config = peft.LoraConfig(r=3, lora_alpha=5, task_type=task, target_modules="all-linear")
    theirs = peft.get_peft_model(theirs_of(base, spec.shape), config).eval()
    shake(theirs)
    theirs.save_pretrained(str(tmp_path / "adapter"))
    ours = zoo.load(base)
    ours.load_adapter(tmp_path / "adapter")
    assert_close(logits(ours.eval(), spec), logits(theirs, spec), atol=3e-6, rtol=1e-5)


def test_four_bits_are_those_of_bitsandbytes_and_come_out_whole(tmp_path: Path) -> None:
    base = saved("llama", tmp_path, hidden_size=64, intermediate_size=128)
    ours = adapted(base, LoRA(r=4, quantization="nf4"))
    config = transformers.BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True
    )
    theirs = peft.PeftModel.from_pretrained(
        theirs_of(base, "decoder", quantization_config=config), str(ours.save_adapter(tmp_path / "adapter"))
    ).train()  # in which bitsandbytes keeps the scales as they are
    assert_close(logits(ours, ours.spec), logits(theirs, ours.spec), atol=3e-6, rtol=1e-5)
    whole = zoo.load(zoo.save(ours, tmp_path / "merged"))
    assert_close(logits(whole, ours.spec), logits(ours, ours.spec), atol=3e-6, rtol=1e-5)
    trained, every = freezing.trained_share(ours)
    assert every - trained == freezing.trained_share(zoo.load(base))[1]


class Rows(L.LightningDataModule):
    def val_dataloader(self) -> Any:
        return self.train_dataloader()

    def train_dataloader(self) -> Any:
        draw = torch.Generator().manual_seed(3)
        rows = [torch.randint(5, 90, (2, 9), generator=draw) for _ in range(2)]  # an epoch
        return DataLoader([{"input_ids": ids, "labels": ids} for ids in rows], batch_size=None)


@pytest.mark.parametrize("quantization", [None, "nf4"])
def test_a_run_goes_on_with_the_same_bits_and_its_checkpoint_stands_alone(
    quantization: Any, tmp_path: Path
) -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    base = saved("llama", tmp_path, hidden_size=64)

    def trained(steps: int, start: Path | None = None) -> tuple[ZooModule, Path]:
        torch.manual_seed(0)
        module = zoo.modules.DecoderModule(
            backbone=HubModel(str(base)),
            adapter=LoRA(r=2, quantization=quantization),
            optimizer=functools.partial(torch.optim.AdamW, lr=0.05),
            lr_schedule=zoo.schedules.Constant(),
            layer_decay=0.5,
        )
        quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar"), False)
        trainer = L.Trainer(
            max_steps=steps, accelerator="cpu", enable_model_summary=False, default_root_dir=tmp_path, **quiet
        )
        trainer.fit(module, datamodule=Rows(), ckpt_path=start, weights_only=True)
        trainer.save_checkpoint(path := tmp_path / f"{steps}.ckpt")
        return module, path

    whole, _ = trained(4)
    _, half = trained(2)
    resumed, end = trained(4, half)
    before = zoo.load(base).state_dict()
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
        if "norm" in name:
            assert torch.equal(tensor, before[name])
    (tmp_path / "base").rename(tmp_path / "elsewhere")
    assert torch.equal(logits(zoo.load(end), whole.spec), logits(whole.eval(), whole.spec))


def test_several_adapters_take_turns_on_one_backbone(tmp_path: Path) -> None:
    base = saved("llama", tmp_path)
    first = adapted(base, LoRA(r=2))
    second = adapted(base, LoRA(r=3, use_rslora=True, target_modules=["down"]))
    model = zoo.load(base)
    for name, one in {"first": first, "second": second}.items():
        model.load_adapter(one.save_adapter(tmp_path / name), name)
    model.eval()
    for name, one in {"first": first, "second": second, "again": first}.items():
        model.set_adapter("first" if name == "again" else name)
        assert_close(logits(model, model.spec), logits(one, one.spec))
    plain = logits(zoo.load(base), model.spec)
    with model.without_adapter():
        assert torch.equal(logits(model, model.spec), plain)
    assert not torch.equal(logits(model, model.spec), plain)
    model.set_adapter(None)
    assert torch.equal(logits(model, model.spec), plain)
    with pytest.raises(ZooError, match="the model has no adapter `third`"):
        model.set_adapter("third")
    with pytest.raises(ZooError, match="the model has an adapter `first` already"):
        model.load_adapter(tmp_path / "first", "first")


def test_a_run_may_start_from_an_adapter_that_was_saved(tmp_path: Path) -> None:
    base = saved("llama", tmp_path)
    first = adapted(base, LoRA(r=2))
    first.save_adapter(tmp_path / "adapter")
    module = zoo.modules.DecoderModule(
        backbone=HubModel(str(base)), adapter=HubModel(str(tmp_path / "adapter"))
    )
    module.build(trains=True)
    assert_close(logits(module.eval(), module.spec), logits(first, first.spec))
    assert freezing.trained_share(module) == freezing.trained_share(first)


def test_projections_are_named_as_here_or_as_on_the_hub(tmp_path: Path) -> None:
    base = saved("llama", tmp_path)
    here, there = (adapted(base, LoRA(target_modules=[name])) for name in ("query", "q_proj"))
    assert here.state_dict().keys() == there.state_dict().keys()
    with pytest.raises(SpecError) as told:
        adapted(base, LoRA(target_modules=["q_proy"]))
    assert str(told.value) == (
        "no projection's name ends with `q_proy`\n"
        "  at    model.adapter.target_modules\n"
        "  did you mean `q_proj`?"
    )


def test_experts_that_are_stacked_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no projection's name ends with `gate`"):
        adapted(saved("mixtral", tmp_path), LoRA(target_modules=["gate"]))


def test_an_adapter_for_another_base_is_refused(tmp_path: Path) -> None:
    folder = adapted(saved("llama", tmp_path), LoRA(r=2)).save_adapter(tmp_path / "adapter")
    wider = zoo.load(saved("llama", tmp_path / "wider", hidden_size=64))
    with pytest.raises(CheckpointError, match=r"is for another base than Llama: it has `.*` of shape"):
        wider.load_adapter(folder)
    other = zoo.load(saved("bert", tmp_path / "other"))
    with pytest.raises(CheckpointError, match=r"is for another base than Bert: it holds `.*`, which is not"):
        other.load_adapter(folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": "me/mine"}))
    model = zoo.load(tmp_path / "base")
    model.origin = "you/yours@123"
    with pytest.raises(CheckpointError, match="another base than you/yours@123: it was trained on me/mine"):
        model.load_adapter(folder)
    (folder / "adapter_config.json").write_text(json.dumps({**config, "alpha_pattern": {"q_proj": 3}}))
    with pytest.raises(CheckpointError, match=re.escape("adapter_config.json must be {}, got {'q_proj': 3}")):
        zoo.load(tmp_path / "base").load_adapter(folder)
    with pytest.raises(CheckpointError, match=r"holds no adapter_config.json, so it is no adapter"):
        model.load_adapter(tmp_path / "base")


@pytest.mark.parametrize(("package", "extra"), [("peft", "peft"), ("bitsandbytes", "qlora")])
def test_what_is_not_installed_is_named(
    package: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, there = saved("llama", tmp_path), importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == package else there(name, *more)
    )
    with pytest.raises(ZooError, match=f"needs the extra `{extra}`\n.*pip install 'lightning-zoo.{extra}.'"):
        adapted(base, LoRA(quantization="nf4"))


@pytest.mark.parametrize(("name", "value"), [("r", 0), ("lora_dropout", 1.0), ("quantization", "int3")])
def test_choices_that_mean_nothing_are_refused(name: str, value: Any) -> None:
    with pytest.raises(SpecError, match=f"`{name}` must .* got `?{value}") as refusal:
        LoRA(**{name: value})
    assert refusal.value.at == name

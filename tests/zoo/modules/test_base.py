"""A module under a plain `lightning.Trainer`, from Python alone."""

import functools
import logging
import math
import random
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.testing import assert_close
from torch.utils.data import DataLoader

import zoo
from zoo.data import Text
from zoo.errors import CheckpointError, SpecError, ZooError
from zoo.heads.base import Batch
from zoo.modules import DecoderModule
from zoo.schedules import Constant, LinearWarmup, WarmupCosine
from zoo.specs import DecoderSpec, EncoderSpec, HubModel
from zoo.training import optimization

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`"),
]
FAST = functools.partial(torch.optim.AdamW, lr=0.01)


@pytest.fixture(autouse=True)
def quiet() -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "text.txt"
    draw, words = random.Random(0), ["the", "cat", "dog", "sat", "on", "mat", "ran", "to", "a", "red", "sun"]
    path.write_text("".join(" ".join(draw.choices(words, k=12)) + ".\n" for _ in range(80)))
    return path


def data_of(source: Path) -> Text:
    return Text(source=str(source), vocab_size=300, sequence_length=16, batch_size=4)


def module_of(family: str = "Llama", *, sizes: dict[str, Any] | None = None, **choices: Any) -> DecoderModule:
    torch.manual_seed(0)
    spec = getattr(zoo.decoders, family)
    backbone = spec(**{**spec.tiny, "vocab_size": 300, "num_hidden_layers": 1, **(sizes or {})})
    return DecoderModule(backbone=backbone, **{"optimizer": FAST, **choices})


def trainer_of(folder: Path, **choices: Any) -> L.Trainer:
    return L.Trainer(
        **{
            "default_root_dir": folder,
            "accelerator": "cpu",
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,
            "log_every_n_steps": 1,
            "max_steps": 6,
            **choices,
        }
    )


class Watch(Callback):
    """Notes losses, rates and gradient norms, step by step."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.rates: list[float] = []
        self.norms: list[float] = []
        self.largest: list[float] = []

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self.rates.append(optimizer.param_groups[0]["lr"])
        grads = [parameter.grad for parameter in pl_module.parameters()]
        self.norms.append(torch.stack([grad.norm() for grad in grads]).norm().item())
        self.largest.append(max(grad.abs().max().item() for grad in grads))

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *rest: Any) -> None:
        self.losses.append(outputs["loss"].item())


# Fit, validate, save, load, resume


@pytest.mark.parametrize("family", ["Llama", "TransformerLM"])
def test_a_model_learns_is_measured_saved_and_loaded(family: str, source: Path, tmp_path: Path) -> None:
    module, data = module_of(family), data_of(source)
    trainer = trainer_of(tmp_path, max_steps=30)
    trainer.fit(module, datamodule=data)
    (measures,) = trainer.validate(module, datamodule=data, verbose=False)
    assert measures.keys() == {"val/loss", "val/perplexity", "val/bits_per_byte"}
    assert measures["val/loss"] < 0.8 * math.log(300)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    loaded = zoo.load(tmp_path / "last.ckpt")
    for name, tensor in module.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    (again,) = trainer_of(tmp_path).validate(loaded, datamodule=data_of(source), verbose=False)
    assert again == measures
    assert loaded.predict(["the cat"]) == module.predict(["the cat"])


def test_validation_equals_the_loss_of_all_held_out_tokens(source: Path, tmp_path: Path) -> None:
    module, data = module_of(), data_of(source)
    trainer = trainer_of(tmp_path)
    (measures,) = trainer.validate(module, datamodule=data, verbose=False)
    rows = data.validation_rows
    assert rows is not None
    nats, tokens, num_bytes = 0.0, 0, 0
    for index in range(len(rows)):
        row = rows[index]
        output = module(row["input_ids"][None], labels=row["labels"][None])
        count = int((row["labels"][1:] != -100).sum())
        nats, tokens = nats + output.loss.item() * count, tokens + count
        num_bytes += int(row["num_bytes"])
    assert measures["val/loss"] == pytest.approx(nats / tokens, rel=1e-5)
    assert measures["val/bits_per_byte"] == pytest.approx(nats / math.log(2) / num_bytes, rel=1e-5)
    (tested,) = trainer.test(module, datamodule=data, verbose=False)
    assert tested == {name.replace("val/", "test/"): value for name, value in measures.items()}


def test_predictions_of_held_out_openings_are_in_order(source: Path, tmp_path: Path) -> None:
    module, data = module_of(), data_of(source)
    batches = trainer_of(tmp_path).predict(module, datamodule=data)
    prompts = [prompt for batch in data.predict_dataloader() for prompt in batch["prompts"]]
    assert batches is not None
    assert [text for batch in batches for text in batch] == module.predict(prompts)


class FixedBatches(L.LightningDataModule):
    """The same batches in the same order, each epoch."""

    def __init__(self, number: int = 8) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.rows = torch.randint(0, 300, (number, 16), generator=generator)

    def train_dataloader(self) -> "DataLoader[Batch]":
        return DataLoader(self.rows, batch_size=2, collate_fn=self.collate)  # type: ignore[arg-type]

    def collate(self, rows: list[Tensor]) -> Batch:
        ids = torch.stack(rows)
        return {"input_ids": ids, "labels": ids}


class Save(Callback):
    """Saves a checkpoint after the first epoch."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.current_epoch == 0:
            trainer.save_checkpoint(self.path)


def test_a_resumed_run_has_its_weights_moments_and_rate_again(tmp_path: Path) -> None:
    data, whole, resumed, path = FixedBatches(), Watch(), Watch(), tmp_path / "half.ckpt"
    data.rows[:] = data.rows[0].clone()  # a plain DataLoader does not say where it was
    trainer_of(tmp_path, max_steps=8, callbacks=[whole, Save(path)]).fit(module_of(), datamodule=data)
    torch.manual_seed(7)
    fresh = DecoderModule(backbone=module_of().spec, optimizer=FAST)
    trainer_of(tmp_path, max_steps=8, callbacks=[resumed]).fit(
        fresh, datamodule=data, ckpt_path=path, weights_only=True
    )
    assert len(whole.losses) == 8
    assert resumed.losses == whole.losses[4:]
    assert resumed.rates == whole.rates[4:]


def test_a_loaded_checkpoint_can_be_trained_on(source: Path, tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path)
    trainer.fit(module_of(lr_schedule=LinearWarmup(warmup_fraction=0.5)), datamodule=data_of(source))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    loaded, watch = zoo.load(tmp_path / "last.ckpt"), Watch()
    assert loaded.lr_schedule == LinearWarmup(warmup_fraction=0.5)
    assert optimization.to_plain(loaded.optimizer) == optimization.to_plain(FAST)
    trainer_of(tmp_path, max_steps=2, callbacks=[watch]).fit(loaded.train(), datamodule=data_of(source))
    assert watch.losses[0] < math.log(300)


def test_a_folder_of_the_hub_is_trained_on_with_its_own_tokenizer(source: Path, tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path)
    module = module_of()
    trainer.fit(module, datamodule=data_of(source))
    zoo.save(module, tmp_path / "model")
    tuned, watch = DecoderModule(backbone=HubModel(str(tmp_path / "model")), optimizer=FAST), Watch()
    trainer = trainer_of(tmp_path, max_steps=2, callbacks=[watch])
    trainer.fit(tuned, datamodule=Text(source=str(source), sequence_length=16, batch_size=4))
    assert watch.losses[0] < math.log(300)
    assert {parameter.dtype for parameter in tuned.parameters()} == {torch.float32}
    trainer.save_checkpoint(tmp_path / "tuned.ckpt")
    (tmp_path / "model").rename(tmp_path / "gone")  # the checkpoint stands alone
    loaded = zoo.load(tmp_path / "tuned.ckpt")
    assert loaded.predict(["the cat"]) == tuned.predict(["the cat"])
    assert loaded.spec == tuned.spec


def test_a_checkpoint_of_another_tokenizer_is_refused(source: Path, tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path)
    trainer.fit(module_of(), datamodule=data_of(source))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    other = tmp_path / "other.txt"
    other.write_text("entirely different words are here, again and again.\n" * 60)
    with pytest.raises(CheckpointError) as caught:
        trainer_of(tmp_path).fit(
            module_of(), datamodule=data_of(other), ckpt_path=tmp_path / "last.ckpt", weights_only=True
        )
    assert str(caught.value) == (
        "the checkpoint's tokenizer is not the one that the data was read with\n"
        "  use the data that it was trained on, or a checkpoint of this data"
    )


# The learning rate


@pytest.mark.parametrize("schedule", [None, LinearWarmup(warmup_fraction=0.3), Constant()])
def test_the_rate_rises_in_a_line_and_follows_its_schedule(schedule: Any, tmp_path: Path) -> None:
    watch = Watch()
    trainer = trainer_of(tmp_path, max_steps=20, callbacks=[watch])
    trainer.fit(module_of(lr_schedule=schedule), datamodule=FixedBatches())
    expected = []
    for step in range(1, 21):
        progress = step / 20
        warmup = 0.05 if schedule is None else 0.3
        gone = (progress - warmup) / (1 - warmup)
        if isinstance(schedule, Constant):
            expected.append(0.01)
        elif progress < warmup:
            expected.append(0.01 * progress / warmup)
        else:
            shape = (1 + math.cos(math.pi * gone)) / 2 if schedule is None else 1 - gone
            expected.append(0.01 * shape)
    assert watch.rates == pytest.approx(expected, abs=1e-12)


def test_epochs_and_accumulated_batches_tell_the_length_of_a_run(tmp_path: Path) -> None:
    watch = Watch()
    trainer = trainer_of(tmp_path, max_steps=-1, max_epochs=3, accumulate_grad_batches=2, callbacks=[watch])
    trainer.fit(module_of(lr_schedule=WarmupCosine(warmup_fraction=0.5)), datamodule=FixedBatches())
    assert len(watch.rates) == 6
    assert watch.rates[2] == pytest.approx(0.01)
    assert watch.rates[-1] == pytest.approx(0)


def test_an_endless_run_needs_a_constant_rate(tmp_path: Path) -> None:
    endless: dict[str, Any] = {"max_steps": -1, "max_epochs": -1, "max_time": {"seconds": 0}}
    with pytest.raises(ZooError) as caught:
        trainer_of(tmp_path, **endless).fit(module_of(), datamodule=FixedBatches())
    assert str(caught.value) == (
        "a learning-rate schedule needs the length of the run\n"
        "  at    trainer.max_steps\n"
        "  set trainer.max_steps or trainer.max_epochs, or lr_schedule: zoo.schedules.Constant"
    )
    watch = Watch()
    trainer_of(tmp_path, **endless, callbacks=[watch]).fit(
        module_of(lr_schedule=Constant()), datamodule=FixedBatches()
    )
    assert set(watch.rates) <= {0.01}


# Gradients


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("fused", [True, False])
def test_the_norm_of_gradients_is_clipped(precision: Any, fused: bool, tmp_path: Path) -> None:
    watch = Watch()
    optimizer = functools.partial(torch.optim.AdamW, lr=0.01, fused=fused)
    trainer = trainer_of(tmp_path, precision=precision, gradient_clip_val=0.05, callbacks=[After(watch)])
    trainer.fit(module_of(optimizer=optimizer), datamodule=FixedBatches())
    assert len(watch.norms) == 6
    assert max(watch.norms) <= 0.05 * 1.001
    assert max(watch.norms) > 0.049


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_values_of_gradients_are_clipped(precision: Any, tmp_path: Path) -> None:
    watch = Watch()
    optimizer = functools.partial(torch.optim.AdamW, lr=0.01, fused=True)
    trainer = trainer_of(
        tmp_path,
        precision=precision,
        gradient_clip_val=1e-3,
        gradient_clip_algorithm="value",
        callbacks=[After(watch)],
    )
    trainer.fit(module_of(optimizer=optimizer), datamodule=FixedBatches())
    assert max(watch.largest) == pytest.approx(1e-3)


class After(Callback):
    """Lets a watch look where the optimizer has just stepped, when gradients were clipped."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch

    def on_before_zero_grad(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        if pl_module.backbone.embedding.weight.grad is not None:
            self.watch.on_before_optimizer_step(trainer, pl_module, optimizer)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.watch.on_before_optimizer_step(trainer, pl_module, trainer.optimizers[0])


def test_without_clipping_gradients_stay_as_they_are(tmp_path: Path) -> None:
    losses = []
    for value in (None, 1e9):
        watch = Watch()
        trainer_of(tmp_path, precision="bf16-mixed", gradient_clip_val=value, callbacks=[watch]).fit(
            module_of(), datamodule=FixedBatches()
        )
        losses.append(watch.losses)
    assert losses[0] == losses[1]


def test_bf16_mixed_learns_nearly_as_float32_does(tmp_path: Path) -> None:
    losses = {}
    for precision in ("32-true", "bf16-mixed"):
        watch = Watch()
        trainer_of(tmp_path, precision=precision, max_steps=12, callbacks=[watch]).fit(
            module_of(), datamodule=FixedBatches()
        )
        losses[precision] = watch.losses
    assert_close(losses["bf16-mixed"], losses["32-true"], rtol=0.02, atol=0)
    assert losses["32-true"][-1] < losses["32-true"][0]


def test_accumulated_batches_learn_what_one_large_batch_would(tmp_path: Path) -> None:
    modules = []
    for accumulated, batch_size in ((2, 2), (1, 4)):
        data = FixedBatches()
        loader = DataLoader(data.rows, batch_size=batch_size, collate_fn=data.collate)  # type: ignore[arg-type]
        module = module_of(optimizer=functools.partial(torch.optim.SGD, lr=0.1))
        trainer_of(tmp_path, max_steps=2, accumulate_grad_batches=accumulated).fit(module, loader)
        modules.append(module)
    for one, other in zip(modules[0].parameters(), modules[1].parameters(), strict=True):
        assert_close(one, other, rtol=1e-5, atol=1e-6)


# Building


def test_a_module_is_light_until_it_is_asked_for_its_networks() -> None:
    module = module_of(sizes={"hidden_size": 2**20, "intermediate_size": 2**22, "num_hidden_layers": 80})
    assert not module.is_built
    assert not list(module.parameters())


def test_networks_are_built_once() -> None:
    module = module_of()
    module.configure_model()
    before = module.backbone
    module.configure_model()
    assert module.backbone is before


def test_every_parameter_is_in_memory_and_learns(tmp_path: Path) -> None:
    module = module_of()
    module.build()
    before = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    trainer_of(tmp_path, max_steps=3).fit(module, datamodule=FixedBatches())
    for name, parameter in module.named_parameters():
        assert not torch.equal(parameter, before[name]), name


def test_a_tied_model_learns_one_weight(tmp_path: Path) -> None:
    module = module_of(sizes={"tie_word_embeddings": True})
    trainer = trainer_of(tmp_path)
    trainer.fit(module, datamodule=FixedBatches())
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    for each in (module, zoo.load(tmp_path / "last.ckpt")):
        assert each.head().projection.weight is each.backbone.embedding.weight
    ids = torch.randint(0, 300, (1, 5))
    assert_close(zoo.load(tmp_path / "last.ckpt")(ids).logits, module.eval()(ids).logits, rtol=0, atol=0)


class Reader(EncoderSpec):
    """An encoder that no decoder's module trains."""

    def build(self) -> torch.nn.Module:
        raise NotImplementedError


def test_a_backbone_of_another_shape_is_refused() -> None:
    module = DecoderModule(backbone=Reader(vocab_size=5, hidden_size=4, max_position_embeddings=8))  # type: ignore[arg-type]
    with pytest.raises(SpecError) as caught:
        module.build()
    path = f"{Reader.__module__}.Reader"
    assert caught.value.message == f"zoo.modules.DecoderModule trains a decoder, {path} is an encoder"


def test_specs_and_their_plain_values_make_the_same_module() -> None:
    module = module_of(lr_schedule=LinearWarmup(), optimizer=functools.partial(torch.optim.SGD, lr=0.1))
    plain = dict(module.hparams)
    again = DecoderModule(**plain)
    assert isinstance(again.spec, DecoderSpec)
    assert again.spec == module.spec
    assert again.head_specs == module.head_specs
    assert again.lr_schedule == module.lr_schedule
    assert dict(again.hparams) == plain

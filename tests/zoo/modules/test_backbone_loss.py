"""A backbone's own loss, by a family that nobody knows: it is added to its head's, and measured by none."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils.data import DataLoader

import zoo
from zoo.heads.base import Batch, Loss
from zoo.layers import Mask, WithLoss
from zoo.modules import DecoderModule
from zoo.specs import DecoderSpec, HubHead


@dataclass(frozen=True, kw_only=True)
class Heavy(DecoderSpec):
    """Embeddings alone, whose size costs."""

    vocab_size: int = 20
    hidden_size: int = 6
    num_hidden_layers: int = 1
    max_position_embeddings: int = 50
    heads = {  # noqa: RUF012
        "SequenceClassification": HubHead(
            "HeavyForLabels", {"score.{}": "projection.{}"}, adds_backbone_loss=False
        )
    }

    def build(self) -> nn.Module:
        return HeavyDecoder(self)


class HeavyDecoder(nn.Module):
    def __init__(self, spec: Heavy) -> None:
        super().__init__()
        self.embedding = nn.Embedding(spec.vocab_size, spec.hidden_size)

    def forward(self, input_ids: Tensor, mask: Mask, cache: Any = None) -> Tensor | WithLoss:
        x = self.embedding(input_ids)
        return x if cache is not None else WithLoss(x, x.square().mean())


LABELLED = [[7, 2], [1, 0], [4, 4]]


def batches() -> list[Batch]:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 20, (len(LABELLED), 2, 8), generator=generator)
    labels = ids.where(torch.arange(7, -1, -1) < torch.tensor(LABELLED)[..., None], -100)
    return [{"input_ids": one, "labels": other} for one, other in zip(ids, labels, strict=True)]


def module(**choices: Any) -> DecoderModule:
    torch.manual_seed(0)
    sgd = functools.partial(torch.optim.SGD, lr=0.0)
    made = DecoderModule(backbone=Heavy(), optimizer=sgd, lr_schedule=zoo.schedules.Constant(), **choices)
    made.build()
    return made


def test_it_is_added_to_the_mean_of_the_head() -> None:
    made, batch = module(), batches()[0]
    hidden = made.hidden_states(batch)
    alone = made.head().loss(hidden, batch).mean
    assert_close(made(**batch).loss, alone + hidden.square().mean())
    assert_close(made.loss(batch).mean, alone + hidden.square().mean())


def test_a_head_whose_loss_stands_alone_on_the_hub_is_without_it() -> None:
    made = module(head=zoo.heads.SequenceClassification(labels=["a", "b"]))
    batch = {"input_ids": batches()[0]["input_ids"], "labels": torch.tensor([0, 1])}
    assert_close(made(**batch).loss, made.head().loss(made.hidden_states(batch), batch).mean)


@pytest.mark.parametrize(("chunk_size", "added"), [(None, True), (1, False)])
def test_vectors_that_are_made_in_chunks_are_without_it(chunk_size: int | None, added: bool) -> None:
    made = module(head=zoo.heads.Embedding(chunk_size=chunk_size))
    batch = {"input_ids": batches()[0]["input_ids"], "labels": torch.tensor([0])}
    assert (made.loss(batch).added is not None) == added


def test_a_batch_without_a_label_costs_nothing() -> None:
    assert Loss(torch.tensor(0.0), 0, added=torch.tensor(3.0)).mean == 0
    assert Loss(torch.tensor(0.0), torch.tensor(0), added=torch.tensor(3.0)).mean == 0


def trainer(folder: Path, **choices: Any) -> L.Trainer:
    return L.Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder, **choices,
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers")
@pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`")
def test_over_several_batches_it_weighs_as_their_labels_do(tmp_path: Path) -> None:
    made = module()
    kept: list[dict[str, Tensor]] = []
    made.on_before_optimizer_step = lambda optimizer: kept.append(  # type: ignore[method-assign]
        {name: part.grad.clone() for name, part in made.named_parameters() if part.grad is not None}
    )
    rows = DataLoader(batches(), batch_size=None)  # type: ignore[arg-type]
    trainer(tmp_path, accumulate_grad_batches=3, limit_val_batches=0).fit(made, rows)
    expected = module()
    losses = [expected.loss(batch) for batch in batches()]
    counts = [int(loss.num_labels) for loss in losses]
    total = sum((loss.mean * count for loss, count in zip(losses, counts, strict=True)), torch.zeros(()))
    (total / sum(counts)).backward()
    assert len(kept) == 1
    for name, parameter in expected.named_parameters():
        assert_close(kept[0][name], parameter.grad, msg=name)


@pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers")
def test_measures_know_nothing_of_it(tmp_path: Path) -> None:
    made = module()
    rows = DataLoader(batches()[:1], batch_size=None)  # type: ignore[arg-type]
    (found,) = trainer(tmp_path).validate(made, rows, verbose=False)
    alone = made.head().loss(made.hidden_states(batches()[0]), batches()[0]).mean
    assert found["val/loss"] == pytest.approx(alone.item(), rel=1e-5)


def test_writing_needs_hidden_states_alone() -> None:
    assert module().generate(torch.tensor([[3, 4]]), max_new_tokens=3)

"""Telling which tokens a smaller encoder replaced."""

from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch.testing import assert_close

import zoo
from zoo.errors import SpecError
from zoo.heads import ReplacedTokenDetection
from zoo.heads.base import Batch
from zoo.layers import IGNORED

SIZES: dict[str, Any] = {**zoo.encoders.Electra.tiny, "hidden_dropout_prob": 0.0}


def generator(**choices: Any) -> Any:
    return zoo.encoders.Electra(**{**SIZES, "hidden_size": 16, "num_hidden_layers": 1, **choices})


def module(**choices: Any) -> Any:
    made = zoo.modules.EncoderModule(
        zoo.encoders.Electra(**SIZES), ReplacedTokenDetection(**{"generator": generator(), **choices})
    )
    made.build()
    return made


def hidden_batch(seed: int = 0) -> Batch:
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, 96, (4, 20), generator=draw)
    hidden = torch.rand(4, 20, generator=draw) < 0.3
    mask = torch.ones_like(ids)
    mask[1, 12:] = 0
    hidden &= mask.bool()
    return {
        "input_ids": ids.masked_fill(hidden, 4),
        "attention_mask": mask,
        "labels": ids.masked_fill(~hidden, IGNORED),
    }


def test_hidden_tokens_are_replaced_by_what_the_generator_draws_and_no_others() -> None:
    batch, head = hidden_batch(), module().head().eval()
    read = head.prepare(batch)
    is_hidden = batch["labels"] != IGNORED
    assert torch.equal(read["input_ids"][~is_hidden], batch["input_ids"][~is_hidden])
    assert torch.equal(read["replaced"], is_hidden & (read["input_ids"] != batch["labels"]))
    assert read["replaced"].any()
    assert read["guessing"].num_labels == int(is_hidden.sum())


def test_a_token_that_is_guessed_right_counts_as_not_replaced() -> None:
    batch, head = hidden_batch(), module().head().eval()
    drawn = head.prepare(batch)["input_ids"]
    right = {**batch, "labels": drawn.masked_fill(batch["labels"] == IGNORED, IGNORED)}
    assert not head.prepare(right)["replaced"].any()


def test_evaluation_draws_the_same_each_time_and_training_does_not() -> None:
    batch, head = hidden_batch(), module().head()
    head.eval()
    assert torch.equal(head.prepare(batch)["input_ids"], head.prepare(batch)["input_ids"])
    state = torch.get_rng_state()
    head.prepare(batch)
    assert torch.equal(torch.get_rng_state(), state)
    head.train()
    assert not torch.equal(head.prepare(batch)["input_ids"], head.prepare(batch)["input_ids"])


def test_the_loss_is_that_of_guessing_and_fifty_times_that_of_telling() -> None:
    made, batch = module().eval(), hidden_batch()
    head = made.head()
    read = head.prepare(batch)
    loss = head.loss(made.hidden_states(read), read)
    real = batch["attention_mask"].bool()
    logits = head(made.hidden_states(read), read)[real]
    telling = torch.nn.functional.binary_cross_entropy_with_logits(logits, read["replaced"][real].float())
    assert_close(loss.mean, 50 * telling + read["guessing"].mean)


def test_both_encoders_learn_and_share_what_embeds_tokens() -> None:
    made = module().train()
    read = made.head().prepare(hidden_batch())
    made.head().loss(made.hidden_states(read), read).mean.backward()
    assert all(part.grad is not None for part in made.parameters())
    inner = made.head().generator.backbone
    assert inner.embedding.weight is made.backbone.embedding.weight
    apart = module(share_embeddings=False)
    assert apart.head().generator.backbone.embedding.weight is not apart.backbone.embedding.weight


def test_files_hold_the_detector_alone_and_checkpoints_both(tmp_path: Path) -> None:
    made = module().eval()
    zoo.save(made, tmp_path / "model")
    assert not [name for name in made.hub_tensors() if "generator" in name]
    again = zoo.load(tmp_path / "model")
    assert again.head().generator is None
    ids = hidden_batch()["input_ids"]
    assert torch.equal(again(ids).logits, made(ids).logits)
    assert [name for name in made.state_dict() if ".generator." in name]


def test_a_run_from_files_starts_with_a_fresh_generator(tmp_path: Path) -> None:
    zoo.save(module(), tmp_path / "model")
    spec = ReplacedTokenDetection(generator=generator())
    made = zoo.modules.EncoderModule(zoo.specs.HubModel(str(tmp_path / "model")), spec)
    made.build(trains=True)
    inner = made.head().generator
    assert all(part.isfinite().all() and part.abs().max() < 2 for part in inner.parameters())
    assert inner.head.projection.weight is inner.backbone.embedding.weight is made.backbone.embedding.weight


def test_it_learns_on_texts(tmp_path: Path) -> None:
    texts = tmp_path / "texts"
    texts.mkdir()
    for number in range(30):
        (texts / f"{number}.txt").write_text(f"the cat number {number} sat on the mat and ran.\n" * 3)
    data = zoo.data.Text(
        str(texts),
        tokenizer="wordpiece",
        vocab_size=96,
        sequence_length=16,
        validation_fraction=0.3,
        batch_size=8,
    )
    made = zoo.modules.EncoderModule(
        zoo.encoders.Electra(**SIZES),
        ReplacedTokenDetection(generator=generator()),
        optimizer=partial(torch.optim.AdamW, lr=1e-2),
    )
    trainer = L.Trainer(max_steps=30, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(made, data)
    (measured,) = trainer.validate(made, data, verbose=False)
    assert measured.keys() == {"val/loss", "val/generator_loss", "val/accuracy", "val/recall"}
    assert measured["val/generator_loss"] < 4.0  # of 96 tokens drawn blindly 4.56
    (said,) = made.predict(["the cat sat on the mat"])
    assert said.keys() == {"tokens", "positions", "scores"}


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (
            {"generator": {"vocab_size": 80}},
            "the generator must read the backbone's vocabulary, got 80 ids and 96",
        ),
        (
            {"generator": {"embedding_size": 8}},
            "`share_embeddings` needs a generator whose embeddings are as wide as the backbone's, "
            "got 8 and 24",
        ),
    ],
)
def test_encoders_that_do_not_fit_are_refused(head: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        module(generator=generator(**head["generator"]))
    assert caught.value.message == message


def test_without_a_generator_hidden_tokens_are_no_labels() -> None:
    with pytest.raises(SpecError) as caught:
        module(generator=None)(**hidden_batch())
    assert (
        caught.value.message == "zoo.heads.ReplacedTokenDetection has no generator to replace hidden tokens"
    )

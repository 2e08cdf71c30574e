"""A decoder learns from what it writes: the formulas on fixed numbers, what a step sees, and short sums."""

import json
import random
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch.testing import assert_close

import zoo
from zoo.data import Conversations
from zoo.errors import SpecError
from zoo.layers import IGNORED
from zoo.modules import DecoderModule, GRPOModule
from zoo.modules.grpo import clipped_loss, exact_match, relative


def sums(path: Path, number: int = 400, largest: int = 9) -> str:
    draw = random.Random(0)
    rows = []
    for _ in range(number):
        one, two = draw.randint(0, largest), draw.randint(0, largest)
        rows.append({"prompt": f"{one}+{two}", "answer": str(one + two)})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def data_of(source: str, **choices: Any) -> Conversations:
    return Conversations(source, **{"vocab_size": 280, "max_length": 64, "batch_size": 8, **choices})


def backbone(**sizes: Any) -> Any:
    return zoo.decoders.Llama(**{**zoo.decoders.Llama.tiny, "vocab_size": 280, **sizes})


def trainer_for(folder: Path, steps: int, **choices: Any) -> L.Trainer:
    return L.Trainer(
        accelerator="cpu", max_steps=steps, logger=False, enable_checkpointing=False, num_sanity_val_steps=0,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder, **choices,
    )  # fmt: skip


def test_an_answer_is_worth_what_it_is_better_than_its_group() -> None:
    found = relative(torch.tensor([[1.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0]]))
    deviation = (1 / 3) ** 0.5  # of 1, 0, 0, 1 about 1/2, as a sample's
    assert_close(found[0], torch.tensor([0.5, -0.5, -0.5, 0.5]) / (deviation + 1e-4))
    assert_close(found[1], torch.zeros(4))


def test_a_token_that_became_much_likelier_counts_no_more() -> None:
    before = torch.full((2, 3), 0.2).log()
    told = torch.tensor([[0.2, 0.22, 0.4], [0.2, 0.22, 0.1]]).log().requires_grad_()
    found = clipped_loss(told, before, torch.tensor([2.0, -1.0]), clip=0.2)
    assert_close(found, torch.tensor([[-2.0, -2.2, -2.4], [1.0, 1.1, 0.8]]))
    (gradient,) = torch.autograd.grad(found.sum(), told)
    assert_close(gradient, torch.tensor([[-2.0, -2.2, 0.0], [1.0, 1.1, 0.0]]))


def test_a_step_sees_each_answer_with_its_worth(tmp_path: Path) -> None:
    seen: list[Any] = []

    def is_short(prompt: Any, written: str, answer: str) -> float:
        seen.append((prompt, written, answer))
        return -float(len(written))

    class Watched(GRPOModule):
        def loss(self, batch: Any) -> Any:
            if "advantages" in batch:
                self.batch = batch
            return super().loss(batch)

    module = Watched(backbone(), rewards=[is_short], group_size=4, max_new_tokens=6)
    trainer_for(tmp_path, 1, limit_val_batches=0).fit(
        module, datamodule=data_of(sums(tmp_path / "sums.jsonl"))
    )
    batch, tokenizer = module.batch, module.require_tokenizer()
    assert batch["input_ids"].shape[0] == len(seen) == 8 * 4
    for (prompt, written, _), ids, labels in zip(seen, batch["input_ids"], batch["labels"], strict=True):
        learnt = labels[labels != IGNORED]
        asked = tokenizer.encode_chat(prompt, add_generation_prompt=True)
        assert ids[: len(asked)].tolist() == asked
        assert torch.equal(ids[len(asked) :][: len(learnt)], learnt)
        assert module.new_text(asked, learnt.tolist()) == written
    worth = torch.tensor([-float(len(written)) for _, written, _ in seen]).view(8, 4)
    assert_close(batch["advantages"], relative(worth).flatten())


def test_batches_without_prompts_are_refused(tmp_path: Path) -> None:
    source = tmp_path / "text.txt"
    source.write_text("the cat sat on the mat\n" * 200)
    data = zoo.data.Text(str(source), vocab_size=280, sequence_length=16, batch_size=2)
    with pytest.raises(SpecError, match="writes to prompts, and a batch has none"):
        trainer_for(tmp_path, 1, limit_val_batches=0).fit(GRPOModule(backbone()), datamodule=data)


@pytest.mark.parametrize("choice", [{"group_size": 1}, {"temperature": 0.0}])
def test_groups_that_tell_nothing_are_refused(choice: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=f"`{next(iter(choice))}` must be"):
        GRPOModule(backbone(), **choice)


@pytest.mark.slow
def test_a_model_learns_sums_from_whether_they_are_right(tmp_path: Path) -> None:
    """After a few right answers it adds seldom; rewards alone make it add far more often."""
    L.seed_everything(0)
    source = sums(tmp_path / "sums.jsonl", largest=4)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "initializer_range": 0.05}
    first = DecoderModule(backbone(**sizes), optimizer=lambda p: torch.optim.AdamW(p, lr=2e-3))
    trainer_for(tmp_path, 150, limit_val_batches=0).fit(first, datamodule=data_of(source))
    folder = zoo.save(first, tmp_path / "first")
    module = GRPOModule(
        zoo.specs.HubModel(str(folder)), group_size=8, max_new_tokens=4,
        optimizer=lambda p: torch.optim.AdamW(p, lr=1e-3), lr_schedule=zoo.schedules.Constant(),
    )  # fmt: skip

    def drawn() -> float:
        """The share of right answers among those that are drawn."""
        data = data_of(source)
        data.setup("fit")
        examples = data.examples()[0][:100]
        prompts = [example.messages[:1] for example in examples]
        texts = module.generate(prompts, max_new_tokens=4, temperature=1.0, seed=1)
        right = (example.messages[1]["content"] for example in examples)
        return sum(map(exact_match, prompts, texts, right)) / len(texts)

    module.build()
    before = drawn()
    trainer_for(tmp_path, 100, limit_val_batches=0).fit(module, datamodule=data_of(source))
    after = drawn()
    print(f"right before {before:.2f}, after {after:.2f}")
    assert before < 0.5
    assert after > before + 0.3

"""Group relative policy optimization: a decoder writes answers, and learns from how they are judged.

Shao et al., 2024: https://arxiv.org/abs/2402.03300. Each group of answers is learnt from once, when it is
written; and there is no reference, so that nothing but the learning rate holds the model back.

Another way to learn from rewards is a subclass: `rollouts` says what is written and what it is worth, `loss`
what is lost on it. Optimisation, checkpoints and measures are those of every module.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from zoo.errors import SpecError
from zoo.heads.base import Batch, Loss
from zoo.heads.causal_lm import CausalLM, CausalLMHead
from zoo.layers import IGNORED
from zoo.modules.calls import Call
from zoo.modules.decoder import DecoderModule
from zoo.specs import DecoderSpec, HubModel, ScheduleSpec

Reward = Callable[[Any, str, str], float]
"""What an answer is worth: given the prompt, what was written, and the right answer."""


def exact_match(prompt: Any, written: str, answer: str) -> float:
    """One for the right answer, zero for another."""
    return float(written.strip() == answer.strip())


def relative(rewards_PG: Tensor) -> Tensor:
    """How much better each answer is than its group, in standard deviations of the group."""
    gaps_PG = rewards_PG - rewards_PG.mean(-1, keepdim=True)
    return gaps_PG / (rewards_PG.std(-1, keepdim=True) + 1e-4)


def clipped_loss(told_BT: Tensor, before_BT: Tensor, advantages_B: Tensor, clip: float) -> Tensor:
    """What is lost on each token: its advantage, times how much likelier it is than when it was written.

    Schulman et al., 2017, section 3: https://arxiv.org/abs/1707.06347

    Args:
        told_BT: Log-probabilities of tokens now.
        before_BT: The same when they were written.
        advantages_B: What each text is worth.
        clip: Beyond this share, a token that became likelier counts no more.
    """
    ratios_BT = torch.exp(told_BT - before_BT)
    bounded_BT = ratios_BT.clamp(1 - clip, 1 + clip)
    return -torch.minimum(ratios_BT * advantages_B[:, None], bounded_BT * advantages_B[:, None])


class GRPOModule(DecoderModule):
    """A decoder that learns from rewards for what it writes.

    It is trained on the prompts of `zoo.data.Conversations`, whose last answers are the right ones.
    Validation also logs `val/reward`, the mean over answers that are written greedily.

    Args:
        backbone: A Hub id, a folder in the Hub's format, or a family's sizes.
        rewards: Functions of a prompt, what was written and the right answer, by their import paths; their
            sum counts. By default whether it is the right answer.
        group_size: Answers to each prompt.
        max_new_tokens: Length of an answer.
        temperature: At which answers are drawn.
        optimizer: By default AdamW at 3e-4; norms and biases never decay.
        lr_schedule: By default a linear warm-up, then a cosine.
        head: The language model's, which is the default.

    Raises:
        SpecError: A group is of one answer, or answers are not drawn.
    """

    expected_failures: ClassVar[Mapping[str, str]] = {
        "a_checkpoint_stands_alone": "it learns from prompts, and is given ids"
    }

    def __init__(
        self,
        backbone: HubModel | DecoderSpec,
        rewards: Sequence[Reward] = (exact_match,),
        group_size: int = 8,
        max_new_tokens: int = 64,
        temperature: float = 1.0,
        optimizer: OptimizerCallable | None = None,
        lr_schedule: ScheduleSpec | None = None,
        head: CausalLM | None = None,
    ) -> None:
        super().__init__(backbone, head, None, optimizer, lr_schedule)
        if group_size < 2:
            raise SpecError(f"`group_size` must be at least 2, got {group_size}", at="model.group_size")
        if temperature <= 0:
            raise SpecError(f"`temperature` must be above 0, got {temperature}", at="model.temperature")
        self.rewards, self.group_size = list(rewards), group_size
        self.max_new_tokens, self.temperature = max_new_tokens, temperature

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Writes answers to a batch of prompts, and learns from them."""
        return super().training_step(self.rollouts(batch), batch_idx)

    def rollouts(self, batch: Batch) -> Batch:
        """A group of answers to each prompt, what is to be learnt of them, and what they are worth."""
        if "prompts" not in batch:
            raise SpecError(
                "zoo.modules.GRPOModule writes to prompts, and a batch has none",
                at="data",
                hint="data that has: zoo.data.Conversations",
            )
        call = Call.of(
            self, batch["prompts"], max_new_tokens=self.max_new_tokens, temperature=self.temperature,
            num_return_sequences=self.group_size, top_k=0, top_p=1.0,
        )  # fmt: skip
        groups = [group for _, group in sorted(call.finished(as_text=False))]
        written = [new for group in groups for new in group]
        texts = [self.new_text(prompt, new) for prompt, new in zip(call.prompts, written, strict=True)]
        numbers = [number for number in range(len(groups)) for _ in range(self.group_size)]
        rewards_PG = self.judged(batch, texts, numbers).view(-1, self.group_size)
        self.log("train/reward", rewards_PG.mean(), prog_bar=True, batch_size=len(groups))
        pairs, filled = list(zip(call.prompts, written, strict=True)), self.require_tokenizer().filled
        learnt = {
            "input_ids": filled([[*prompt, *new] for prompt, new in pairs], 0),
            "attention_mask": filled([[1] * len(prompt + new) for prompt, new in pairs], 0),
            "labels": filled([[*[IGNORED] * len(prompt), *new] for prompt, new in pairs], IGNORED),
        }
        learnt = {name: rows.to(self.device) for name, rows in learnt.items()}
        return {**learnt, "advantages": relative(rewards_PG).flatten()}

    def judged(self, batch: Batch, texts: Sequence[str], prompts: Sequence[int]) -> Tensor:
        """What texts are worth, each written to the prompt of this number."""
        worth = [
            sum(reward(batch["prompts"][number], text, batch["answers"][number]) for reward in self.rewards)
            for text, number in zip(texts, prompts, strict=True)
        ]
        return torch.tensor(worth, dtype=torch.float32, device=self.device)

    def loss(self, batch: Batch) -> Loss:
        """The loss of answers that are judged; of a batch of right answers, the language model's."""
        if "advantages" not in batch:
            return super().loss(batch)
        head = self.head()
        assert isinstance(head, CausalLMHead)
        told_BT = head.log_probs(self.hidden_states(batch), batch["labels"])
        is_learnt_BT = batch["labels"][:, 1:] != IGNORED
        lost_BT = clipped_loss(told_BT, told_BT.detach(), batch["advantages"], clip=0.2)
        return Loss(lost_BT[is_learnt_BT].sum(), is_learnt_BT.sum())

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Counts one batch, and judges what is written to its prompts."""
        texts = self.generate(batch["prompts"], max_new_tokens=self.max_new_tokens, temperature=0.0)
        reward = self.judged(batch, texts, range(len(texts))).mean()
        self.log("val/reward", reward, on_epoch=True, batch_size=len(texts), prog_bar=True, sync_dist=True)
        return super().validation_step(batch, batch_idx)

"""Batches of random ids, as proofs of equality read them."""

from collections.abc import Mapping
from typing import Any

import torch

from zoo.heads.base import Batch
from zoo.layers import IGNORED
from zoo.testing.parity import padded_batch

_LABELS = {
    "single_label_classification": torch.tensor([2, 0, 1]),
    "multi_label_classification": torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]),
    "regression": torch.tensor([0.5, -2.0, 3.0]),
}


def batch_for(head: str, sizes: Mapping[str, Any], *, seed: int = 0) -> Batch:
    """A padded batch with the labels that a head takes, by the name of its class.

    Args:
        head: One of those that are told something else than the tokens themselves, or any other.
        sizes: `vocab_size`, and the ids of what stands for padding and the end of a text, if any;
            config.json's `problem_type`.
        seed: Of its ids.
    """
    batch = padded_batch(sizes["vocab_size"], seed=seed)
    if head == "ReplacedTokenDetection":
        batch["labels"] = (batch["input_ids"] % 3 == 0).long()
    if head == "TokenClassification":
        batch["labels"] = batch["labels"].where(batch["labels"] == IGNORED, batch["labels"] % 3)
    if head == "ExtractiveQA":
        batch["labels"] = torch.tensor([[2, 5], [0, 0], [1, 2]])
        batch["attention_mask"] = torch.ones_like(batch["input_ids"])  # transformers' loss counts padding
    if head == "MultipleChoice":
        batch["labels"], batch["num_choices"] = torch.tensor([1]), torch.tensor([3])
    if head == "Seq2SeqLM":
        batch["labels"] = batch["labels"][:, :9].roll(1, 0)
    if head != "SequenceClassification":
        return batch
    batch["labels"] = _LABELS[sizes.get("problem_type", "single_label_classification")].roll(seed, 0)
    eos, pad = sizes.get("eos_token_id"), sizes.get("pad_token_id")
    if pad is not None:
        batch["input_ids"] = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, pad)
    if eos is not None:
        batch["input_ids"][torch.arange(3), batch["attention_mask"].sum(-1) - 1] = eos
    return batch


def padded_on_the_left(batch: Batch) -> Batch:
    """The same texts backwards, so that padding stands before them; a text's first token is not told."""
    turned = {name: part.flip(-1) if part.ndim > 1 else part for name, part in batch.items()}
    if turned["labels"].ndim > 1 and turned["labels"].shape != turned["input_ids"].shape:
        turned["labels"] = turned["input_ids"].shape[-1] - 1 - turned["labels"]  # places of tokens
    elif turned["labels"].ndim > 1:
        firsts = turned["attention_mask"].cumsum(-1) == 1
        turned["labels"] = turned["labels"].masked_fill(firsts, IGNORED)
    return turned

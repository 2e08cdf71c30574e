"""Questions answered by pieces of the passages that an index finds for them."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch

from zoo.errors import ZooError
from zoo.heads.extractive_qa import ExtractiveQAHead
from zoo.retrieval.index import Index, Passage

if TYPE_CHECKING:
    from zoo.modules.base import ZooModule


def answer(reader: "ZooModule", index: Index, questions: Sequence[str], k: int = 5) -> list[dict[str, Any]]:
    """The best answer to each question among those of the nearest passages, as DrQA finds it.

    Chen et al., 2017: https://arxiv.org/abs/1704.00051

    Args:
        reader: A model under `zoo.heads.ExtractiveQA`.
        index: Where passages are searched.
        questions: As many as there are.
        k: Passages that are read for each.

    Returns:
        Of each `question`, `answer`, `score` (of its first and last token, in logits); the `passage` that it
        stands in, as `id`, `text`, `score`, `start` and `end` in characters; `passages`, all ids that were
        read.

    Raises:
        ZooError: The reader has another head, or no tokenizer.
    """
    if reader.tokenizer is None or not isinstance(reader.head(), ExtractiveQAHead):
        raise ZooError(
            "a reader has a tokenizer and the head zoo.heads.ExtractiveQA",
            hint="train one: finetune/bert-squad",
        )
    found = index.search(questions, k)
    return [_answer(reader, *pair) for pair in zip(questions, found, strict=True)]


@torch.inference_mode()
def _answer(reader: "ZooModule", question: str, passages: list[Passage]) -> dict[str, Any]:
    head, tokenizer = reader.head(), reader.tokenizer
    assert isinstance(head, ExtractiveQAHead)
    assert tokenizer is not None
    batch = reader.encoded([(question, passage.text) for passage in passages], tokenizer)
    # Scores, not probabilities: only these of several passages can be compared.
    every = head.best(head(reader.hidden_states(batch), batch).float(), batch)
    best, passage = max(
        ((answers[0], passage) for answers, passage in zip(every, passages, strict=True)),
        key=lambda pair: pair[0].score,
    )
    return {
        "question": question,
        "answer": passage.text[best.start : best.end],
        "score": best.score,
        "passage": {**asdict(passage), "start": best.start, "end": best.end},
        "passages": [one.id for one in passages],
    }

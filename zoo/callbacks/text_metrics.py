"""How near what a model writes is to what is right: BLEU, chrF, ROUGE."""

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any, Literal

import lightning as L
from lightning.pytorch.callbacks import Callback

from zoo.data.base import ZooData, require_least
from zoo.errors import SpecError, did_you_mean
from zoo.modules.generating import GeneratingModule

Metric = Literal["bleu", "chrf", "exact_match", "rouge"]
EXTRA = "text-metrics"

Measured = dict[str, float]


def bleu(written: Sequence[str], right: Sequence[str]) -> Measured:
    """Corpus BLEU of sacrebleu, from 0 to 100 (Post, 2018: https://arxiv.org/abs/1804.08771)."""
    from sacrebleu import corpus_bleu

    return {"bleu": corpus_bleu(list(written), [list(right)]).score}


def chrf(written: Sequence[str], right: Sequence[str]) -> Measured:
    """Corpus chrF of sacrebleu, from 0 to 100 (Popović, 2015: https://aclanthology.org/W15-3049)."""
    from sacrebleu import corpus_chrf

    return {"chrf": corpus_chrf(list(written), [list(right)]).score}


def rouge(written: Sequence[str], right: Sequence[str]) -> Measured:
    """Mean F1 of ROUGE-1, -2 and -L with stems, from 0 to 100 (Lin, 2004: https://aclanthology.org/W04-1013)."""
    from rouge_score.rouge_scorer import RougeScorer

    kinds = ["rouge1", "rouge2", "rougeL"]
    scorer = RougeScorer(kinds, use_stemmer=True)
    rows = [scorer.score(one, other) for one, other in zip(right, written, strict=True)]
    return {kind: 100 * fmean(row[kind].fmeasure for row in rows) for kind in kinds}


def exact_match(written: Sequence[str], right: Sequence[str]) -> Measured:
    """The share of texts that are the right ones, from 0 to 100; space around them does not count."""
    return {
        "exact_match": 100
        * fmean(one.strip() == other.strip() for one, other in zip(written, right, strict=True))
    }


METRICS: dict[str, Callable[[Sequence[str], Sequence[str]], Measured]] = {
    "bleu": bleu,
    "chrf": chrf,
    "exact_match": exact_match,
    "rouge": rouge,
}


class TextMetrics(Callback):
    """Has held-out texts written after each validation, and logs how near they are to the right ones.

    Every process writes all of them.

    Args:
        metrics: `bleu`, `chrf` and `rouge`, of the extra `text-metrics`, and `exact_match`.
        max_texts: How many are written, the first of the held-out ones; None: all.
        max_new_tokens: Length of a text; by default 64, or what the model's length leaves.
        num_beams: Of the search; 1 is greedy.

    Raises:
        SpecError: A metric is unknown, or the extra is missing.
    """

    def __init__(
        self,
        metrics: Sequence[Metric] = ("bleu", "chrf"),
        max_texts: int | None = 200,
        max_new_tokens: int | None = None,
        num_beams: int = 1,
    ) -> None:
        require_least("max_texts", 1 if max_texts is None else max_texts, 1)
        require_least("max_new_tokens", max_new_tokens or 1, 1)
        require_least("num_beams", num_beams, 1)
        for name in metrics:
            _require(name)
        self.metrics, self.max_texts = list(metrics), max_texts
        self.max_new_tokens, self.num_beams = max_new_tokens, num_beams

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Writes and logs, where the model writes and the data says what is right."""
        if trainer.sanity_checking or not isinstance(pl_module, GeneratingModule):
            return
        parts: dict[str, ZooData] = getattr(trainer.datamodule, "parts", {})  # type: ignore[attr-defined]
        for part in parts.values():
            name = pl_module.head_name(part.head)
            questions = self.questions(part)[: self.max_texts] if pl_module.head(name).generates else []
            if questions:
                for metric, value in self.measured(pl_module, questions, name).items():
                    pl_module.log(f"val/{pl_module.prefix(name)}{metric}", value, rank_zero_only=False)

    def questions(self, data: ZooData) -> Sequence[tuple[Any, str]]:
        """What is written about, and what is right."""
        return data.questions()

    def measured(self, module: GeneratingModule, questions: Sequence[tuple[Any, str]], head: str) -> Measured:
        """The measures of what a model writes."""
        texts, right = zip(*questions, strict=True)
        written = module.generate(
            list(texts), max_new_tokens=self.max_new_tokens, num_beams=self.num_beams, head=head
        )
        return {
            name: value for metric in self.metrics for name, value in METRICS[metric](written, right).items()
        }


def _require(metric: str) -> None:
    if metric not in METRICS:
        raise SpecError(f"unknown metric `{metric}`", at="metrics", hint=did_you_mean(metric, METRICS))
    try:
        METRICS[metric](["a b c d"], ["a b c d"])
    except ImportError as error:
        raise SpecError(
            f"the metric `{metric}` needs the extra `{EXTRA}`",
            at="metrics",
            hint=f"pip install 'lightning-zoo[{EXTRA}]'",
        ) from error

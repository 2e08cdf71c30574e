"""BLEU, chrF and ROUGE of what a model writes in validation."""

import builtins
import json
from pathlib import Path
from typing import Any

import lightning as L
import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu import corpus_bleu, corpus_chrf

import zoo
from zoo.callbacks import TextMetrics
from zoo.data import TextPairs
from zoo.errors import SpecError


def test_what_is_written_in_validation_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"input": f"a cat {n}", "target": f"eine katze und ein hund {n}"} for n in range(30)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    sizes = {**zoo.encoder_decoders.Transformer.tiny, "vocab_size": 300, "pad_token_id": 0}
    module = zoo.modules.EncoderDecoderModule(zoo.encoder_decoders.Transformer(**sizes))
    source = str(tmp_path / "rows.jsonl")
    data = TextPairs(source, validation_fraction=0.3, vocab_size=290, max_length=24, batch_size=4)
    asked: list[str] = []

    def generate(self: Any, texts: list[str], **choices: Any) -> list[str]:
        asked.extend(texts)
        assert choices == {"max_new_tokens": 8, "num_beams": 2, "head": "head"}
        return [f"eine katze oder ein hund {text.split()[-1]}" for text in texts]

    monkeypatch.setattr(type(module), "generate", generate)
    callback = TextMetrics(["bleu", "chrf", "rouge"], max_texts=5, max_new_tokens=8, num_beams=2)
    trainer = L.Trainer(
        max_epochs=1, accelerator="cpu", callbacks=[callback], logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    questions = data.questions()[:5]
    assert asked == [text for text, _ in questions]
    right = [answer for _, answer in questions]
    written = [answer.replace(" und ", " oder ") for answer in right]
    scorer = RougeScorer(["rouge1", "rougeL"], use_stemmer=True)
    found = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert found["val/bleu"] == pytest.approx(corpus_bleu(written, [right]).score)
    assert found["val/chrf"] == pytest.approx(corpus_chrf(written, [right]).score)
    for kind in ("rouge1", "rougeL"):
        each = [scorer.score(a, b)[kind].fmeasure for a, b in zip(right, written, strict=True)]
        assert found[f"val/{kind}"] == pytest.approx(100 * sum(each) / len(each))
    assert 0 < found["val/rouge2"] < 100


def test_an_unknown_metric_is_refused() -> None:
    with pytest.raises(SpecError) as caught:
        TextMetrics(["blue"])  # type: ignore[list-item]
    assert str(caught.value) == "unknown metric `blue`\n  at    metrics\n  did you mean `bleu`?"


def test_without_its_extra_a_metric_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *more: Any) -> Any:
        if name.startswith("sacrebleu"):
            raise ModuleNotFoundError(name)
        return real(name, *more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(SpecError) as caught:
        TextMetrics(["chrf"])
    assert str(caught.value) == (
        "the metric `chrf` needs the extra `text-metrics`\n  at    metrics\n"
        "  pip install 'lightning-zoo[text-metrics]'"
    )

"""Training by the zoo's recipes beside transformers' Trainer, on real text, task by task.

Both train the same model from the same weights with the same optimizer, clipping and precision; the runs take
turns in one process and figures are medians over the turns, data loading and each Trainer's own work
included. The peer is measured as its own examples run it, and at its best (bfloat16 where that is faster,
batches by length where they help). In classification, both then start anew, take equally many steps and are
asked about phrases they never saw. The last line is JSON; a ratio above 1 says that the zoo is faster.

    python benchmarks/train.py [--turns 5] [--steps 20] [--learning 600] [--only TASK …] [--data FOLDER]

The data are public sets as jsonl.gz: sst2 (`text`, `label`), dialogsum (`dialogue`); the words are BERT's.
"""

import argparse
import functools
import gzip
import json
import logging
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
import transformers
from lightning.pytorch.callbacks import Callback

import zoo
from zoo.cli import defaults
from zoo.data.base import ZooData
from zoo.heads.base import Batch
from zoo.modules.base import ZooModule
from zoo.tokenizer import Tokenizer

SHARED = Path(__file__).resolve().parents[2] / "shared"
FUSED_ADAMW = functools.partial(torch.optim.AdamW, lr=1e-4, fused=True)


@dataclass(frozen=True)
class Task:
    """What both sides train."""

    ours: Callable[[Path], tuple[ZooModule, ZooData]]
    """The module and its data, from the folder of data sets."""
    architecture: str
    """The peer's class."""
    theirs: Callable[[ZooData, Any], tuple[Sequence[Any], Any]]
    """The peer's examples and how it makes a batch of some, from our data and its tokenizer."""
    unit: str
    """What is counted a second."""
    count: Callable[[Batch], int]
    """How many of these a batch of either side holds."""
    precision: str
    """The peer's."""
    goal: float
    options: dict[str, Any]
    """What the peer is told besides."""
    learns: bool = False
    """Whether both are also asked what they have learnt from equally many examples."""


def examples(batch: Batch) -> int:
    """Rows that carry a label."""
    return len(batch["labels"])


def real_tokens(batch: Batch) -> int:
    """Tokens that are no padding."""
    mask = batch.get("attention_mask")
    return int(batch["input_ids"].numel() if mask is None else (mask > 0).sum())


# Our side


def bert_vocabulary(data: Path) -> Tokenizer:
    """BERT's uncased WordPiece, 30,522 ids."""
    found = Tokenizer.from_folder(data.parent / "checkpoints" / "tokenizers" / "bert-uncased")
    assert found is not None
    return found


def encoder(data: Path, head: Any, **sizes: int) -> ZooModule:
    """A BERT under one head."""
    module = zoo.modules.EncoderModule(
        zoo.encoders.Bert(**sizes), head, optimizer=FUSED_ADAMW, lr_schedule=zoo.schedules.Constant()
    )
    module.tokenizer = bert_vocabulary(data)
    return module


PRECISION = "bf16-mixed"
"""The zoo's, in every task; whether the peer takes it, too, is the task's own."""
SMALL = {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 4, "num_attention_heads": 4}
BASE: dict[str, int] = {}


def classifying(data: Path) -> tuple[ZooModule, ZooData]:
    """Sentiment of phrases, at their real lengths."""
    module = encoder(data, zoo.heads.SequenceClassification(labels=["0", "1"]), **SMALL)
    source = str(data / "sst2" / "train.jsonl.gz")
    return module, zoo.data.TextClassification(
        source=source, validation=source, max_length=128, batch_size=32
    )


def masked(sizes: dict[str, int], batch_size: int, data: Path) -> tuple[ZooModule, ZooData]:
    """Hidden words of dialogues, in rows of 128 tokens."""
    module = encoder(data, zoo.heads.MaskedLM(), **sizes)
    source = str(data / "dialogsum" / "dev.jsonl.gz")
    texts = zoo.data.Text(source=source, text="dialogue", sequence_length=128, batch_size=batch_size)
    return module, texts


def causal(packing: bool, data: Path) -> tuple[ZooModule, ZooData]:
    """Dialogues for a decoder: packed whole, or joined and cut into rows of 256 tokens."""
    length = 512 if packing else 256
    spec = zoo.decoders.Llama(
        vocab_size=4096, hidden_size=256, intermediate_size=704, num_hidden_layers=4, num_attention_heads=4,
        max_position_embeddings=length, tie_word_embeddings=True,
    )  # fmt: skip
    module = zoo.modules.DecoderModule(spec, optimizer=FUSED_ADAMW, lr_schedule=zoo.schedules.Constant())
    texts = zoo.data.Text(
        source=str(data / "dialogsum" / "dev.jsonl.gz"), text="dialogue", vocab_size=4096,
        sequence_length=length, batch_size=4 if packing else 8, packing=packing,
    )  # fmt: skip
    return module, texts


# The peer's side


def phrases(data: ZooData, tokenizer: Any) -> tuple[Sequence[Any], Any]:
    """As run_glue does: tokenised once, padded batch by batch."""
    training, _ = data.examples()  # type: ignore[attr-defined]
    ids = tokenizer([example.text for example in training], truncation=True, max_length=128)
    rows = [
        {**{name: values[row] for name, values in ids.items()}, "labels": int(example.label)}
        for row, example in enumerate(training)
    ]
    lengths = [len(row["input_ids"]) for row in rows]
    return Rows(rows, lengths), transformers.DataCollatorWithPadding(tokenizer)


def hidden_words(data: ZooData, tokenizer: Any) -> tuple[Sequence[Any], Any]:
    """As run_mlm does: rows of equal length, words hidden batch by batch."""
    rows = [{"input_ids": row["input_ids"].tolist()} for row in data.training_rows]  # type: ignore[attr-defined]
    return rows, transformers.DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)


def continuations(data: ZooData, tokenizer: Any) -> tuple[Sequence[Any], Any]:
    """Documents, padded batch by batch, or rows of equal length, as run_clm makes them."""
    rows = [{"input_ids": row["input_ids"].tolist()} for row in data.training_rows]  # type: ignore[attr-defined]
    return rows, transformers.DataCollatorForLanguageModeling(tokenizer, mlm=False)


class Rows(list[Any]):
    """Examples whose lengths the peer's sampler may ask for."""

    def __init__(self, rows: list[Any], lengths: list[int]) -> None:
        super().__init__(rows)
        self.column_names, self._lengths = ["length"], lengths

    def __getitem__(self, index: Any) -> Any:
        return self._lengths if index == "length" else super().__getitem__(index)


MLM = (hidden_words, "tokens", real_tokens)
TASKS = {
    "classification": Task(
        classifying, "BertForSequenceClassification", phrases, "examples", examples, "32-true", 2.0, {}
    ),
    "classification, by length": Task(
        classifying, "BertForSequenceClassification", phrases, "examples", examples, "bf16-mixed", 1.2,
        {"train_sampling_strategy": "group_by_length"}, learns=True,
    ),
    "masked LM, 4 × 256": Task(
        functools.partial(masked, SMALL, 16), "BertForMaskedLM", *MLM, "bf16-mixed", 2.0, {}
    ),
    "masked LM, BERT-base": Task(
        functools.partial(masked, BASE, 8), "BertForMaskedLM", *MLM, "bf16-mixed", 1.15, {}
    ),
    "causal LM, documents": Task(
        functools.partial(causal, True), "LlamaForCausalLM", continuations, "real tokens", real_tokens,
        "bf16-mixed", 1.5, {},
    ),
    "causal LM, rows": Task(
        functools.partial(causal, False), "LlamaForCausalLM", continuations, "tokens", real_tokens,
        "bf16-mixed", 1.1, {},
    ),
}  # fmt: skip


# Taking turns


class Clock(Callback):
    """Seconds and units of all steps of a run but the first."""

    def __init__(self, count: Callable[[Batch], int]) -> None:
        self.count, self.units, self.seconds, self._started = count, 0, 0.0, 0.0

    def on_train_batch_end(
        self, trainer: L.Trainer, module: Any, outputs: Any, batch: Batch, index: int
    ) -> None:
        """Starts after the first step."""
        now = time.perf_counter()
        if index == 0:
            self._started = now
        else:
            self.seconds = now - self._started
            self.units += self.count(batch)


def our_rate(module: ZooModule, data: ZooData, task: Task, steps: int, folder: Path) -> float:
    """Units a second of a run with the zoo's own defaults."""
    clock = Clock(task.count)
    settings = defaults.trainer_defaults("benchmark")
    settings["logger"] = L.pytorch.loggers.TensorBoardLogger(folder)
    settings["callbacks"] = [*settings["callbacks"], clock]
    trainer = L.Trainer(
        **settings, accelerator="cpu", devices=1, precision=PRECISION, gradient_clip_val=1.0,
        max_steps=steps + 1, limit_val_batches=0,
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    return clock.units / clock.seconds


class PeerClock(transformers.TrainerCallback):
    """The same of the peer."""

    def __init__(self) -> None:
        self.steps: list[float] = []

    def on_step_end(self, *arguments: Any, **keywords: Any) -> None:
        """Keeps the time."""
        self.steps.append(time.perf_counter())


def their_rate(
    model: Any, rows: Sequence[Any], collate: Any, task: Task, steps: int, size: int, folder: Path
) -> float:
    """Units a second of a run of transformers' Trainer."""
    counted: list[int] = []

    def counting(items: list[Any]) -> Any:
        batch = collate(items)
        counted.append(task.count(batch))
        return batch

    arguments = transformers.TrainingArguments(
        output_dir=str(folder), max_steps=steps + 1, per_device_train_batch_size=size, use_cpu=True,
        bf16=task.precision == "bf16-mixed", learning_rate=1e-4, lr_scheduler_type="constant",
        report_to=["tensorboard"], save_strategy="no", disable_tqdm=False, **task.options,
    )  # fmt: skip
    clock = PeerClock()
    trainer = transformers.Trainer(
        model=model, args=arguments, train_dataset=rows, data_collator=counting, callbacks=[clock]
    )
    trainer.train()
    return sum(counted[1 : len(clock.steps)]) / (clock.steps[-1] - clock.steps[0])


def accuracies(
    task: Task, data_folder: Path, tokenizer: Any, rows: Any, collate: Any, steps: int, folder: Path
) -> dict[str, float]:
    """The share of held-out phrases that either side tells right, from one start, after as many examples."""
    module, data = task.ours(data_folder)
    torch.manual_seed(0)
    module.build()
    zoo.save(module, folder / "start")
    model = peer(task, folder / "start")
    our_rate(module, data, task, steps, folder)
    their_rate(model, rows, collate, task, steps, data.batch_size, folder)
    with gzip.open(data_folder / "sst2" / "dev.jsonl.gz", "rt") as lines:
        held_out = [json.loads(line) for line in lines]
    texts, right = [row["text"] for row in held_out], [str(row["label"]) for row in held_out]
    return {
        "zoo": share([prediction["label"] for prediction in module.predict(texts)], right),
        "transformers": share(told(model.eval(), tokenizer, texts), right),
    }


def told(model: Any, tokenizer: Any, texts: list[str]) -> list[str]:
    """The peer's predictions."""
    found: list[str] = []
    with torch.inference_mode():
        for start in range(0, len(texts), 32):
            batch = tokenizer(texts[start : start + 32], padding=True, return_tensors="pt")
            found += map(str, model(**batch).logits.argmax(-1).tolist())
    return found


def share(told: Sequence[str], right: Sequence[str]) -> float:
    """Of answers that are right."""
    return sum(one == other for one, other in zip(told, right, strict=True)) / len(right)


def peer(task: Task, folder: Path) -> Any:
    """The same model there."""
    kind = getattr(transformers, task.architecture)
    return kind.from_pretrained(folder, attn_implementation="sdpa")


def compare(
    name: str, task: Task, data_folder: Path, turns: int, steps: int, learning: int
) -> dict[str, Any]:
    """Both sides of one task, turn by turn."""
    module, data = task.ours(data_folder)
    torch.manual_seed(0)
    module.build()
    data.trainer = L.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    data.trainer.strategy.connect(module)
    data.setup("fit")
    rates: dict[str, list[float]] = {"zoo": [], "transformers": []}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        zoo.save(module, folder / "model")
        tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(folder / "model")
        tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
        model = peer(task, folder / "model")
        rows, collate = task.theirs(data, tokenizer)
        for turn in range(turns):
            rates["zoo"].append(our_rate(module, data, task, steps, folder))
            rates["transformers"].append(
                their_rate(model, rows, collate, task, steps, data.batch_size, folder)
            )
            print(f"{name}: turn {turn + 1} of {turns}", end="\r", flush=True)
        told_right = (
            accuracies(task, data_folder, tokenizer, rows, collate, learning, folder)
            if task.learns and learning
            else None
        )
    ours, theirs = (statistics.median(found) for found in rates.values())
    ratio = statistics.median(one / other for one, other in zip(*rates.values(), strict=True))
    print(
        f"{name}: zoo {ours:,.0f} {task.unit} a second, transformers {theirs:,.0f}, "
        f"ratio {ratio:.2f} (aim {task.goal})"
    )
    if told_right:
        print(
            f"  after {learning} steps: "
            + ", ".join(f"{side} {x:.1%} right" for side, x in told_right.items())
        )
    return {
        "zoo": round(ours, 1),
        "transformers": round(theirs, 1),
        "ratio": round(ratio, 3),
        "unit": task.unit,
        **({"accuracy": told_right} if told_right else {}),
    }


def quiet() -> None:
    """Leaves the figures alone on the screen."""
    defaults.quiet()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def main() -> None:
    """Runs the tasks and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20, help="of each turn, after one that is not counted")
    parser.add_argument(
        "--learning", type=int, help="steps before accuracy is asked; by default 30 turns' worth"
    )
    parser.add_argument("--only", nargs="*", choices=TASKS, default=list(TASKS))
    parser.add_argument("--data", type=Path, default=SHARED / "data")
    choices = parser.parse_args()
    if not choices.data.is_dir():
        raise SystemExit(f"no data in {choices.data}; name the folder with --data")
    quiet()
    learning = 30 * choices.steps if choices.learning is None else choices.learning
    found = {
        name: compare(name, TASKS[name], choices.data, choices.turns, max(choices.steps, 2), learning)
        for name in choices.only
    }
    figures = {
        "benchmark": Path(__file__).stem,
        "tasks": found,
        "ratio": min(figures["ratio"] for figures in found.values()),
        "turns": choices.turns,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()

"""What recipes learn on two cores, beside transformers from the same weights, on the same data.

Each recipe runs as `zoo fit` runs it, on files, in as many steps as two cores can bear, and with MiniLM's
weights where it takes a published model. transformers' Trainer then takes as many, with the recipe's batch
size, optimizer, warm-up, clipping and precision, its own tokenizer and order. Both start anew from the next
seed turn after turn. Vectors are not trained: both sides make them with MiniLM as it is. `--keep` adds a line
a turn to a file; of docs/learnt.jsonl `python docs/recipes.py` makes a column. The last line is JSON; `ratio`
is of the worst recipe, and above 1 where the zoo learnt more.

    python benchmarks/learn.py [--recipes NAME …] [--turns 3] [--seed 0] [--steps N] [--alone]

The data are public sets as jsonl.gz, a folder each; `--model` is all-MiniLM-L6-v2 in the Hub's format.
"""

import argparse
import csv
import datetime
import json
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import transformers
from lightning import seed_everything
from torchmetrics.functional import spearman_corrcoef
from train import SHARED, Rows, quiet

import zoo
from zoo.cli import training
from zoo.cli.training import ZooCLI

Curve = list[tuple[int, float]]
"""Steps, and the measure after them."""


class Run(ZooCLI):
    """Keeps what was trained or asked."""

    last: ClassVar["Run"]

    def after_fit(self) -> None:
        """Called by LightningCLI."""
        Run.last = self

    after_validate = after_fit

    def chosen(self, key: str) -> Any:
        """What the recipe and its flags say."""
        return self.config[self.subcommand][key]

    def limited(self, rows: Sequence[Any]) -> Sequence[Any]:
        """As many of the held-out rows as were asked about."""
        batches = self.trainer.limit_val_batches
        return rows[: batches * self.datamodule.batch_size] if isinstance(batches, int) else rows


Peer = Callable[[Run, Path, transformers.TrainingArguments], float]


@dataclass(frozen=True)
class Case:
    """How a recipe runs here."""

    source: str
    """The folder of its data."""
    measure: str
    """Of the held-out part, as the run logs it."""
    goal: float | None
    steps: int
    """0: the model is asked as it is."""
    flags: dict[str, Any]
    """What differs from the recipe."""
    peer: Peer | None
    looks: int = 1
    """How often the held-out part is asked."""
    more_is_better: bool = True


# The peer's side


def tokenized(data: Any, examples: Sequence[Any], tokenizer: Any) -> Rows:
    """As run_glue does: tokenised once, padded batch by batch."""
    columns = zip(*(data.texts(example) for example in examples), strict=True)
    ids = tokenizer(*map(list, columns), truncation=True, max_length=data.max_length)
    labels = data.collate(examples)["labels"].tolist()
    rows = [
        {**{name: values[row] for name, values in ids.items()}, "labels": label}
        for row, label in enumerate(labels)
    ]
    return Rows(rows, [len(row["input_ids"]) for row in rows])


def classifier(run: Run, model: Path, arguments: transformers.TrainingArguments) -> float:
    """Accuracy, or of a number Spearman's correlation, on the held-out part."""
    training_part, held_out = run.datamodule.examples()
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    # One label is a number for transformers, too.
    network = transformers.AutoModelForSequenceClassification.from_pretrained(
        model, num_labels=max(len(run.datamodule.labels), 1)
    )
    arguments.train_sampling_strategy = "group_by_length"
    trainer = transformers.Trainer(
        network, arguments, transformers.DataCollatorWithPadding(tokenizer),
        tokenized(run.datamodule, training_part, tokenizer),
    )  # fmt: skip
    trainer.train()
    told = trainer.predict(tokenized(run.datamodule, run.limited(held_out), tokenizer))
    if network.num_labels == 1:
        return float(spearman_corrcoef(torch.tensor(told.predictions[:, 0]), torch.tensor(told.label_ids)))
    return float((told.predictions.argmax(-1) == told.label_ids).mean())


def decoder(run: Run, model: Path, arguments: transformers.TrainingArguments) -> float:
    """Loss on the held-out rows of a new decoder of the same sizes."""
    with tempfile.TemporaryDirectory() as folder:
        zoo.save(run.model, folder)
        config = transformers.AutoConfig.from_pretrained(folder)
        network = transformers.AutoModelForCausalLM.from_config(config)
    rows, held_out = (
        [{"input_ids": row["input_ids"], "labels": row["input_ids"]} for row in part]
        for part in (run.datamodule.training_rows, run.datamodule.validation_rows)
    )
    trainer = transformers.Trainer(network, arguments, train_dataset=rows, eval_dataset=run.limited(held_out))
    trainer.train()
    return float(trainer.evaluate()["eval_loss"])


@torch.inference_mode()
def vectors(model: Path, texts: Sequence[str], max_length: int) -> np.ndarray:
    """Means of transformers' hidden states, of length one."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    network = transformers.AutoModel.from_pretrained(model).eval()
    order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
    found = np.zeros((len(texts), network.config.hidden_size), np.float32)
    for start in range(0, len(order), 32):
        numbers = order[start : start + 32]
        batch = tokenizer(
            [texts[number] for number in numbers], padding=True, truncation=True, max_length=max_length,
            return_tensors="pt",
        )  # fmt: skip
        real = batch["attention_mask"][..., None].float()
        mean = (network(**batch).last_hidden_state * real).sum(1) / real.sum(1)
        found[numbers] = torch.nn.functional.normalize(mean, dim=-1).numpy()
    return found


def similarity(run: Run, model: Path, arguments: transformers.TrainingArguments) -> float:
    """Spearman's correlation of cosines with the scores of the held-out pairs."""
    _, pairs = run.datamodule.examples()
    first, second = (
        vectors(model, [pair[side] for pair in pairs], run.datamodule.max_length) for side in (0, 1)
    )
    scores = torch.tensor([pair.score for pair in pairs])
    return float(spearman_corrcoef(torch.tensor((first * second).sum(1)), scores))


def search(run: Run, model: Path, arguments: transformers.TrainingArguments) -> float:
    """nDCG@10 of the held-out questions over the whole corpus."""
    asked, corpus = run.datamodule.asked, run.datamodule.corpus
    found = vectors(model, [*(one.question for one in asked), *corpus], run.datamodule.max_length)
    scores = found[: len(asked)] @ found[len(asked) :].T
    return statistics.fmean(
        ndcg_at_10(np.argsort(-row)[:10].tolist(), one.relevant)
        for row, one in zip(scores, asked, strict=True)
    )


def ndcg_at_10(ranked: Sequence[int], grades: dict[int, int]) -> float:
    """Of one question, as trec_eval counts it: grades, discounted by the logarithm of the place."""
    found = sum(grades.get(number, 0) / math.log2(place + 2) for place, number in enumerate(ranked[:10]))
    best = sorted(grades.values(), reverse=True)[:10]
    return found / sum(grade / math.log2(place + 2) for place, grade in enumerate(best))


# Cases

FAST = {"model.optimizer.init_args.fused": True}
LABELS = {**FAST, "data.validation": "dev", "data.max_length": 64}
CASES = {
    "finetune/bert-trec6": Case(
        "trec6", "accuracy", 0.95, 612, {**LABELS, "model.optimizer.init_args.lr": 1e-4}, classifier
    ),
    "finetune/bert-banking77": Case(
        "banking77", "accuracy", 0.90, 1248, {**LABELS, "model.optimizer.init_args.lr": 2e-4}, classifier
    ),
    "finetune/bert-sst2": Case(
        "sst2", "accuracy", 0.90, 1200, {**LABELS, "model.optimizer.init_args.lr": 1e-4}, classifier
    ),
    "finetune/bert-ag-news": Case(
        "ag_news", "accuracy", 0.91, 500,
        {**LABELS, "data.validation": "test", "model.optimizer.init_args.lr": 1e-4}, classifier,
    ),
    "finetune/bert-stsb": Case(
        "stsb", "spearman", 0.86, 900, {**LABELS, "model.optimizer.init_args.lr": 1e-4}, classifier
    ),
    "finetune/minilm-stsb": Case("stsb", "spearman", 0.86, 0, {"data.validation": "dev"}, similarity),
    "finetune/minilm-scifact": Case("scifact", "ndcg_at_10", 0.64, 0, {}, search),
    "pretrain/shakespeare-characters": Case(
        "tiny_shakespeare", "loss", 1.88, 2000, {}, decoder, more_is_better=False
    ),
    "pretrain/transformer-multi30k": Case("multi30k", "bleu", None, 1600, {}, None, looks=4),
}  # fmt: skip


SCHEDULES = {zoo.schedules.LinearWarmup: "linear", zoo.schedules.WarmupCosine: "cosine"}
"""What transformers calls them."""

# Taking turns


def ours(name: str, case: Case, seed: int, steps: int, choices: argparse.Namespace, folder: str) -> Curve:
    """The measure along a run of the recipe."""
    verb = "fit" if steps else "validate"
    flags = {
        "seed_everything": seed,
        "data.seed": seed,
        "data.source": choices.data / case.source,
        "trainer.logger": "lightning.pytorch.loggers.CSVLogger",
        "trainer.logger.save_dir": folder,
        "trainer.enable_progress_bar": False,
        "trainer.enable_checkpointing": False,
        "trainer.num_sanity_val_steps": 0,
        **case.flags,
    }
    if name.startswith("finetune/"):
        flags["model.backbone"] = choices.model
    if steps:
        flags |= {
            "trainer.max_steps": steps,
            "trainer.max_epochs": -1,
            "trainer.val_check_interval": max(steps // case.looks, 1),
            "trainer.check_val_every_n_epoch": "null",
        }
    if choices.steps is not None:
        flags["trainer.limit_val_batches"] = choices.steps
    named = [part for key, value in flags.items() for part in (f"--{key}", str(value))]
    training.run(verb, ["--config", name, "--config", "presets/cpu", *named], Run)
    if not steps:
        return [(0, float(Run.last.trainer.callback_metrics[f"val/{case.measure}"]))]
    with Path(Run.last.trainer.log_dir, "metrics.csv").open(encoding="utf-8") as lines:
        rows = [row for row in csv.DictReader(lines) if row[f"val/{case.measure}"]]
    return [(int(row["step"]) + 1, float(row[f"val/{case.measure}"])) for row in rows]


def theirs(case: Case, run: Run, seed: int, steps: int, model: Path, folder: str) -> float:
    """The peer's measure after as many steps of the same kind."""
    assert case.peer is not None
    optimizer, schedule = (
        run.chosen("model.init_args")[key].init_args for key in ("optimizer", "lr_schedule")
    )
    settings = run.chosen("trainer")
    betas = optimizer.get("betas") or (0.9, 0.999)
    arguments = transformers.TrainingArguments(
        output_dir=folder, max_steps=steps or 1, per_device_train_batch_size=run.datamodule.batch_size,
        per_device_eval_batch_size=run.datamodule.batch_size, learning_rate=optimizer.lr,
        weight_decay=optimizer.weight_decay, adam_beta1=betas[0], adam_beta2=betas[1],
        lr_scheduler_type=SCHEDULES[type(run.model.lr_schedule)], warmup_steps=schedule.warmup_fraction,
        max_grad_norm=settings.gradient_clip_val or 0.0, bf16=settings.precision == "bf16-mixed",
        use_cpu=True, seed=seed, report_to=[], save_strategy="no", disable_tqdm=True, logging_strategy="no",
        dataloader_pin_memory=False,
    )  # fmt: skip
    seed_everything(seed, verbose=False)
    return case.peer(run, model, arguments)


def turn(name: str, case: Case, seed: int, choices: argparse.Namespace) -> dict[str, Any]:
    """What both sides reach from one seed."""
    steps = case.steps and (case.steps if choices.steps is None else choices.steps)
    with tempfile.TemporaryDirectory() as folder:
        before = time.process_time()
        curve = ours(name, case, seed, steps, choices, folder)
        seconds = time.process_time() - before
        peer = None
        if case.peer is not None and not choices.alone:
            peer = theirs(case, Run.last, seed, steps, choices.model, folder)
    return {
        "recipe": name, "measure": case.measure, "seed": seed, "steps": steps, "zoo": round(curve[-1][1], 4),
        "transformers": None if peer is None else round(peer, 4), "cpu_seconds": round(seconds),
        "date": datetime.date.today().isoformat(),
        **({"curve": [(step, round(value, 2)) for step, value in curve]} if len(curve) > 1 else {}),
    }  # fmt: skip


def ratio(case: Case, turns: Sequence[dict[str, Any]]) -> float | None:
    """The zoo's mean beside the peer's, so that more is better."""
    if turns[0]["transformers"] is None:
        return None
    zoo_mean, peer_mean = (statistics.fmean(one[side] for one in turns) for side in ("zoo", "transformers"))
    return zoo_mean / peer_mean if case.more_is_better else peer_mean / zoo_mean


def possible(choices: argparse.Namespace) -> list[str]:
    """The chosen recipes but those whose weights are missing, and in a trial those that train nothing."""
    names = [name for name in choices.recipes if CASES[name].steps or choices.steps is None]
    if not (choices.model / "model.safetensors").is_file():
        print(f"no weights in {choices.model}: what starts from them is left out; name a folder with --model")
        names = [name for name in names if not name.startswith("finetune/")]
    return names


def main() -> None:
    """Runs the recipes and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipes", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--turns", type=int, default=3, help="of each recipe, each with the next seed")
    parser.add_argument("--seed", type=int, default=0, help="of the first turn")
    parser.add_argument(
        "--steps", type=int, help="in place of a case's own, and batches held out: for a trial"
    )
    parser.add_argument("--alone", action="store_true", help="without transformers")
    parser.add_argument("--keep", type=Path, help="adds a line for each turn to this file")
    parser.add_argument("--data", type=Path, default=SHARED / "data")
    parser.add_argument("--model", type=Path, default=SHARED / "checkpoints" / "all-MiniLM-L6-v2")
    choices = parser.parse_args()
    quiet()
    figures = {}
    for name in possible(choices):
        turns = []
        for seed in range(choices.seed, choices.seed + choices.turns):
            turns.append(turn(name, CASES[name], seed, choices))
            print(turns[-1], flush=True)
            if choices.keep:
                with choices.keep.open("a", encoding="utf-8") as lines:
                    print(json.dumps(turns[-1]), file=lines)
        figures[name] = {"goal": CASES[name].goal, "ratio": ratio(CASES[name], turns), "turns": turns}
    ratios = [figure["ratio"] for figure in figures.values() if figure["ratio"] is not None]
    summary = {
        "benchmark": Path(__file__).stem,
        "recipes": figures,
        "ratio": min(ratios, default=None),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()

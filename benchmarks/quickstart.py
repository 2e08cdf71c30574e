"""One training step of each quickstart recipe: by Trainer here, by a bare loop over transformers there.

Both take the recipe's batches, precision, clipping, optimizer and schedule, and take turns in one process, a
few steps each; figures are medians over the turns, data loading and Trainer's own work included. The decoder
and the encoder start from the same weights on both sides; of the encoder, batches of both heads come by
turns. Where the recipe packs pairs into rows, transformers, which cannot, takes as many a step, padded and
sorted by length. The encoder-decoder's peer is Marian: transformers has no other with the paper's arithmetic
(normed after each sum, no norm at the end, sinusoids, one matrix for everything). The last line is JSON; a
ratio above 1 says that the zoo is faster.

    python benchmarks/quickstart.py [--turns 12] [--steps 4]
"""

import argparse
import importlib
import json
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning as L
import torch
import transformers
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

import zoo
from zoo import registry
from zoo.cli import defaults, recipes
from zoo.heads.base import Batch
from zoo.training import optimization


class TakeTurns(Callback):
    """After every few steps of the Trainer, lets the peer take as many, and times both."""

    def __init__(self, peer: Callable[[], None], turns: int, steps: int) -> None:
        self.peer, self.turns, self.steps = peer, turns, steps
        self.milliseconds: dict[str, list[float]] = {"zoo": [], "transformers": []}
        self._clock = 0.0

    def on_train_batch_end(self, trainer: L.Trainer, *arguments: Any) -> None:
        """Counts the Trainer's time since its turn began, then hands over."""
        if trainer.global_step % self.steps:
            return
        self._stop("zoo")
        self._clock = time.perf_counter()
        for _ in range(self.steps):
            self.peer()
        self._stop("transformers")
        self._clock = time.perf_counter()
        done = len(self.milliseconds["zoo"])
        print(f"turn {done} of {self.turns + 1}", end="\r" if done <= self.turns else "\n", flush=True)

    def _stop(self, name: str) -> None:
        self.milliseconds[name].append(1e3 * (time.perf_counter() - self._clock) / self.steps)

    def median(self, name: str) -> float:
        """Milliseconds a step, the first turn left out."""
        return statistics.median(self.milliseconds[name][1:])


class LlamaPeer(nn.Module):
    """The decoder's."""

    def __init__(self, module: Any, folder: Path) -> None:
        super().__init__()
        zoo.save(module, folder)
        self.model = transformers.LlamaForCausalLM.from_pretrained(folder, attn_implementation="sdpa")

    def forward(self, batch: Batch) -> Tensor:
        """The loss."""
        return self.model(input_ids=batch["input_ids"], labels=batch["labels"], use_cache=False).loss


class BertPeer(nn.Module):
    """The encoder's: one backbone under both heads."""

    def __init__(self, module: Any, folder: Path) -> None:
        super().__init__()
        masked, classes = list(module.head_specs)
        for head in (masked, classes):
            zoo.save(module, folder / head, head=head)
        choices = {"attn_implementation": "sdpa"}
        lm = transformers.BertForMaskedLM.from_pretrained(folder / masked, **choices)
        classifier = transformers.BertForSequenceClassification.from_pretrained(folder / classes, **choices)
        classifier.bert.embeddings, classifier.bert.encoder = lm.bert.embeddings, lm.bert.encoder
        self.models = nn.ModuleDict({masked: lm, classes: classifier})

    def forward(self, batch: Batch) -> Tensor:
        """The loss under the head that the batch names."""
        inputs = {name: value for name, value in batch.items() if isinstance(value, Tensor)}
        inputs.pop("num_bytes", None)
        return self.models[batch["head"]](**inputs).loss


class MarianPeer(nn.Module):
    """The encoder-decoder's, of the same sizes; its weights are its own."""

    def __init__(self, module: Any, folder: Path) -> None:
        super().__init__()
        spec = module.spec
        layers = spec.num_decoder_layers or spec.num_hidden_layers
        config = transformers.MarianConfig(
            vocab_size=spec.vocab_size,
            d_model=spec.hidden_size,
            encoder_layers=spec.num_hidden_layers,
            decoder_layers=layers,
            encoder_attention_heads=spec.num_attention_heads,
            decoder_attention_heads=spec.num_attention_heads,
            encoder_ffn_dim=spec.intermediate_size,
            decoder_ffn_dim=spec.intermediate_size,
            activation_function=spec.hidden_act,
            max_position_embeddings=spec.max_position_embeddings,
            dropout=spec.dropout,
            attention_dropout=spec.attention_dropout,
            activation_dropout=spec.activation_dropout,
            scale_embedding=True,
            pad_token_id=spec.pad_token_id,
            eos_token_id=spec.pad_token_id,
            decoder_start_token_id=module.start_id,
            attn_implementation="sdpa",
        )
        self.model = transformers.MarianMTModel(config)

    def forward(self, batch: Batch) -> Tensor:
        """The loss."""
        return self.model(**batch, use_cache=False).loss


PEERS = {
    "quickstart/decoder": LlamaPeer,
    "quickstart/encoder": BertPeer,
    "quickstart/encoder-decoder": MarianPeer,
}


def trained(parameters: nn.Module) -> int:
    """How many numbers are trained."""
    return sum(parameter.numel() for parameter in parameters.parameters() if parameter.requires_grad)


def bare_loop(
    peer: nn.Module, batches: Iterator[Batch], optimizer: Any, schedule: Any, settings: dict[str, Any]
) -> Callable[[], None]:
    """One training step as a careful user of transformers writes it."""
    is_mixed = settings.get("precision") == "bf16-mixed"

    def step() -> None:
        batch = next(batches)
        with torch.autocast("cpu", torch.bfloat16, enabled=is_mixed):
            loss = peer(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(peer.parameters(), settings["gradient_clip_val"])
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()

    return step


def endless(data: Any) -> Iterator[Batch]:
    """Batches, over and over."""
    while True:
        yield from data.train_dataloader()


def unpacked(recipe: dict[str, Any], data: Any) -> Any:
    """The data of a recipe that packs, as many examples a batch, each in a row of its own."""
    data.setup("fit")
    num_examples = len(data.examples()[0]) / len(data.train_dataloader())
    arguments = {**recipe["init_args"], "row_tokens": None, "batch_size": round(num_examples)}
    padded = made({**recipe, "init_args": arguments})
    padded.setup("fit")
    return padded


def made(value: Any) -> Any:
    """What a recipe names, with all that it names in turn."""
    if not isinstance(value, dict):
        return value
    if "class_path" not in value:
        return {name: made(part) for name, part in value.items()}
    module, _, name = value["class_path"].rpartition(".")
    return getattr(importlib.import_module(module), name)(**made(value.get("init_args", {})))


def compare(recipe: str, num_turns: int, num_steps: int) -> dict[str, float]:
    """Milliseconds a step on either side."""
    values = recipes.read(registry.recipe_path(recipe)).values
    place, _, name = values["model"]["class_path"].rpartition(".")
    # The module takes specs and the optimizer as they stand in the recipe.
    module = getattr(importlib.import_module(place), name)(**values["model"]["init_args"])
    data, settings = made(values["data"]), values["trainer"]
    data.steps = None  # of several parts, batches by turns
    data.require_fit(module)
    torch.manual_seed(0)
    module.build()
    length = (num_turns + 1) * num_steps
    with tempfile.TemporaryDirectory() as folder:
        peer = PEERS[recipe](module, Path(folder)).train()
        assert trained(peer) == trained(module), (trained(peer), trained(module))
        optimizer = module.optimizer(optimization.parameter_groups(peer))
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: module.lr_schedule.factor((step + 1) / length)
        )
        theirs = unpacked(values["data"], data) if values["data"]["init_args"].get("row_tokens") else data
        turns = TakeTurns(
            bare_loop(peer, endless(theirs), optimizer, schedule, settings), num_turns, num_steps
        )
        run = defaults.trainer_defaults("benchmark")
        run["logger"] = L.pytorch.loggers.TensorBoardLogger(folder)
        run["callbacks"] = [*run["callbacks"], turns]
        trainer = L.Trainer(
            **run,
            accelerator="cpu",
            devices=1,
            precision=settings.get("precision"),
            gradient_clip_val=settings["gradient_clip_val"],
            max_steps=length,
            limit_val_batches=0,
        )
        trainer.fit(module, datamodule=data)
    return {side: turns.median(side) for side in ("zoo", "transformers")}


def main() -> None:
    """Runs all three and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=12)
    parser.add_argument("--steps", type=int, default=4, help="of each turn")
    parser.add_argument("--recipes", nargs="+", choices=PEERS, default=list(PEERS))
    choices = parser.parse_args()
    defaults.quiet()
    warnings.filterwarnings("ignore", ".*limit_val_batches.*")
    figures = {}
    for recipe in choices.recipes:
        took = compare(recipe, choices.turns, choices.steps)
        ours, theirs = took["zoo"], took["transformers"]
        print(f"{recipe}: zoo {ours:.1f} ms a step, transformers {theirs:.1f} ms a step")
        figures[recipe] = {
            "zoo_ms": round(ours, 1),
            "transformers_ms": round(theirs, 1),
            "ratio": round(theirs / ours, 3),
        }
    summary = {
        "benchmark": Path(__file__).stem,
        "recipes": figures,
        "ratio": min(figure["ratio"] for figure in figures.values()),
        "turns": choices.turns,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
